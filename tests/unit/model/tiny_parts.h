/// Scales, biases, prefixes and bottlenecks at every place of a model, with random values.
#pragma once

#include <algorithm>
#include <vector>

#include "core/base/rng.h"
#include "core/model/engine.h"
#include "core/model/model.h"

namespace covey::model::tiny {

inline const std::vector<PartKind> kKinds = {PartKind::scale_in, PartKind::scale_out,  PartKind::bias,
                                             PartKind::prefix,   PartKind::bottleneck, PartKind::block_bottleneck};

inline bool into_residual(SiteRole role) {
  return role == SiteRole::attention_out || role == SiteRole::mlp_out;
}

/// At every place where the kind may stand; empty: the model has none.
inline std::vector<AdapterPart> parts_of(const Model& model, PartKind kind) {
  std::vector<AdapterPart> out;
  const auto add = [&](std::size_t index, int width, int count) {
    // A smooth f: differences must not meet a kink.
    out.push_back({kind, static_cast<int>(index), width, count, kernels::Activation::gelu});
  };
  const auto& sites = model.linear_sites();
  const auto places = [&](const std::vector<AdapterPlace>& of, int count) {
    for (std::size_t i = 0; i < of.size(); ++i) add(i, of[i].width, count);
  };
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const bool inside = sites[i].layer >= 0;
    if (kind == PartKind::scale_in && inside) add(i, sites[i].in, 0);
    if (kind == PartKind::scale_out && inside) add(i, sites[i].out, 0);
    if (kind == PartKind::bottleneck && into_residual(sites[i].role)) add(i, sites[i].out, 3);
  }
  if (kind == PartKind::bias) places(model.biases(), 0);
  if (kind == PartKind::prefix) places(model.attentions(), 2);
  if (kind == PartKind::block_bottleneck) places(model.blocks(), 3);
  return out;
}

struct Parts {
  AdapterSpec spec;
  std::vector<std::vector<float>> values;

  template <typename Float>
  [[nodiscard]] BasicAdapterView<Float> view_of(auto& storage) const {
    BasicAdapterView<Float> view;
    for (auto& part : storage) view.parts.push_back(part);
    return view;
  }
  [[nodiscard]] AdapterView view() const { return view_of<const float>(values); }
  [[nodiscard]] AdapterGradView gradient_view() { return view_of<float>(values); }
  [[nodiscard]] Parts zeros() const {
    Parts out = *this;
    for (auto& part : out.values) std::fill(part.begin(), part.end(), 0.0F);
    return out;
  }
};

/// Random values: scales around 1, all others around 0.
inline Parts random_parts(const Model& model, PartKind kind, std::uint64_t seed, float size = 0.3F) {
  Parts out;
  out.spec.parts = parts_of(model, kind);
  const float middle = kind == PartKind::scale_in || kind == PartKind::scale_out ? 1.0F : 0.0F;
  for (std::size_t i = 0; i < out.spec.parts.size(); ++i) {
    std::vector<float> values(static_cast<std::size_t>(out.spec.parts[i].size()));
    CounterRng(seed, i).fill_normal(values);
    for (float& value : values) value = middle + size * value;
    out.values.push_back(std::move(values));
  }
  return out;
}

}  // namespace covey::model::tiny

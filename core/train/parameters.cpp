#include "core/train/parameters.h"

#include <string>
#include <utility>

#include "core/base/assert.h"
#include "core/train/flat_view.h"

namespace covey::train {

namespace {

/// The parts of `values` that train, neighbours together.
std::vector<Piece> pieces_of(const model::AdapterSpec& spec, const std::vector<model::LinearSite>& sites,
                             std::span<float> values) {
  std::vector<Piece> out;
  std::int64_t at = 0;
  const auto next = [&](std::int64_t size, bool trains) {
    const auto part = values.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(size));
    if (trains && !out.empty() && out.back().offset + static_cast<std::int64_t>(out.back().values.size()) == at) {
      out.back().values = {out.back().values.data(), out.back().values.size() + part.size()};
    } else if (trains && size > 0) {
      out.push_back({.offset = at, .values = part, .decay = true});
    }
    at += size;
  };
  for (const auto& lora : spec.lora) {
    const auto& site = sites[static_cast<std::size_t>(lora.site)];
    next(std::int64_t{lora.rank} * site.in, lora.train_a);
    next(std::int64_t{lora.rank} * site.out, lora.train_b);
  }
  next(static_cast<std::int64_t>(values.size()) - at, true);  // whatever else there is
  return out;
}

}  // namespace

Result<Parameters> Parameters::of_adapter(const model::Model& model, const model::AdapterSpec& spec,
                                          std::vector<float> values) {
  const std::int64_t size = flat_size(spec, model.linear_sites(), model.config().embedding_width());
  if (size == 0 || static_cast<std::int64_t>(values.size()) != size) {
    return Error{ErrorCode::invalid_argument,
                 "training: the adapter has " + std::to_string(size) + " values, got " + std::to_string(values.size())};
  }
  Parameters out;
  out.model_ = &model;
  out.spec_ = spec;
  out.adapter_ = true;
  out.values_ = std::move(values);
  out.pieces_ = pieces_of(spec, model.linear_sites(), out.values_);
  out.size_ = size;
  if (out.pieces_.empty()) return Error{ErrorCode::invalid_argument, "training: every part of the adapter is frozen"};
  return out;
}

std::int64_t Parameters::trained_size() const {
  std::int64_t size = 0;
  for (const Piece& piece : pieces_) size += static_cast<std::int64_t>(piece.values.size());
  return size;
}

Parameters Parameters::of_model(model::Model& model, model::TensorChoice choice) {
  Parameters out;
  out.model_ = &model;
  out.choice_ = std::move(choice);
  const auto tensors = model.parameters();
  COVEY_ASSERT(out.choice_.empty() || out.choice_.size() == tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const auto& tensor = tensors[i];
    if (!out.choice_.empty() && out.choice_[i] == 0) continue;
    out.pieces_.push_back({.offset = out.size_, .values = tensor.values, .decay = tensor.shape.size() > 1});
    out.size_ += static_cast<std::int64_t>(tensor.values.size());
  }
  return out;
}

Result<model::LossResult> Parameters::loss(model::Engine& engine, const model::TokenBatch& batch) const {
  if (!adapter_) return engine.loss(batch, {}, {});
  return engine.loss(batch, spec_,
                     flat_view(spec_, model_->linear_sites(), model_->config().embedding_width(), values_));
}

Result<model::LossResult> Parameters::add_gradient(model::Engine& engine, const model::TokenBatch& batch,
                                                   std::span<float> gradient, float grad_scale) const {
  if (!adapter_) return engine.full_gradient(batch, gradient, grad_scale, choice_);
  const auto& sites = model_->linear_sites();
  const int width = model_->config().embedding_width();
  return engine.gradient(batch, spec_, flat_view(spec_, sites, width, values_),
                         flat_grad_view(spec_, sites, width, gradient), grad_scale);
}

Result<model::JvpResult> Parameters::jvp(model::Engine& engine, const model::TokenBatch& batch,
                                         std::span<const float> direction) const {
  COVEY_ASSERT(adapter_);
  const auto& sites = model_->linear_sites();
  const int width = model_->config().embedding_width();
  return engine.jvp(batch, spec_, flat_view(spec_, sites, width, values_), flat_view(spec_, sites, width, direction));
}

}  // namespace covey::train

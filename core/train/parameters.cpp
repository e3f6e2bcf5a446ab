#include "core/train/parameters.h"

#include <string>
#include <utility>

#include "core/base/assert.h"
#include "core/train/flat_view.h"

namespace covey::train {

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
  out.pieces_ = {{.offset = 0, .values = out.values_, .decay = true}};
  out.size_ = size;
  return out;
}

Parameters Parameters::of_model(model::Model& model) {
  Parameters out;
  out.model_ = &model;
  for (const auto& tensor : model.parameters()) {
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
  if (!adapter_) return engine.full_gradient(batch, gradient, grad_scale);
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

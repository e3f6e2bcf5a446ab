/// The adapters that are neither LoRA nor soft prompts, where they meet the passes: checks, bottlenecks, prefixes.
/// Scales and biases are in linear.cpp and steps*.cpp, at the layers that they change. Internal to core/model.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/model/pass.h"
#include "core/model/steps.h"

namespace covey::model {

/// Whether the parts fit the model and each other. @errors invalid_argument.
[[nodiscard]] Status check_parts(const Model::Impl& model, std::span<const AdapterPart> parts);
/// @errors invalid_argument: not as many values as the spec's parts have.
template <typename Float>
[[nodiscard]] Status check_part_sizes(const AdapterSpec& spec, const std::vector<std::span<Float>>& values,
                                      const char* what) {
  bool fits = values.size() == spec.parts.size();
  for (std::size_t i = 0; fits && i < values.size(); ++i) {
    fits = static_cast<std::int64_t>(values[i].size()) == spec.parts[i].size();
  }
  if (fits) return {};
  return Error{ErrorCode::invalid_argument, std::string(what) + ": its values do not fit the parts of its spec"};
}
/// Fills the pass's indices from the spec that was set.
void index_parts(Pass& pass);
/// Adds up the biases in use, of the adapter that was set.
void use_parts(Pass& pass);
/// Floats that the passes take for parts beside the planned buffers, at the most.
std::uint64_t part_floats(const Model::Impl& model, const AdapterSpec& spec, const EngineOptions& options,
                          std::uint64_t N);

/// y (N, width) += U f(D x + d) + u; x may be y.
void bottleneck_forward(Pass& pass, int part, int N, const float* x, float* y);
/// `y`: before the bottleneck. dy (N, width) becomes the gradient of y; adds those of the values where wanted.
void bottleneck_backward(Pass& pass, int part, int N, const float* y, float* dy);
/// y as bottleneck_forward leaves it, and y_t its derivative along (y_t, pass.direction).
void bottleneck_jvp(Pass& pass, int part, int N, float* y, float* y_t);

/// The bottleneck behind a block, where the segment has one: on the segment's output, after all steps, or before all of
/// them going back.
void block_forward(const Work& work);
void block_backward(const Work& work);
void block_jvp(const Work& work);

/// One attention with the prefix's keys and values before those of every row.
void prefixed_attention_forward(const Work& work, const Step& step, int part);
/// @param args values as the backward pass has them; dk and dv are taken care of here.
void prefixed_attention_backward(const Work& work, const Step& step, int part, kernels::AttentionBackward args);
void prefixed_attention_jvp(const Work& work, const Step& step, int part);

}  // namespace covey::model

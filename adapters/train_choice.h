/// Which layers and tensors train (sparse backward): from the names in a configuration to flags of an adapter's spec,
/// or of a model's tensors.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "adapters/layout.h"
#include "core/base/result.h"
#include "core/model/engine.h"

namespace covey::adapters {

/// What trains lies in one of `layers` and matches one of `tensors`; an empty list leaves that open.
struct TrainChoice {
  std::vector<int> layers = {};  ///< block indices; an encoder-decoder's second stack counts on from the first
  /// Names as target_modules has them: "q_proj", "self_attn.q_proj"; for LoRA also "lora_A", "lora_B",
  /// "q_proj.lora_B"; for a model's own tensors also "q_proj.bias" and the like.
  std::vector<std::string> tensors = {};
  [[nodiscard]] bool all() const { return layers.empty() && tensors.empty(); }
};

/// Freezes the LoRA parts that are not chosen. Whatever else an adapter has trains as before.
/// @errors invalid_argument: a layer or a name that fits nothing in the adapter, or nothing is left.
[[nodiscard]] Status freeze_rest(model::AdapterSpec& spec, std::span<const model::LinearSite> sites,
                                 const TrainChoice& choice);
/// lora_layout() without the layers where nothing would train. @errors as both.
Result<AdapterLayout> chosen_lora_layout(std::span<const model::LinearSite> sites, const LoraOptions& options,
                                         const TrainChoice& choice, std::span<const model::HeadParameter> head = {});
/// A flag per tensor. @errors invalid_argument: a layer or a name that fits no tensor.
Result<model::TensorChoice> chosen_tensors(const model::Model& model, const TrainChoice& choice);

}  // namespace covey::adapters

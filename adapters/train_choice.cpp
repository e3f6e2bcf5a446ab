#include "adapters/train_choice.h"

#include <algorithm>
#include <utility>

namespace covey::adapters {
namespace {

/// Remembers which layers and names of a choice ever fitted, to name those that did not.
class Chooser {
 public:
  explicit Chooser(const TrainChoice& choice)
      : choice_(choice), layer_used_(choice.layers.size()), tensor_used_(choice.tensors.size()) {}

  /// `names`: what the tensor is called, its own name first.
  bool wants(int layer, std::initializer_list<std::string> names) {
    bool in_layer = choice_.layers.empty();
    for (std::size_t i = 0; i < choice_.layers.size(); ++i) {
      if (choice_.layers[i] != layer) continue;
      in_layer = layer_used_[i] = true;
    }
    bool named = choice_.tensors.empty();
    for (std::size_t i = 0; i < choice_.tensors.size(); ++i) {
      const auto fits = [&](const std::string& name) { return target_matches(choice_.tensors[i], name); };
      if (!std::any_of(names.begin(), names.end(), fits)) continue;
      named = tensor_used_[i] = true;
    }
    any_ = any_ || (in_layer && named);
    return in_layer && named;
  }

  [[nodiscard]] Status finish(const std::string& of) const {
    for (std::size_t i = 0; i < layer_used_.size(); ++i) {
      if (layer_used_[i]) continue;
      return Error{ErrorCode::invalid_argument,
                   "train_layers: layer " + std::to_string(choice_.layers[i]) + " is not one of " + of};
    }
    for (std::size_t i = 0; i < tensor_used_.size(); ++i) {
      if (tensor_used_[i]) continue;
      return Error{ErrorCode::invalid_argument,
                   "train_tensors: \"" + choice_.tensors[i] + "\" names no tensor of " + of};
    }
    if (any_) return {};
    return Error{ErrorCode::invalid_argument, "train_tensors: none of them is in train_layers; nothing would train"};
  }

 private:
  const TrainChoice& choice_;
  std::vector<bool> layer_used_, tensor_used_;
  bool any_ = false;
};

}  // namespace

Status freeze_rest(model::AdapterSpec& spec, std::span<const model::LinearSite> sites, const TrainChoice& choice) {
  if (choice.all()) return {};
  if (!spec.parts.empty() || spec.lora.empty()) {
    return Error{ErrorCode::invalid_argument,
                 "train_layers, train_tensors: choose among LoRA's layers; leave them out"};
  }
  Chooser chooser(choice);
  for (auto& lora : spec.lora) {
    const auto& site = sites[static_cast<std::size_t>(lora.site)];
    lora.train_a = chooser.wants(site.layer, {site.path + ".lora_A", site.path});
    lora.train_b = chooser.wants(site.layer, {site.path + ".lora_B", site.path});
  }
  return chooser.finish("the adapter's layers");
}

Result<AdapterLayout> chosen_lora_layout(std::span<const model::LinearSite> sites, const LoraOptions& options,
                                         const TrainChoice& choice, std::span<const model::HeadParameter> head) {
  COVEY_ASSIGN(AdapterLayout layout, lora_layout(sites, options, head));
  if (choice.all()) return layout;
  COVEY_ASSIGN(model::AdapterSpec spec, layout.bind(sites, head));
  COVEY_TRY(freeze_rest(spec, sites, choice));
  std::vector<LoraEntry> kept;
  for (std::size_t i = 0; i < spec.lora.size(); ++i) {
    if (spec.lora[i].trains()) kept.push_back(layout.lora[i]);
  }
  return AdapterLayout::of(std::move(kept), std::move(layout.head));
}

Result<model::TensorChoice> chosen_tensors(const model::Model& model, const TrainChoice& choice) {
  Chooser chooser(choice);
  model::TensorChoice out;
  for (const auto& tensor : model.tensors()) {
    const std::string module = tensor.name.substr(0, tensor.name.rfind('.'));
    out.push_back(chooser.wants(tensor.layer, {tensor.name, module}) ? 1 : 0);
  }
  COVEY_TRY(chooser.finish("the model's"));
  return out;
}

}  // namespace covey::adapters

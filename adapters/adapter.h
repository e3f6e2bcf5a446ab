/// An adapter in memory: its layout and its P values, bound to one model.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "adapters/adapter_options.h"
#include "adapters/layout.h"
#include "core/base/result.h"
#include "core/model/model.h"

namespace covey::adapters {

/// Values are the caller's to change between calls of the engine. view() points into this object: keep it alive and do
/// not move it while a view is in use.
class Adapter {
 public:
  /// Empty: nothing attached (a spec and a view without sites).
  Adapter() = default;
  /// @errors as AdapterLayout::bind; invalid_argument where `values` has not P elements.
  static Result<Adapter> create(const model::Model& model, AdapterLayout layout, std::vector<float> values);
  /// A fresh adapter of any kind, with first_values().
  static Result<Adapter> create_fresh(const model::Model& model, const AdapterOptions& options, std::uint64_t seed);
  /// A fresh LoRA adapter with initial_values(), and the model's own head where it is trained.
  static Result<Adapter> create_lora(const model::Model& model, const LoraOptions& options, std::uint64_t seed);

  [[nodiscard]] const AdapterLayout& layout() const { return layout_; }
  [[nodiscard]] const model::AdapterSpec& spec() const { return spec_; }
  [[nodiscard]] std::span<const float> values() const { return values_; }
  [[nodiscard]] std::span<float> values() { return values_; }
  [[nodiscard]] model::AdapterView view() const;
  [[nodiscard]] model::Task task() const { return task_; }  ///< the model's
  /// What files say of the model.
  struct Shape {
    int layers = 0, heads = 0, kv_heads = 0;
    bool two_stacks = false;
  };
  [[nodiscard]] const Shape& shape() const { return shape_; }
  /// PEFT's target_modules for these sites: leaf names where all layers of that name are adapted, else whole paths.
  [[nodiscard]] const std::vector<std::string>& target_modules() const { return target_modules_; }
  /// Those of them whose input is scaled: PEFT's feedforward_modules.
  [[nodiscard]] const std::vector<std::string>& feedforward_modules() const { return feedforward_modules_; }

 private:
  std::vector<std::string> target_modules_;
  std::vector<std::string> feedforward_modules_;
  Shape shape_;
  AdapterLayout layout_;
  model::AdapterSpec spec_;
  model::Task task_ = model::Task::causal_lm;
  std::vector<float> values_;
};

/// Writes a PEFT directory (adapter_config.json, adapter_model.safetensors, README.md). Values survive bit for bit.
/// @errors io_error.
Status save_peft(const std::string& directory, const Adapter& adapter, const std::string& base_model_name);
/// @errors not_found, corrupt_data, unsupported (names what: dora, modules_to_save, ...), invalid_argument (the model
/// lacks a layer, or shapes differ).
Result<Adapter> load_peft(const std::string& directory, const model::Model& model);

/// W += scale B A at every site, biases and scales likewise, and the trained head instead of the model's, in place. The
/// model must be writable (LoadOptions::writable).
/// @errors unsupported: a site whose weight is shared (a tied head); sites before it are merged then. A prompt, a
/// prefix or a bottleneck, which are no change of weights; nothing is merged then.
Status merge_into(model::Model& model, const Adapter& adapter);

/// trained - initial (P). Sizes must agree (asserted).
std::vector<float> delta_of(std::span<const float> trained, std::span<const float> initial);

/// What a device adds to the round's sum for its delta, and what the server reads out of the summed contributions.
/// FedAvg-LoRA (FedIT, Zhang et al. 2024): A and B are averaged each by itself, so the contribution is the delta. Rules
/// that combine unequal ranks get their own functions of this shape.
std::vector<float> contribution(const AdapterLayout& layout, std::span<const float> delta);
/// @param sum     sum of weight_i * contribution_i
/// @param weight  sum of weight_i, > 0 (asserted)
/// @return the mean delta (P)
std::vector<float> recover(const AdapterLayout& layout, std::span<const double> sum, double weight);

}  // namespace covey::adapters

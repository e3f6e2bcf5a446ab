/// What may be trained beside a frozen model, as the model sees it: sites, ranks, spans. The model does all adapter
/// arithmetic; storage, initialization and files live in adapters/.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace covey::model {

/// One linear layer of a model that an adapter can attach to.
struct LinearSite {
  int layer = 0;     ///< block index; -1 outside the blocks (the head)
  std::string path;  ///< Hugging Face module path, e.g. "model.layers.3.self_attn.q_proj"
  std::string leaf;  ///< its last component, e.g. "q_proj": what PEFT's target_modules names
  int in = 0;
  int out = 0;
};

/// LoRA at one site: y = W x + b + scale * B (A x). Hu et al. 2021.
struct LoraSite {
  int site = 0;     ///< index into Model::linear_sites()
  int rank = 0;     ///< R
  float scale = 1;  ///< alpha / r, or alpha / sqrt(r) with rsLoRA
};

/// What is attached. Immutable for the life of an Engine's call; order is the flat layout's order.
struct AdapterSpec {
  std::vector<LoraSite> lora;
  int prompt_tokens = 0;  ///< soft prompt: virtual tokens before every row
  /// Values of a classifier's own layers (Model::head_parameters(), all of them), which are trained, too, and used
  /// instead of the model's. 0: they are not.
  std::int64_t head_values = 0;
};

/// Borrowed storage of one adapter's values (or of its gradient: same shapes).
template <typename Float>
struct BasicAdapterView {
  struct Lora {
    std::span<Float> a;  ///< (R, in), row-major
    std::span<Float> b;  ///< (out, R), row-major
  };
  std::vector<Lora> lora;      ///< parallel to AdapterSpec::lora
  std::span<Float> prompt;     ///< (prompt_tokens, E)
  std::span<Float> head = {};  ///< Model::head_parameters(), one after the other
};
using AdapterView = BasicAdapterView<const float>;
using AdapterGradView = BasicAdapterView<float>;

}  // namespace covey::model

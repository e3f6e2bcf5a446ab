/// What may be trained beside a frozen model, as the model sees it: sites, ranks, spans. The model does all adapter
/// arithmetic; storage, initialization and files live in adapters/.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/kernels/activation.h"

namespace covey::model {

/// What a linear layer is for within its block.
enum class SiteRole : std::uint8_t {
  other,
  key,              ///< attention's keys
  value,            ///< its values
  query_key_value,  ///< all three in one matrix
  attention_out,    ///< the attention's last matrix
  mlp_out,          ///< the feedforward network's last matrix
};

/// One linear layer of a model that an adapter can attach to.
struct LinearSite {
  int layer = 0;     ///< block index; -1 outside the blocks (the head)
  std::string path;  ///< Hugging Face module path, e.g. "model.layers.3.self_attn.q_proj"
  std::string leaf;  ///< its last component, e.g. "q_proj": what PEFT's target_modules names
  int in = 0;
  int out = 0;
  SiteRole role = SiteRole::other;
};

/// Another place that an adapter can attach to: a bias vector, an attention, a block.
struct AdapterPlace {
  std::string name;  ///< "bert.encoder.layer.0.output.LayerNorm.bias"; an attention's or a block's module path
  int layer = 0;     ///< block index (a second stack's go on counting); -1 outside the blocks
  int width = 0;     ///< of the bias; of a row of keys, kv_heads * D; of the block's rows, H
};

/// LoRA at one site: y = W x + b + scale * B (A x). Hu et al. 2021.
struct LoraSite {
  int site = 0;     ///< index into Model::linear_sites()
  int rank = 0;     ///< R
  float scale = 1;  ///< alpha / r, or alpha / sqrt(r) with rsLoRA
  /// Whether A and B get gradients. What is frozen still counts in the forward pass; its gradient is left as it is.
  bool train_a = true;
  bool train_b = true;
  [[nodiscard]] bool trains() const { return train_a || train_b; }
};

/// Everything but LoRA, soft prompts and heads: values at one place of the model.
enum class PartKind : std::uint8_t {
  scale_in,    ///< y = W (l x) + b, column by column. (IA)3 of Liu et al. 2022, section 3.3
  scale_out,   ///< y = l (W x + b); l is (width) in both
  bias,        ///< (width), added to a bias of the model. BitFit, Ben Zaken et al. 2022
  prefix,      ///< keys (count, width), then values (count, width), before every row's own. Li and Liang 2021
  bottleneck,  ///< y + U f(D y + d) + u behind a linear layer, before its residual. Houlsby et al. 2019, section 2
  block_bottleneck,  ///< the same behind a block. Pfeiffer et al. 2021, as He et al. 2022, section 2.2, draw it
};

/// Values, in this order: l; the bias's change; keys, values; D (count, width), d (count), U (width, count), u (width).
struct AdapterPart {
  PartKind kind = PartKind::scale_out;
  int index = 0;  ///< scales, bottleneck: Model::linear_sites(); else of Model::biases(), attentions() or blocks()
  int width = 0;
  int count = 0;                                                   ///< prefix: positions; bottlenecks: R
  kernels::Activation activation = kernels::Activation::identity;  ///< f
  [[nodiscard]] std::int64_t size() const;
};

/// What is attached. Immutable for the life of an Engine's call; order is the flat layout's order.
struct AdapterSpec {
  std::vector<LoraSite> lora;
  std::vector<AdapterPart> parts;
  int prompt_tokens = 0;  ///< soft prompt: virtual tokens before every row
  /// Values of a classifier's own layers (Model::head_parameters(), all of them), which are trained, too, and used
  /// instead of the model's. 0: they are not.
  std::int64_t head_values = 0;
  /// Positions of the key/value prefix, 0 without one.
  [[nodiscard]] int prefix_tokens() const;
  /// Positions before every row's own, which count against the model's context: those of soft prompt and prefix.
  [[nodiscard]] int virtual_tokens() const { return prompt_tokens + prefix_tokens(); }
};

/// Borrowed storage of one adapter's values (or of its gradient: same shapes).
template <typename Float>
struct BasicAdapterView {
  struct Lora {
    std::span<Float> a;  ///< (R, in), row-major
    std::span<Float> b;  ///< (out, R), row-major
  };
  std::vector<Lora> lora;                    ///< parallel to AdapterSpec::lora
  std::vector<std::span<Float>> parts = {};  ///< parallel to AdapterSpec::parts
  std::span<Float> prompt;                   ///< (prompt_tokens, E)
  std::span<Float> head = {};                ///< Model::head_parameters(), one after the other
};
using AdapterView = BasicAdapterView<const float>;
using AdapterGradView = BasicAdapterView<float>;

}  // namespace covey::model

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "core/kernels/wkv7.h"
#include "core/model/config.h"
#include "core/model/families.h"

namespace covey::model {
namespace {

Error bad(const std::string& what) {
  return Error{ErrorCode::invalid_argument, what};
}

Status within(const std::string& name, int value, int lo, int hi) {
  if (value >= lo && value <= hi) return {};
  return bad(name + " is " + std::to_string(value) + "; it must be from " + std::to_string(lo) + " to " +
             std::to_string(hi));
}

Status check_rope(const ModelConfig& c) {
  const RopeConfig& rope = c.rope;
  const int turning = rope.rotary_dim != 0 ? rope.rotary_dim : c.head_dim;
  if (c.head_dim % 2 != 0 && rope.rotary_dim == 0) return bad("head_dim is odd; rotary positions need pairs");
  if (turning < 2 || turning > c.head_dim || turning % 2 != 0) {
    return bad("rotary_dim (partial_rotary_factor) must be even and at most head_dim");
  }
  if (!(rope.theta > 0 && std::isfinite(rope.theta))) return bad("rope_theta must be positive");
  if (!(rope.factor > 0 && std::isfinite(rope.factor))) return bad("rope_scaling.factor must be positive");
  if (rope.scaling == RopeScaling::llama3 &&
      !(rope.low_freq_factor > 0 && rope.high_freq_factor > rope.low_freq_factor &&
        std::isfinite(rope.high_freq_factor) && rope.original_context > 0)) {
    return bad("rope_scaling: 0 < low_freq_factor < high_freq_factor must hold");
  }
  if (rope.scaling == RopeScaling::yarn && !(rope.theta > 1 && rope.beta_slow > 0 && rope.beta_fast > rope.beta_slow &&
                                             std::isfinite(rope.beta_fast) && rope.original_context > 0)) {
    return bad("rope_scaling: 0 < beta_slow < beta_fast and rope_theta above 1 must hold");
  }
  if (!(rope.attention_factor > 0 && std::isfinite(rope.attention_factor))) {
    return bad("rope_scaling.attention_factor must be positive");
  }
  if (rope.scaling == RopeScaling::longrope) {
    for (const auto* factors : {&rope.short_factor, &rope.long_factor}) {
      if (factors->size() != static_cast<std::size_t>(turning / 2)) return bad("rope_scaling: not one factor per pair");
      for (const double factor : *factors) {
        if (!(factor > 0 && std::isfinite(factor))) return bad("rope_scaling: factors must be positive");
      }
    }
    if (rope.original_context < 1) return bad("original_max_position_embeddings must be positive");
  }
  return {};
}

Status check_layers(const ModelConfig& c) {
  for (const auto* list : {&c.layer_heads, &c.layer_kv_heads, &c.layer_intermediate, &c.window}) {
    if (!list->empty() && list->size() != static_cast<std::size_t>(c.layers)) {
      return bad("a list of layers (heads, sizes, window) has not one entry per layer");
    }
  }
  for (std::size_t i = 0; i < c.layer_heads.size(); ++i) {
    COVEY_TRY(within("heads of a layer", c.layer_heads[i], 1, c.heads));
    COVEY_TRY(within("kv_heads of a layer", c.layer_kv_heads.empty() ? c.kv_heads : c.layer_kv_heads[i], 1, c.heads));
    const int kv = c.layer_kv_heads.empty() ? c.kv_heads : c.layer_kv_heads[i];
    if (c.layer_heads[i] % kv != 0) return bad("heads of a layer are not a multiple of its kv_heads");
  }
  for (const int width : c.layer_intermediate) COVEY_TRY(within("intermediate size of a layer", width, 1, 1 << 20));
  for (const int window : c.window) COVEY_TRY(within("window (sliding_window)", window, 0, 1 << 24));
  if (c.bidirectional && std::any_of(c.window.begin(), c.window.end(), [](int w) { return w > 0; })) {
    return bad("a sliding window in both directions");
  }
  return {};
}

Status check_second(const ModelConfig& c) {
  if (c.task != Task::seq2seq) return {};
  COVEY_TRY(within("decoder_layers", c.decoder_layers, 1, 1024));
  COVEY_TRY(within("decoder_attention_heads", c.decoder_heads, 1, 1024));
  COVEY_TRY(within("decoder_head_dim", c.decoder_head_dim, 1, 4096));
  return within("decoder_ffn_dim", c.decoder_intermediate, 1, 1 << 20);
}

Status check_parts(const ModelConfig& c) {
  if (c.position == PositionKind::rope) COVEY_TRY(check_rope(c));
  if (c.position == PositionKind::relative) {
    COVEY_TRY(within("relative_attention_num_buckets", c.relative_buckets, 4, 1 << 16));
    const int exact = c.relative_buckets / 2;
    if (c.relative_distance <= exact) return bad("relative_attention_max_distance must exceed half of the buckets");
  }
  if (c.task == Task::classification) COVEY_TRY(within("classes (num_labels)", c.classes, 2, 1 << 16));
  if (c.type_vocab != 0) COVEY_TRY(within("type_vocab_size", c.type_vocab, 1, 1 << 16));
  if (c.trigram && c.pad_id >= c.vocab_size) return bad("pad_token_id is outside the vocabulary");
  if (c.qk_norm == QkNorm::own_head && c.layers * c.heads > 1 << 16) return bad("more than 65536 norms of heads");
  for (const double positive : {c.attention_scale, c.attention_cap, c.logit_cap, c.clip_qkv}) {
    if (!(positive >= 0 && std::isfinite(positive))) return bad("a scale, cap or clip is negative or not finite");
  }
  for (const double any : {c.embedding_scale, c.logit_scale, c.norm_offset}) {
    if (!std::isfinite(any)) return bad("a scale is not finite");
  }
  if (c.embedding_size != 0) COVEY_TRY(within("embedding_size", c.embedding_size, 1, 1 << 16));
  if (c.embedding_width() != c.hidden_size && names_of(c).project_in.empty()) {
    return bad("an embedding width other than hidden_size, in a family without a projection");
  }
  if (c.block == BlockKind::rwkv7) {
    if (c.heads * c.head_dim != c.hidden_size) return bad("hidden_size is not num_heads times head_dim");
    if (c.head_dim % 16 != 0 || c.head_dim > kernels::kWkv7HeadMax) {
      return bad("head_dim must be a multiple of 16, at most " + std::to_string(kernels::kWkv7HeadMax));
    }
    for (const int rank : {c.decay_rank, c.rate_rank, c.value_rank, c.gate_rank}) {
      COVEY_TRY(within("a low_rank_dim", rank, 1, 1 << 16));
    }
  }
  if (c.block == BlockKind::mobilebert) {
    if (c.bottleneck_size != 0) COVEY_TRY(within("intra_bottleneck_size", c.bottleneck_size, 1, 1 << 16));
    COVEY_TRY(within("num_feedforward_networks", c.feedforward_networks, 1, 64));
    if (c.task == Task::masked_lm && c.embedding_width() > c.hidden_size) {
      return bad("embedding_size above hidden_size");
    }
  }
  return {};
}

/// What a family's config.json could not say, where we write it from the fields.
Status check_writable(const ModelConfig& c) {
  if (!c.source.empty()) return {};
  const int last = c.window.empty() ? 0 : c.window.back();
  bool slid = false;
  for (const int window : c.window) {
    if (window != 0 && window != last) return bad("sliding windows of more than one size");
    if (slid && window == 0) return bad("a layer without sliding window above one with it");
    slid = slid || window != 0;
  }
  if (c.family == "llama") {
    if (c.qkv_bias != c.o_bias) return bad("llama has biases on q, k, v and o together, or on none");
    if (last != 0) return bad("llama has no sliding window; take family mistral");
  } else if (c.family == "mistral") {
    if (c.qkv_bias || c.o_bias || c.mlp_bias) return bad("mistral has no biases");
    if (!c.window.empty() && c.window.front() != last) return bad("mistral slides in every layer or in none");
  } else if (c.family == "qwen2") {
    if (!c.qkv_bias || c.o_bias || c.mlp_bias) return bad("qwen2 has biases on q, k and v alone");
  }
  return {};
}

}  // namespace

Status check_config(const ModelConfig& c) {
  if (!known_family(c.family)) return bad("family \"" + c.family + "\" is not one that we have");
  COVEY_TRY(within("vocab_size", c.vocab_size, 1, 1 << 24));
  COVEY_TRY(within("hidden_size", c.hidden_size, 1, 1 << 16));
  COVEY_TRY(within("intermediate_size", c.intermediate_size, 1, 1 << 20));
  COVEY_TRY(within("layers (num_hidden_layers)", c.layers, 1, 1024));
  COVEY_TRY(within("heads (num_attention_heads)", c.heads, 1, 1024));
  COVEY_TRY(within("kv_heads (num_key_value_heads)", c.kv_heads, 1, c.heads));
  COVEY_TRY(within("head_dim", c.head_dim, 1, c.block == BlockKind::rwkv ? 1 << 16 : 4096));
  COVEY_TRY(within("context_max (max_position_embeddings)", c.context_max, 1, 1 << 24));
  if (c.layer_heads.empty() && c.heads % c.kv_heads != 0) return bad("heads is not a multiple of kv_heads");
  if (!(c.norm_eps > 0 && c.norm_eps < 1)) return bad("norm_eps (rms_norm_eps) must lie between 0 and 1");
  COVEY_TRY(check_layers(c));
  COVEY_TRY(check_second(c));
  COVEY_TRY(check_parts(c));
  return check_writable(c);
}

}  // namespace covey::model

// RWKV: from config.json to ModelConfig. Version 4 as Hugging Face writes it, version 7 as flash-linear-attention does.
#include <algorithm>
#include <cmath>

#include "core/model/config_json.h"

namespace covey::model {
namespace {

using formats::Json;

void rwkv_shape(ModelConfig& c, BlockKind block) {
  c.block = block;
  c.position = PositionKind::none;
  c.norm = NormKind::layer;
  c.norm_bias = true;
  c.embedding_norm = true;
  c.gated = false;
  c.activation = Activation::relu_squared;
}

/// A rank that is null follows the width.
Status rank(Fields& f, const char* key, double per_root, double factor, int hidden, int& to) {
  const int usual = std::max(32, static_cast<int>(std::nearbyint(per_root * std::sqrt(hidden) * factor / 32)) * 32);
  if (f.absent(key)) {
    to = usual;
    return {};
  }
  return f.size(key, kWidthMax, to);
}

Status read_heads(Fields& f, ModelConfig& c) {
  if (!f.absent("num_heads") && f.absent("head_dim")) {
    COVEY_TRY(f.size("num_heads", 1024, c.heads));
    c.head_dim = std::max(1, c.hidden_size / c.heads);
  } else {
    COVEY_TRY(f.size("head_dim", 4096, c.head_dim, 64));
    c.heads = std::max(1, c.hidden_size / c.head_dim);
    if (!f.absent("num_heads")) COVEY_TRY(f.must_be("num_heads", Json(c.heads)));
  }
  c.kv_heads = c.heads;
  if (f.absent("value_dim")) return {};
  COVEY_ASSIGN(const auto widths, f.json().get_ints("value_dim"));
  for (const std::int64_t width : widths) {
    if (width != c.hidden_size) return f.unsupported("value_dim other than hidden_size");
  }
  return {};
}

}  // namespace

Status read_rwkv(Fields& f, ModelConfig& c) {
  rwkv_shape(c, BlockKind::rwkv);
  COVEY_TRY(f.size("vocab_size", kSizeMax, c.vocab_size, 50277));
  COVEY_TRY(f.size("hidden_size", kWidthMax, c.hidden_size, 4096));
  COVEY_TRY(f.size("attention_hidden_size", kWidthMax, c.head_dim, c.hidden_size));
  COVEY_TRY(f.size("intermediate_size", 1 << 20, c.intermediate_size, 4 * c.hidden_size));
  COVEY_TRY(f.size("num_hidden_layers", 1024, c.layers, 32));
  COVEY_TRY(f.size("context_length", kSizeMax, c.context_max, 1024));
  COVEY_TRY(f.number("layer_norm_epsilon", c.norm_eps));
  c.heads = c.kv_heads = 1;
  // Dividing by powers of two keeps f16 from overflowing; the reference, too, does it outside of training only.
  f.ignore({"rescale_every"});
  return {};
}

Status read_rwkv7(Fields& f, ModelConfig& c) {
  rwkv_shape(c, BlockKind::rwkv7);
  if (f.absent("tie_word_embeddings")) c.tied_head = false;
  COVEY_TRY(f.size("vocab_size", kSizeMax, c.vocab_size, 32000));
  COVEY_TRY(f.size("hidden_size", kWidthMax, c.hidden_size, 2048));
  COVEY_TRY(f.size("num_hidden_layers", 1024, c.layers, 24));
  COVEY_TRY(f.size("max_position_embeddings", kSizeMax, c.context_max, 2048));
  COVEY_TRY(f.number("norm_eps", c.norm_eps));
  COVEY_TRY(read_heads(f, c));
  double ratio = 4;
  COVEY_TRY(f.number("hidden_ratio", ratio));
  if (!(ratio > 0 && ratio <= 16)) return f.json().error_at("hidden_ratio", "must lie between 0 and 16");
  if (f.absent("intermediate_size")) {
    c.intermediate_size = (static_cast<int>(c.hidden_size * ratio) + 31) / 32 * 32;
  } else {
    COVEY_TRY(f.size("intermediate_size", 1 << 20, c.intermediate_size));
  }
  const double factor = c.head_dim / 64.0;
  COVEY_TRY(rank(f, "decay_low_rank_dim", 2.5, factor, c.hidden_size, c.decay_rank));
  COVEY_TRY(rank(f, "a_low_rank_dim", 2.5, factor, c.hidden_size, c.rate_rank));
  COVEY_TRY(rank(f, "v_low_rank_dim", 1.7, factor, c.hidden_size, c.value_rank));
  COVEY_TRY(rank(f, "gate_low_rank_dim", 5, 1, c.hidden_size, c.gate_rank));
  COVEY_TRY(f.must_be("hidden_act", Json("sqrelu")));
  COVEY_TRY(f.must_be("norm_first", Json(true)));
  COVEY_TRY(f.must_be("norm_bias", Json(true)));
  COVEY_TRY(f.must_be("attn", Json()));  // layers of ordinary attention among the others
  // How the same sums are taken; the last one changes the loss of their training alone.
  f.ignore({"attn_mode", "fuse_norm", "fuse_cross_entropy", "fuse_linear_cross_entropy", "use_l2warp"});
  return {};
}

}  // namespace covey::model

// Tables of the families that generate text: from config.json to ModelConfig. Defaults are the reference's own.
#include <algorithm>
#include <array>
#include <cmath>

#include "core/model/config_json.h"

namespace covey::model {
namespace {

using formats::Json;

/// Training without dropout is what we do; a model that asks for it on its attention would train differently.
Status no_attention_dropout(Fields& f) {
  double dropout = 0;
  COVEY_TRY(f.number("attention_dropout", dropout));
  return dropout == 0 ? Status() : Status(f.unsupported("attention_dropout above 0; set it to 0"));
}

Status whole_rotation(Fields& f) {
  double partial = 1;
  COVEY_TRY(read_partial_rotation(f, "partial_rotary_factor", partial));
  return partial == 1 ? Status() : Status(f.unsupported("partial_rotary_factor other than 1"));
}

Status partial_rotation(Fields& f, const char* key, double partial, ModelConfig& c) {
  COVEY_TRY(read_partial_rotation(f, key, partial));
  if (!(partial > 0 && partial <= 1)) return f.json().error_at(key, "must lie between 0 and 1");
  c.rope.rotary_dim = static_cast<int>(c.head_dim * partial);
  return {};
}

/// hidden_size, ... as llama calls them. `kv` and `dim` 0: heads, and hidden / heads.
Status llama_sizes(Fields& f, ModelConfig& c, int kv, int dim, int context) {
  COVEY_TRY(f.size("vocab_size", kSizeMax, c.vocab_size));
  COVEY_TRY(f.size("hidden_size", kWidthMax, c.hidden_size));
  COVEY_TRY(f.size("intermediate_size", 1 << 20, c.intermediate_size));
  COVEY_TRY(f.size("num_hidden_layers", 1024, c.layers));
  COVEY_TRY(f.size("num_attention_heads", 1024, c.heads));
  COVEY_TRY(f.size("num_key_value_heads", 1024, c.kv_heads, kv > 0 ? kv : c.heads));
  COVEY_TRY(f.size("head_dim", 4096, c.head_dim, dim > 0 ? dim : std::max(1, c.hidden_size / c.heads)));
  return f.size("max_position_embeddings", kSizeMax, c.context_max, context);
}

/// Where layers slide from a certain one on, with one window (Qwen).
Status qwen_windows(Fields& f, ModelConfig& c) {
  bool use = false;
  COVEY_TRY(f.flag("use_sliding_window", use));
  int window = 0;
  int first = 0;
  const bool none = f.absent("sliding_window");
  COVEY_TRY(f.size("sliding_window", kSizeMax, window, 4096));
  const Json* given = f.find("max_window_layers");
  if (given != nullptr && !given->is_null()) {
    COVEY_ASSIGN(const auto value, f.json().get_int_between("max_window_layers", 0, kSizeMax));
    first = static_cast<int>(value);
  } else {
    first = 28;
  }
  if (use && !none) {
    c.window.assign(static_cast<std::size_t>(c.layers), 0);
    for (int i = first; i < c.layers; ++i) c.window[static_cast<std::size_t>(i)] = window;
  }
  return {};
}

/// layer_types, where a newer config.json spells the windows out, must say the same.
Status check_layer_types(Fields& f, const ModelConfig& c) {
  if (f.absent("layer_types")) return {};
  COVEY_ASSIGN(const auto names, f.json().get_strings("layer_types"));
  const auto layers = static_cast<std::size_t>(c.layers);
  for (std::size_t i = 0; i < std::max(names.size(), layers); ++i) {
    const bool slides = i < layers && c.window_of(static_cast<int>(i)) > 0;
    if (i >= names.size() || i >= layers || names[i] != (slides ? "sliding_attention" : "full_attention")) {
      return f.unsupported("field \"layer_types\" differs from what the fields about sliding windows say");
    }
  }
  return {};
}

Status silu_only(Fields& f, const ModelConfig& c) {
  Activation activation = Activation::silu;
  COVEY_TRY(f.activation("hidden_act", "silu", activation));
  return activation == Activation::silu
             ? Status()
             : Status(f.unsupported("hidden_act: " + c.family + " models are computed with silu alone"));
}

Status attention_biases(Fields& f, ModelConfig& c, bool usual = false) {
  c.qkv_bias = usual;
  COVEY_TRY(f.flag("attention_bias", c.qkv_bias));
  c.o_bias = c.qkv_bias;
  return {};
}

/// llama, mistral, qwen2, qwen3: one shape with small differences.
Status read_llama_like(Fields& f, ModelConfig& c) {
  const bool qwen = c.family == "qwen2" || c.family == "qwen3";
  const int kv = c.family == "mistral" ? 8 : (qwen ? 32 : 0);
  const int context = c.family == "mistral" ? 131072 : (qwen ? 32768 : 2048);
  COVEY_TRY(llama_sizes(f, c, kv, c.family == "qwen3" ? 128 : 0, context));
  c.norm_eps = 1e-6;
  COVEY_TRY(f.number("rms_norm_eps", c.norm_eps));
  COVEY_TRY(silu_only(f, c));
  COVEY_TRY(no_attention_dropout(f));
  COVEY_TRY(whole_rotation(f));
  COVEY_TRY(read_rope(f, c));
  if (c.family == "llama") {
    COVEY_TRY(attention_biases(f, c));
    COVEY_TRY(f.flag("mlp_bias", c.mlp_bias));
  } else if (c.family == "mistral") {
    int window = 0;
    const Json* given = f.find("sliding_window");
    if (given != nullptr && given->is_null()) return {};
    COVEY_TRY(f.size("sliding_window", kSizeMax, window, 4096));
    c.window.assign(static_cast<std::size_t>(c.layers), window);
  } else {
    COVEY_TRY(qwen_windows(f, c));
    COVEY_TRY(check_layer_types(f, c));
    if (c.family == "qwen2") {
      c.qkv_bias = true;
    } else {
      COVEY_TRY(attention_biases(f, c));
      c.qk_norm = QkNorm::head;
    }
  }
  return {};
}

/// Gemma's first files said "gelu" and meant the tanh approximation; hidden_activation, where it is there, decides.
Status gemma_activation(Fields& f, ModelConfig& c) {
  c.activation = Activation::gelu_tanh;
  Activation old = Activation::gelu_tanh;
  COVEY_TRY(f.activation("hidden_act", "gelu_pytorch_tanh", old));
  if (old != Activation::gelu_tanh && old != Activation::gelu) return f.unsupported("hidden_act; Gemma uses gelu");
  if (f.absent("hidden_activation")) return {};
  return f.activation("hidden_activation", "gelu_pytorch_tanh", c.activation);
}

Status read_gemma(Fields& f, ModelConfig& c) {
  const bool second = c.family == "gemma2";
  COVEY_TRY(llama_sizes(f, c, second ? 4 : 16, 256, 8192));
  c.norm_eps = 1e-6;
  COVEY_TRY(f.number("rms_norm_eps", c.norm_eps));
  c.norm_offset = 1;
  // In the reference this factor is rounded to the weights' type, here f32.
  c.embedding_scale = std::sqrt(static_cast<double>(c.hidden_size));
  COVEY_TRY(gemma_activation(f, c));
  COVEY_TRY(no_attention_dropout(f));
  COVEY_TRY(whole_rotation(f));
  COVEY_TRY(read_rope(f, c));
  COVEY_TRY(attention_biases(f, c));
  if (!second) return {};
  c.placement = NormPlacement::sandwich;
  f.ignore({"cache_implementation"});
  double scalar = 256;
  COVEY_TRY(f.number("query_pre_attn_scalar", scalar));
  if (!(scalar > 0)) return Error{ErrorCode::invalid_argument, f.where() + ": query_pre_attn_scalar must be positive"};
  c.attention_scale = 1.0 / std::sqrt(scalar);
  c.attention_cap = f.json().find("attn_logit_softcapping") != nullptr ? 0 : 50;
  c.logit_cap = f.json().find("final_logit_softcapping") != nullptr ? 0 : 30;
  COVEY_TRY(f.number("attn_logit_softcapping", c.attention_cap));
  COVEY_TRY(f.number("final_logit_softcapping", c.logit_cap));
  int window = 0;
  const Json* given = f.find("sliding_window");
  if (given == nullptr || !given->is_null()) COVEY_TRY(f.size("sliding_window", kSizeMax, window, 4096));
  if (window > 0) {
    c.window.assign(static_cast<std::size_t>(c.layers), 0);
    for (std::size_t i = 0; i < c.window.size(); i += 2) c.window[i] = window;
  }
  return check_layer_types(f, c);
}

Status read_phi(Fields& f, ModelConfig& c) {
  COVEY_TRY(llama_sizes(f, c, 0, 0, 2048));
  COVEY_TRY(f.number("layer_norm_eps", c.norm_eps));
  c.norm = NormKind::layer;
  c.norm_bias = c.qkv_bias = c.o_bias = c.mlp_bias = c.head_bias = true;
  c.gated = false;
  c.parallel = c.shared_norm = true;
  COVEY_TRY(f.activation("hidden_act", "gelu_new", c.activation));
  bool qk = false;
  COVEY_TRY(f.flag("qk_layernorm", qk));
  if (qk) {
    c.qk_norm = QkNorm::head;
    c.qk_norm_kind = NormKind::layer;
    c.qk_norm_bias = true;
  }
  f.ignore({"attention_dropout", "embd_pdrop", "resid_pdrop"});
  COVEY_TRY(partial_rotation(f, "partial_rotary_factor", 0.5, c));
  return read_rope(f, c);
}

Status read_phi3(Fields& f, ModelConfig& c) {
  COVEY_TRY(llama_sizes(f, c, 0, 0, 4096));
  COVEY_TRY(f.number("rms_norm_eps", c.norm_eps));
  COVEY_TRY(silu_only(f, c));
  c.qkv = QkvLayout::fused;
  c.fused_gate_up = true;
  f.ignore({"attention_dropout", "embd_pdrop", "resid_pdrop", "original_max_position_embeddings"});
  COVEY_TRY(f.must_be("attention_bias", Json(false)));
  COVEY_TRY(partial_rotation(f, "partial_rotary_factor", 1, c));
  COVEY_TRY(read_rope(f, c));
  if (f.absent("sliding_window")) return {};
  int window = 0;
  COVEY_TRY(f.size("sliding_window", kSizeMax, window));
  c.window.assign(static_cast<std::size_t>(c.layers), window);
  return {};
}

Status read_gpt_neox(Fields& f, ModelConfig& c) {
  COVEY_TRY(llama_sizes(f, c, 0, 0, 2048));
  COVEY_TRY(f.number("layer_norm_eps", c.norm_eps));
  c.norm = NormKind::layer;
  c.norm_bias = c.mlp_bias = true;
  c.gated = false;
  c.qkv = QkvLayout::fused_heads;
  COVEY_TRY(attention_biases(f, c, true));
  c.parallel = true;
  COVEY_TRY(f.flag("use_parallel_residual", c.parallel));
  COVEY_TRY(f.activation("hidden_act", "gelu", c.activation));
  f.ignore({"attention_dropout", "hidden_dropout", "classifier_dropout"});
  double partial = 0.25;
  COVEY_TRY(f.number("rotary_pct", partial));
  double same = partial;
  COVEY_TRY(f.number("partial_rotary_factor", same));
  if (same != partial) return f.unsupported("partial_rotary_factor differs from rotary_pct");
  COVEY_TRY(partial_rotation(f, "rotary_pct", partial, c));
  COVEY_TRY(f.number("rotary_emb_base", c.rope.theta));
  const double base = c.rope.theta;
  COVEY_TRY(read_rope(f, c));
  if (!f.absent("rotary_emb_base") && c.rope.theta != base)
    return f.unsupported("rope_theta differs from rotary_emb_base");
  return {};
}

Status read_olmo(Fields& f, ModelConfig& c) {
  COVEY_TRY(llama_sizes(f, c, 0, 0, 2048));
  COVEY_TRY(silu_only(f, c));
  COVEY_TRY(no_attention_dropout(f));
  COVEY_TRY(whole_rotation(f));
  COVEY_TRY(attention_biases(f, c));
  if (c.family == "olmo") {
    c.norm = NormKind::layer;
    c.norm_weight = false;
    c.norm_eps = 1e-5;
    COVEY_TRY(f.number("clip_qkv", c.clip_qkv));
  } else {
    c.placement = NormPlacement::branch;
    COVEY_TRY(f.number("rms_norm_eps", c.norm_eps));
    c.qk_norm = QkNorm::row;
  }
  return read_rope(f, c);
}

Status read_stablelm(Fields& f, ModelConfig& c) {
  COVEY_TRY(llama_sizes(f, c, 32, 0, 4096));
  COVEY_TRY(f.number("layer_norm_eps", c.norm_eps));
  c.norm = NormKind::layer;
  c.norm_bias = true;
  COVEY_TRY(f.activation("hidden_act", "silu", c.activation));
  COVEY_TRY(f.flag("use_qkv_bias", c.qkv_bias));
  COVEY_TRY(f.flag("use_parallel_residual", c.parallel));
  c.shared_norm = c.parallel;
  bool qk = false;
  COVEY_TRY(f.flag("qk_layernorm", qk));
  if (qk) {
    c.qk_norm = QkNorm::own_head;
    c.qk_norm_kind = NormKind::layer;
  }
  f.ignore({"attention_dropout", "hidden_dropout"});
  COVEY_TRY(partial_rotation(f, "partial_rotary_factor", 0.25, c));
  return read_rope(f, c);
}

/// What GPT-2 and those after it share: LayerNorms and biases everywhere, a plain MLP, a learned table of positions.
void gpt_shape(ModelConfig& c) {
  c.norm = NormKind::layer;
  c.norm_bias = c.qkv_bias = c.o_bias = c.mlp_bias = true;
  c.gated = false;
  c.position = PositionKind::learned;
}

Status even_heads(const Fields& f, ModelConfig& c) {
  if (c.hidden_size % c.heads != 0) {
    return Error{ErrorCode::invalid_argument, f.where() + ": hidden size is not a multiple of the number of heads"};
  }
  c.kv_heads = c.heads;
  c.head_dim = c.hidden_size / c.heads;
  return {};
}

Status read_gpt2(Fields& f, ModelConfig& c) {
  gpt_shape(c);
  COVEY_TRY(f.size("vocab_size", kSizeMax, c.vocab_size, 50257));
  COVEY_TRY(f.size("n_embd", kWidthMax, c.hidden_size, 768));
  COVEY_TRY(f.size("n_layer", 1024, c.layers, 12));
  COVEY_TRY(f.size("n_head", 1024, c.heads, 12));
  COVEY_TRY(f.size("n_positions", kSizeMax, c.context_max, 1024));
  COVEY_TRY(f.size("n_inner", 1 << 20, c.intermediate_size, 4 * c.hidden_size));
  COVEY_TRY(even_heads(f, c));
  COVEY_TRY(f.number("layer_norm_epsilon", c.norm_eps));
  COVEY_TRY(f.activation("activation_function", "gelu_new", c.activation));
  c.qkv = QkvLayout::fused;
  c.linear_in_out = true;
  bool scaled = true;
  COVEY_TRY(f.flag("scale_attn_weights", scaled));
  if (!scaled) c.attention_scale = 1;
  COVEY_TRY(f.flag("scale_attn_by_inverse_layer_idx", c.scale_by_layer));
  // reorder_and_upcast_attn only orders the same f32 operations; summary_* belong to a head that we do not have.
  f.ignore({"attn_pdrop", "embd_pdrop", "resid_pdrop", "n_ctx", "reorder_and_upcast_attn", "summary_activation",
            "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj"});
  return {};
}

Status read_gpt_neo(Fields& f, ModelConfig& c) {
  gpt_shape(c);
  c.qkv_bias = false;
  COVEY_TRY(f.size("vocab_size", kSizeMax, c.vocab_size, 50257));
  COVEY_TRY(f.size("hidden_size", kWidthMax, c.hidden_size, 2048));
  COVEY_TRY(f.size("num_layers", 1024, c.layers, 24));
  COVEY_TRY(f.size("num_heads", 1024, c.heads, 16));
  COVEY_TRY(f.size("max_position_embeddings", kSizeMax, c.context_max, 2048));
  COVEY_TRY(f.size("intermediate_size", 1 << 20, c.intermediate_size, 4 * c.hidden_size));
  COVEY_TRY(even_heads(f, c));
  COVEY_TRY(f.number("layer_norm_epsilon", c.norm_eps));
  COVEY_TRY(f.activation("activation_function", "gelu_new", c.activation));
  c.attention_scale = 1;
  f.ignore({"attention_dropout", "classifier_dropout", "embed_dropout", "resid_dropout", "summary_activation",
            "summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj", "attention_layers"});
  int window = 0;
  COVEY_TRY(f.size("window_size", kSizeMax, window, 256));
  const Json* types = f.find("attention_types");
  const Error wrong{
      ErrorCode::invalid_argument,
      f.where() + ": attention_types must be [[[\"global\" or \"local\", ...], times], ...] with one per layer"};
  if (types == nullptr || !types->is_array()) return wrong;
  for (const Json& group : types->items()) {
    if (!group.is_array() || group.size() != 2 || !group.items()[0].is_array()) return wrong;
    const auto times = group.items()[1].as_int();
    if (!times.ok() || times.value() < 1 || times.value() > 1024) return wrong;
    for (std::int64_t i = 0; i < times.value(); ++i) {
      for (const Json& kind : group.items()[0].items()) {
        const auto name = kind.as_string();
        if (!name.ok() || (name.value() != "global" && name.value() != "local")) return wrong;
        c.window.push_back(name.value() == "local" ? window : 0);
        if (c.window.size() > static_cast<std::size_t>(c.layers)) return wrong;
      }
    }
  }
  return c.window.size() == static_cast<std::size_t>(c.layers) ? Status() : Status(wrong);
}

Status read_opt(Fields& f, ModelConfig& c) {
  gpt_shape(c);
  COVEY_TRY(f.size("vocab_size", kSizeMax, c.vocab_size, 50272));
  COVEY_TRY(f.size("hidden_size", kWidthMax, c.hidden_size, 768));
  COVEY_TRY(f.size("num_hidden_layers", 1024, c.layers, 12));
  COVEY_TRY(f.size("num_attention_heads", 1024, c.heads, 12));
  COVEY_TRY(f.size("ffn_dim", 1 << 20, c.intermediate_size, 3072));
  COVEY_TRY(f.size("max_position_embeddings", kSizeMax, c.context_max, 2048));
  COVEY_TRY(f.size("word_embed_proj_dim", kWidthMax, c.embedding_size, c.hidden_size));
  COVEY_TRY(even_heads(f, c));
  c.position_offset = 2;
  COVEY_TRY(f.activation("activation_function", "relu", c.activation));
  bool before = true;
  bool removed = false;
  bool biased = true;
  COVEY_TRY(f.flag("do_layer_norm_before", before));
  COVEY_TRY(f.flag("_remove_final_layer_norm", removed));
  COVEY_TRY(f.flag("enable_bias", biased));
  COVEY_TRY(f.flag("layer_norm_elementwise_affine", c.norm_weight));
  c.norm_bias = c.norm_weight;
  c.placement = before ? NormPlacement::pre : NormPlacement::post;
  c.final_norm = before && !removed;
  c.qkv_bias = c.o_bias = c.mlp_bias = biased;
  f.ignore({"attention_dropout", "activation_dropout", "dropout", "layerdrop", "init_std"});
  return {};
}

Status read_bloom(Fields& f, ModelConfig& c) {
  gpt_shape(c);
  c.position = PositionKind::alibi;
  COVEY_TRY(f.size("vocab_size", kSizeMax, c.vocab_size, 250880));
  const char* width = f.json().find("hidden_size") == nullptr ? "n_embed" : "hidden_size";
  COVEY_TRY(f.size(width, kWidthMax, c.hidden_size, 64));
  const char* layers = f.json().find("n_layer") == nullptr ? "num_hidden_layers" : "n_layer";
  const char* heads = f.json().find("n_head") == nullptr ? "num_attention_heads" : "n_head";
  COVEY_TRY(f.size(layers, 1024, c.layers, 2));
  COVEY_TRY(f.size(heads, 1024, c.heads, 8));
  COVEY_TRY(f.size("seq_length", kSizeMax, c.context_max, 2048));  // its positions have no end
  COVEY_TRY(even_heads(f, c));
  c.intermediate_size = 4 * c.hidden_size;
  COVEY_TRY(f.number("layer_norm_epsilon", c.norm_eps));
  COVEY_TRY(f.flag("apply_residual_connection_post_layernorm", c.residual_from_norm));
  c.activation = Activation::gelu_tanh;
  c.qkv = QkvLayout::fused_heads;
  c.embedding_norm = true;
  // slow_but_exact and its like choose between orders of the same sums.
  f.ignore({"attention_dropout", "hidden_dropout", "slow_but_exact", "attention_softmax_in_fp32", "bias_dropout_fusion",
            "masked_softmax_fusion", "skip_bias_add", "skip_bias_add_qkv", "unk_token_id", "n_inner", "offset_alibi"});
  if (!f.absent("n_inner")) {
    COVEY_TRY(f.must_be("n_inner", Json(4 * c.hidden_size)));
  }
  return {};
}

/// OpenELM: layers widen on the way up.
Status read_openelm(Fields& f, ModelConfig& c) {
  COVEY_TRY(f.size("vocab_size", kSizeMax, c.vocab_size, 32000));
  COVEY_TRY(f.size("model_dim", kWidthMax, c.hidden_size, 2048));
  COVEY_TRY(f.size("head_dim", 4096, c.head_dim, 128));
  COVEY_TRY(f.size("num_transformer_layers", 1024, c.layers, 12));
  COVEY_TRY(f.size("max_context_length", kSizeMax, c.context_max, 2048));
  COVEY_TRY(f.activation("activation_fn_name", "swish", c.activation));
  COVEY_TRY(f.must_be("normalization_layer_name", Json("rms_norm")));
  COVEY_TRY(f.number("rope_freq_constant", c.rope.theta));
  f.ignore({"rope_max_length", "qkv_multipliers", "num_gqa_groups"});  // the first only sizes a table; heads are listed
  c.norm_eps = 1e-6;
  c.qkv = QkvLayout::fused;
  bool normed = true;
  COVEY_TRY(f.flag("normalize_qk_projections", normed));
  if (normed) c.qk_norm = QkNorm::head;
  COVEY_TRY(f.flag("ffn_with_glu", c.gated));
  c.fused_gate_up = c.gated;
  bool shared = true;
  COVEY_TRY(f.flag("share_input_output_layers", shared));
  c.tied_head = shared;
  double divisor = 256;
  COVEY_TRY(f.number("ffn_dim_divisor", divisor));
  const auto list = [&](const char* key) -> Result<std::vector<double>> {
    f.ignore({key});
    COVEY_ASSIGN(auto values, f.json().get_doubles(key));
    if (values.size() != static_cast<std::size_t>(c.layers))
      return f.json().error_at(key, "has not one entry per layer");
    for (const double value : values) {
      if (!(value > 0 && value <= 1024)) return f.json().error_at(key, "is out of range");
    }
    return values;
  };
  COVEY_ASSIGN(const auto heads, list("num_query_heads"));
  COVEY_ASSIGN(const auto kv_heads, list("num_kv_heads"));
  COVEY_ASSIGN(const auto multipliers, list("ffn_multipliers"));
  if (!(divisor >= 1 && divisor <= 65536)) return f.json().error_at("ffn_dim_divisor", "is out of range");
  for (std::size_t i = 0; i < heads.size(); ++i) {
    c.layer_heads.push_back(static_cast<int>(heads[i]));
    c.layer_kv_heads.push_back(static_cast<int>(kv_heads[i]));
    const double wanted = multipliers[i] * c.hidden_size;
    double width = std::max(divisor, std::floor((wanted + divisor / 2) / divisor) * divisor);
    if (width < 0.9 * wanted) width += divisor;
    if (width > 1 << 20) return f.json().error_at("ffn_multipliers", "is out of range");
    c.layer_intermediate.push_back(static_cast<int>(width));
  }
  c.heads = *std::max_element(c.layer_heads.begin(), c.layer_heads.end());
  c.kv_heads = *std::max_element(c.layer_kv_heads.begin(), c.layer_kv_heads.end());
  c.intermediate_size = *std::max_element(c.layer_intermediate.begin(), c.layer_intermediate.end());
  return {};
}

constexpr std::array<std::pair<const char*, Status (*)(Fields&, ModelConfig&)>, 17> kReaders{{
    {"llama", read_llama_like},
    {"mistral", read_llama_like},
    {"qwen2", read_llama_like},
    {"qwen3", read_llama_like},
    {"gemma", read_gemma},
    {"gemma2", read_gemma},
    {"phi", read_phi},
    {"phi3", read_phi3},
    {"gpt_neox", read_gpt_neox},
    {"olmo", read_olmo},
    {"olmo2", read_olmo},
    {"stablelm", read_stablelm},
    {"gpt2", read_gpt2},
    {"gpt_neo", read_gpt_neo},
    {"opt", read_opt},
    {"bloom", read_bloom},
    {"openelm", read_openelm},
}};

}  // namespace

Status read_decoder(Fields& fields, ModelConfig& c, bool& found) {
  found = true;
  if (c.family == "rwkv") return read_rwkv(fields, c);
  if (c.family == "rwkv7") return read_rwkv7(fields, c);
  for (const auto& [name, read] : kReaders) {
    if (c.family == name) return read(fields, c);
  }
  found = false;
  return {};
}

}  // namespace covey::model

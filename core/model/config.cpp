#include "core/model/config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "core/formats/json.h"
#include "core/model/config_json.h"

namespace covey::model {
namespace {

using formats::Json;

/// Members of config.json that say nothing about what is computed: bookkeeping, generation defaults, initialization.
/// pretraining_tp and chunk_size_feed_forward only cut the same sums differently.
constexpr std::array kIgnored{"architectures",
                              "auto_map",
                              "bad_words_ids",
                              "begin_suppress_tokens",
                              "bos_token_id",
                              "chunk_size_feed_forward",
                              "decoder_start_token_id",
                              "diversity_penalty",
                              "do_sample",
                              "dtype",
                              "early_stopping",
                              "encoder_no_repeat_ngram_size",
                              "eos_token_id",
                              "exponential_decay_length_penalty",
                              "finetuning_task",
                              "forced_bos_token_id",
                              "forced_eos_token_id",
                              "id2label",
                              "initializer_range",
                              "label2id",
                              "length_penalty",
                              "max_length",
                              "min_length",
                              "model_type",
                              "name_or_path",
                              "no_repeat_ngram_size",
                              "num_beam_groups",
                              "num_beams",
                              "num_labels",
                              "num_return_sequences",
                              "output_attentions",
                              "output_hidden_states",
                              "output_scores",
                              "pad_token_id",
                              "prefix",
                              "pretraining_tp",
                              "problem_type",
                              "remove_invalid_values",
                              "repetition_penalty",
                              "return_dict",
                              "return_dict_in_generate",
                              "sep_token_id",
                              "suppress_tokens",
                              "task_specific_params",
                              "temperature",
                              "tf_legacy_loss",
                              "tokenizer_class",
                              "top_k",
                              "top_p",
                              "torch_dtype",
                              "torchscript",
                              "transformers_version",
                              "typical_p",
                              "use_bfloat16",
                              "use_cache"};

/// Members that every family here reads.
constexpr std::array kShared{"attention_dropout",   "head_dim",
                             "hidden_act",          "hidden_size",
                             "intermediate_size",   "max_position_embeddings",
                             "num_attention_heads", "num_hidden_layers",
                             "num_key_value_heads", "partial_rotary_factor",
                             "rms_norm_eps",        "rope_parameters",
                             "rope_scaling",        "rope_theta",
                             "tie_word_embeddings", "vocab_size"};

struct Family {
  const char* name;
  std::array<const char*, 4> own;  ///< members that only this family reads; "" where there are fewer
  std::int64_t kv_heads;           ///< the reference's default; 0: as many as heads
  std::int64_t context;            ///< the reference's default
};
constexpr std::array kFamilies{
    Family{"llama", {"attention_bias", "mlp_bias", "", ""}, 0, 2048},
    Family{"mistral", {"sliding_window", "", "", ""}, 8, 131072},
    Family{"qwen2", {"sliding_window", "use_sliding_window", "max_window_layers", "layer_types"}, 32, 32768},
};

Error unsupported(const std::string& where, const std::string& what) {
  return Error{ErrorCode::unsupported, where + ": " + what};
}

bool is_neutral(const Json& value) {
  switch (value.kind()) {
    case Json::Kind::null:
      return true;
    case Json::Kind::boolean:
    case Json::Kind::integer:
    case Json::Kind::real:
      return value == Json(false) || value == Json(0) || value == Json(0.0);
    case Json::Kind::string: {
      const auto text = value.as_string();
      return text.ok() && text.value().empty();
    }
    default:
      return value.empty();
  }
}

/// Every member is one we read, one that cannot matter, or says "off".
Status check_members(const Json& json, const Family& family, const std::string& where) {
  for (const auto& member : json.members()) {
    const auto is_it = [&](const char* name) { return member.key == name; };
    if (member.key.starts_with('_') || std::any_of(kIgnored.begin(), kIgnored.end(), is_it) ||
        std::any_of(kShared.begin(), kShared.end(), is_it) ||
        std::any_of(family.own.begin(), family.own.end(), is_it) || is_neutral(member.value)) {
      continue;
    }
    return unsupported(where, "field \"" + member.key + "\" is not one that we compute for " + family.name +
                                  " models; remove it if it does not change the result");
  }
  return {};
}

Status read_rope(const Json& json, const std::string& where, RopeConfig& rope) {
  COVEY_ASSIGN(rope.theta, json.get_double("rope_theta", 10000.0));
  const Json* scaling = json.find("rope_scaling");
  if (scaling == nullptr || scaling->is_null()) scaling = json.find("rope_parameters");
  if (scaling == nullptr || scaling->is_null()) return {};
  if (!scaling->is_object()) return Error{ErrorCode::invalid_argument, where + ": rope_scaling is not an object"};
  COVEY_ASSIGN(rope.theta, scaling->get_double("rope_theta", rope.theta));
  COVEY_ASSIGN(std::string kind, scaling->get_string("rope_type", ""));
  if (kind.empty()) {
    COVEY_ASSIGN(kind, scaling->get_string("type", "default"));
  }
  std::vector<std::string> known{"rope_type", "type", "rope_theta"};
  if (kind == "linear" || kind == "llama3") {
    known.emplace_back("factor");
    COVEY_ASSIGN(rope.factor, scaling->get_double("factor"));
    rope.scaling = kind == "linear" ? RopeScaling::linear : RopeScaling::llama3;
  } else if (kind != "default") {
    return unsupported(where, "rope_scaling of type \"" + kind + "\"; we have default, linear and llama3");
  }
  if (kind == "llama3") {
    known.insert(known.end(), {"low_freq_factor", "high_freq_factor", "original_max_position_embeddings"});
    COVEY_ASSIGN(rope.low_freq_factor, scaling->get_double("low_freq_factor"));
    COVEY_ASSIGN(rope.high_freq_factor, scaling->get_double("high_freq_factor"));
    COVEY_ASSIGN(const auto original,
                 scaling->get_int_between("original_max_position_embeddings", 1, std::int64_t{1} << 24));
    rope.original_context = static_cast<int>(original);
  }
  for (const auto& member : scaling->members()) {
    if (std::find(known.begin(), known.end(), member.key) == known.end() && !is_neutral(member.value)) {
      return unsupported(where, "field \"rope_scaling." + member.key + "\" with type \"" + kind + "\"");
    }
  }
  return {};
}

Status read_windows(const Json& json, const std::string& where, ModelConfig& c) {
  constexpr std::int64_t kMax = std::int64_t{1} << 24;
  const auto layers = static_cast<std::size_t>(c.layers);
  const Json* given = json.find("sliding_window");
  if (c.family == "mistral") {
    if (given != nullptr && given->is_null()) return {};
    COVEY_ASSIGN(const auto window, json.get_int_between("sliding_window", 1, kMax, 4096));
    c.window.assign(layers, static_cast<int>(window));
  } else if (c.family == "qwen2") {
    COVEY_ASSIGN(const bool use, json.get_bool("use_sliding_window", false));
    if (use && !(given != nullptr && given->is_null())) {
      COVEY_ASSIGN(const auto window, json.get_int_between("sliding_window", 1, kMax, 4096));
      COVEY_ASSIGN(const auto first, json.get_int_between("max_window_layers", 0, kMax, 28));
      c.window.assign(layers, 0);
      for (std::size_t i = static_cast<std::size_t>(first); i < layers; ++i) c.window[i] = static_cast<int>(window);
    }
    const Json* types = json.find("layer_types");
    if (types == nullptr || types->is_null()) return {};
    COVEY_ASSIGN(const auto names, json.get_strings("layer_types"));
    for (std::size_t i = 0; i < std::max(names.size(), layers); ++i) {
      const bool slides = i < layers && c.window_of(static_cast<int>(i)) > 0;
      if (i >= names.size() || i >= layers || names[i] != (slides ? "sliding_attention" : "full_attention")) {
        return unsupported(where,
                           "field \"layer_types\" differs from what use_sliding_window and max_window_layers say");
      }
    }
  }
  return {};
}

Status read_tokens(const Json& json, ModelConfig& c) {
  constexpr std::int64_t kMax = std::int64_t{1} << 31;
  COVEY_ASSIGN(const auto bos, json.get_int_between("bos_token_id", -1, kMax - 1, -1));
  COVEY_ASSIGN(const auto pad, json.get_int_between("pad_token_id", -1, kMax - 1, -1));
  c.bos_id = static_cast<int>(bos);
  c.pad_id = static_cast<int>(pad);
  const Json* eos = json.find("eos_token_id");
  if (eos != nullptr && eos->is_array()) {
    COVEY_ASSIGN(const auto ids, json.get_ints("eos_token_id"));
    for (const std::int64_t id : ids) {
      if (id < 0 || id >= kMax) return json.error_at("eos_token_id", "is not a list of token ids");
      c.eos_ids.push_back(static_cast<int>(id));
    }
  } else {
    COVEY_ASSIGN(const auto id, json.get_int_between("eos_token_id", -1, kMax - 1, -1));
    if (id >= 0) c.eos_ids.push_back(static_cast<int>(id));
  }
  return {};
}

Status read_sizes(const Json& json, const Family& family, ModelConfig& c) {
  const auto read = [&](const char* key, std::int64_t max, int& to) -> Status {
    COVEY_ASSIGN(const auto value, json.get_int_between(key, 1, max));
    to = static_cast<int>(value);
    return {};
  };
  COVEY_TRY(read("vocab_size", 1 << 24, c.vocab_size));
  COVEY_TRY(read("hidden_size", 1 << 16, c.hidden_size));
  COVEY_TRY(read("intermediate_size", 1 << 20, c.intermediate_size));
  COVEY_TRY(read("num_hidden_layers", 1024, c.layers));
  COVEY_TRY(read("num_attention_heads", 1024, c.heads));
  COVEY_ASSIGN(const auto kv,
               json.get_int_between("num_key_value_heads", 1, 1024, family.kv_heads > 0 ? family.kv_heads : c.heads));
  COVEY_ASSIGN(const auto dim, json.get_int_between("head_dim", 2, 4096, std::max(2, c.hidden_size / c.heads)));
  COVEY_ASSIGN(const auto context,
               json.get_int_between("max_position_embeddings", 1, std::int64_t{1} << 24, family.context));
  c.kv_heads = static_cast<int>(kv);
  c.head_dim = static_cast<int>(dim);
  c.context_max = static_cast<int>(context);
  return {};
}

}  // namespace

Result<ModelConfig> config_from_json(const Json& json, const std::string& where) {
  if (!json.is_object()) return Error{ErrorCode::corrupt_data, where + ": is not a JSON object"};
  COVEY_ASSIGN(const std::string type, json.get_string("model_type"));
  const auto family = std::find_if(kFamilies.begin(), kFamilies.end(), [&](const Family& f) { return type == f.name; });
  if (family == kFamilies.end()) {
    return unsupported(where, "model_type \"" + type + "\"; we have llama, mistral and qwen2");
  }
  COVEY_TRY(check_members(json, *family, where));
  ModelConfig c;
  c.family = type;
  COVEY_TRY(read_sizes(json, *family, c));
  COVEY_ASSIGN(c.norm_eps, json.get_double("rms_norm_eps", 1e-6));
  COVEY_ASSIGN(c.tied_head, json.get_bool("tie_word_embeddings", true));
  COVEY_TRY(read_rope(json, where, c.rope));
  COVEY_TRY(read_windows(json, where, c));
  COVEY_TRY(read_tokens(json, c));
  if (type == "llama") {
    COVEY_ASSIGN(c.qkv_bias, json.get_bool("attention_bias", false));
    c.o_bias = c.qkv_bias;
    COVEY_ASSIGN(c.mlp_bias, json.get_bool("mlp_bias", false));
  }
  if (type == "qwen2") c.qkv_bias = true;
  COVEY_ASSIGN(const std::string activation, json.get_string("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") {
    return unsupported(where, "hidden_act \"" + activation + "\"; these families use silu");
  }
  COVEY_ASSIGN(const double dropout, json.get_double("attention_dropout", 0.0));
  if (dropout != 0) return unsupported(where, "attention_dropout above 0; set it to 0");
  COVEY_ASSIGN(const double partial, json.get_double("partial_rotary_factor", 1.0));
  if (partial != 1) return unsupported(where, "partial_rotary_factor other than 1");
  if (auto status = check_config(c); !status.ok()) return status.error().in(where);
  return c;
}

Result<ModelConfig> config_from_hf(std::string_view json_text, const std::string& where) {
  COVEY_ASSIGN(const Json json, Json::parse(json_text, where));
  return config_from_json(json, where);
}

namespace {

Status check_family(const ModelConfig& c) {
  const auto bad = [](const std::string& what) { return Error{ErrorCode::invalid_argument, what}; };
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
  } else {
    return bad("family \"" + c.family + "\"; we have llama, mistral and qwen2");
  }
  return {};
}

}  // namespace

Status check_config(const ModelConfig& c) {
  const auto bad = [](const std::string& what) { return Error{ErrorCode::invalid_argument, what}; };
  const auto within = [&](const char* name, int value, int lo, int hi) -> Status {
    if (value >= lo && value <= hi) return {};
    return bad(std::string(name) + " is " + std::to_string(value) + "; it must be from " + std::to_string(lo) + " to " +
               std::to_string(hi));
  };
  COVEY_TRY(within("vocab_size", c.vocab_size, 1, 1 << 24));
  COVEY_TRY(within("hidden_size", c.hidden_size, 1, 1 << 16));
  COVEY_TRY(within("intermediate_size", c.intermediate_size, 1, 1 << 20));
  COVEY_TRY(within("layers (num_hidden_layers)", c.layers, 1, 1024));
  COVEY_TRY(within("heads (num_attention_heads)", c.heads, 1, 1024));
  COVEY_TRY(within("kv_heads (num_key_value_heads)", c.kv_heads, 1, c.heads));
  COVEY_TRY(within("head_dim", c.head_dim, 2, 4096));
  COVEY_TRY(within("context_max (max_position_embeddings)", c.context_max, 1, 1 << 24));
  if (c.heads % c.kv_heads != 0) return bad("heads is not a multiple of kv_heads");
  if (c.head_dim % 2 != 0) return bad("head_dim is odd; rotary positions need pairs");
  if (!(c.norm_eps > 0 && c.norm_eps < 1)) return bad("norm_eps (rms_norm_eps) must lie between 0 and 1");
  if (!(c.rope.theta > 0 && std::isfinite(c.rope.theta))) return bad("rope_theta must be positive");
  if (!(c.rope.factor > 0 && std::isfinite(c.rope.factor))) return bad("rope_scaling.factor must be positive");
  if (c.rope.scaling == RopeScaling::llama3 &&
      !(c.rope.low_freq_factor > 0 && c.rope.high_freq_factor > c.rope.low_freq_factor &&
        std::isfinite(c.rope.high_freq_factor) && c.rope.original_context > 0)) {
    return bad("rope_scaling: 0 < low_freq_factor < high_freq_factor must hold");
  }
  if (!c.window.empty() && c.window.size() != static_cast<std::size_t>(c.layers)) {
    return bad("window has not one entry per layer");
  }
  for (const int window : c.window) COVEY_TRY(within("window (sliding_window)", window, 0, 1 << 24));
  return check_family(c);
}

std::string config_to_hf(const ModelConfig& c) {
  Json json = Json::object({{"model_type", c.family},
                            {"vocab_size", c.vocab_size},
                            {"hidden_size", c.hidden_size},
                            {"intermediate_size", c.intermediate_size},
                            {"num_hidden_layers", c.layers},
                            {"num_attention_heads", c.heads},
                            {"num_key_value_heads", c.kv_heads},
                            {"head_dim", c.head_dim},
                            {"max_position_embeddings", c.context_max},
                            {"rms_norm_eps", c.norm_eps},
                            {"tie_word_embeddings", c.tied_head},
                            {"hidden_act", "silu"},
                            {"rope_theta", c.rope.theta},
                            {"torch_dtype", "float32"}});
  const char* architecture = c.family == "llama"     ? "LlamaForCausalLM"
                             : c.family == "mistral" ? "MistralForCausalLM"
                                                     : "Qwen2ForCausalLM";
  json.set("architectures", Json::array({architecture}));
  if (c.rope.scaling == RopeScaling::linear) {
    json.set("rope_scaling", Json::object({{"rope_type", "linear"}, {"factor", c.rope.factor}}));
  } else if (c.rope.scaling == RopeScaling::llama3) {
    json.set("rope_scaling", Json::object({{"rope_type", "llama3"},
                                           {"factor", c.rope.factor},
                                           {"low_freq_factor", c.rope.low_freq_factor},
                                           {"high_freq_factor", c.rope.high_freq_factor},
                                           {"original_max_position_embeddings", c.rope.original_context}}));
  }
  const int window = c.window.empty() ? 0 : c.window.back();
  if (c.family == "llama") {
    json.set("attention_bias", c.qkv_bias);
    json.set("mlp_bias", c.mlp_bias);
  } else if (c.family == "mistral") {
    json.set("sliding_window", window > 0 ? Json(window) : Json());
  } else {
    json.set("use_sliding_window", window > 0);
    if (window > 0) {
      const auto first = std::find(c.window.begin(), c.window.end(), window) - c.window.begin();
      json.set("sliding_window", window);
      json.set("max_window_layers", static_cast<std::int64_t>(first));
    }
  }
  if (c.bos_id >= 0) json.set("bos_token_id", c.bos_id);
  if (c.pad_id >= 0) json.set("pad_token_id", c.pad_id);
  if (c.eos_ids.size() == 1) {
    json.set("eos_token_id", c.eos_ids.front());
  } else if (!c.eos_ids.empty()) {
    json.set("eos_token_id", Json(c.eos_ids));
  }
  return json.dump_pretty();
}

std::vector<float> rope_angles(const ModelConfig& config, int positions) {
  const RopeConfig& rope = config.rope;
  const int half = config.head_dim / 2;
  std::vector<float> inverse(static_cast<std::size_t>(half));
  for (int i = 0; i < half; ++i) {
    double f = 1.0 / std::pow(rope.theta, 2.0 * i / config.head_dim);
    if (rope.scaling == RopeScaling::linear) f /= rope.factor;
    if (rope.scaling == RopeScaling::llama3) {
      // Long waves are stretched by `factor`, short ones kept, those between blended. Source: Hugging Face,
      // modeling_rope_utils.py.
      const double turns = rope.original_context * f / (2 * std::numbers::pi);
      const double blend =
          std::clamp((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0);
      f = (1 - blend) * f / rope.factor + blend * f;
    }
    inverse[static_cast<std::size_t>(i)] = static_cast<float>(f);
  }
  std::vector<float> angles;
  angles.reserve(static_cast<std::size_t>(positions) * inverse.size());
  for (int p = 0; p < positions; ++p) {
    for (const float f : inverse) angles.push_back(static_cast<float>(p) * f);
  }
  return angles;
}

}  // namespace covey::model

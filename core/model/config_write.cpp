#include <algorithm>

#include "core/formats/json.h"
#include "core/model/config.h"

namespace covey::model {
namespace {

using formats::Json;

bool llama_like(const ModelConfig& c) {
  return c.family == "llama" || c.family == "mistral" || c.family == "qwen2" || c.family == "qwen3";
}

void write_rope(const RopeConfig& rope, int context, Json& json) {
  json.set("rope_theta", rope.theta);
  if (rope.scaling == RopeScaling::linear) {
    json.set("rope_scaling", Json::object({{"rope_type", "linear"}, {"factor", rope.factor}}));
  } else if (rope.scaling == RopeScaling::dynamic) {
    json.set("rope_scaling", Json::object({{"rope_type", "dynamic"}, {"factor", rope.factor}}));
  } else if (rope.scaling == RopeScaling::yarn) {
    // Without original_max_position_embeddings the context itself is the original one.
    Json yarn = Json::object({{"rope_type", "yarn"},
                              {"factor", rope.factor},
                              {"beta_fast", rope.beta_fast},
                              {"beta_slow", rope.beta_slow},
                              {"truncate", rope.truncate},
                              {"attention_factor", rope.attention_factor}});
    if (rope.original_context != context) yarn.set("original_max_position_embeddings", rope.original_context);
    json.set("rope_scaling", yarn);
  } else if (rope.scaling == RopeScaling::longrope) {
    json.set("original_max_position_embeddings", rope.original_context);
    json.set("rope_scaling", Json::object({{"rope_type", "longrope"},
                                           {"short_factor", rope.short_factor},
                                           {"long_factor", rope.long_factor},
                                           {"attention_factor", rope.attention_factor}}));
  } else if (rope.scaling == RopeScaling::llama3) {
    json.set("rope_scaling", Json::object({{"rope_type", "llama3"},
                                           {"factor", rope.factor},
                                           {"low_freq_factor", rope.low_freq_factor},
                                           {"high_freq_factor", rope.high_freq_factor},
                                           {"original_max_position_embeddings", rope.original_context}}));
  }
}

void write_family(const ModelConfig& c, Json& json) {
  const int window = c.window.empty() ? 0 : c.window.back();
  if (c.family == "llama") {
    json.set("attention_bias", c.qkv_bias);
    json.set("mlp_bias", c.mlp_bias);
  } else if (c.family == "mistral") {
    json.set("sliding_window", window > 0 ? Json(window) : Json());
  } else {
    if (c.family == "qwen3") json.set("attention_bias", c.qkv_bias);
    json.set("use_sliding_window", window > 0);
    if (window > 0) {
      const auto first = std::find(c.window.begin(), c.window.end(), window) - c.window.begin();
      json.set("sliding_window", window);
      json.set("max_window_layers", static_cast<std::int64_t>(first));
    }
  }
}

const char* architecture_of(const ModelConfig& c) {
  if (c.family == "mistral") return "MistralForCausalLM";
  if (c.family == "qwen2") return "Qwen2ForCausalLM";
  return c.family == "qwen3" ? "Qwen3ForCausalLM" : "LlamaForCausalLM";
}

}  // namespace

std::string config_to_hf(const ModelConfig& c) {
  if (!llama_like(c) || c.task != Task::causal_lm) {
    auto json = Json::parse(c.source);
    if (!json.ok()) return {};
    json.value().set("torch_dtype", "float32");
    return json.value().dump_pretty();
  }
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
                            {"torch_dtype", "float32"}});
  json.set("architectures", Json::array({architecture_of(c)}));
  write_rope(c.rope, c.context_max, json);
  write_family(c, json);
  if (c.bos_id >= 0) json.set("bos_token_id", c.bos_id);
  if (c.pad_id >= 0) json.set("pad_token_id", c.pad_id);
  if (c.eos_ids.size() == 1) {
    json.set("eos_token_id", c.eos_ids.front());
  } else if (!c.eos_ids.empty()) {
    json.set("eos_token_id", Json(c.eos_ids));
  }
  return json.dump_pretty();
}

}  // namespace covey::model

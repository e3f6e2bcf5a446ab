/// What a model computes: the sizes and choices read from Hugging Face's config.json or a llama2.c header.
/// A family is a table from its config.json to this structure; every field that changes what is computed is honoured or
/// refused by name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"

namespace covey::model {

enum class RopeScaling { none, linear, llama3 };

/// Rotary position embedding. Rows of q and k are always in Hugging Face's order (element i turns with i + D/2): files
/// that pair neighbours (llama2.c, GGUF) are reordered when they are read.
struct RopeConfig {
  double theta = 10000;
  RopeScaling scaling = RopeScaling::none;
  double factor = 1;  ///< linear, llama3
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  int original_context = 0;  ///< llama3
};

/// Letters as in the kernels: V vocabulary, H hidden, I intermediate, L layers, D head_dim.
struct ModelConfig {
  std::string family = "llama";  ///< Hugging Face model_type: llama, mistral, qwen2
  int vocab_size = 0;            ///< V
  int hidden_size = 0;           ///< H
  int intermediate_size = 0;     ///< I
  int layers = 0;                ///< L
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;     ///< D; heads * D need not be H
  int context_max = 0;  ///< positions
  double norm_eps = 1e-5;
  bool tied_head = true;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;
  RopeConfig rope;
  std::vector<int> window;  ///< per layer: a query at i sees keys i-W+1..i; 0 = all. Empty = 0 everywhere

  int bos_id = -1;           ///< -1: none
  std::vector<int> eos_ids;  ///< any of them ends generation
  int pad_id = -1;

  [[nodiscard]] int q_width() const { return heads * head_dim; }
  [[nodiscard]] int kv_width() const { return kv_heads * head_dim; }
  [[nodiscard]] int window_of(int layer) const { return window.empty() ? 0 : window[static_cast<std::size_t>(layer)]; }
};

/// Whether the numbers make a model that fits our bounds. @errors invalid_argument, naming the field.
[[nodiscard]] Status check_config(const ModelConfig& config);

/// Reads the text of a config.json. `where` leads every message.
/// @errors corrupt_data: not JSON, a missing or ill-typed field. unsupported: a field or family we do not compute.
Result<ModelConfig> config_from_hf(std::string_view json_text, const std::string& where);
/// The config.json that config_from_hf reads back to an equal ModelConfig.
std::string config_to_hf(const ModelConfig& config);

/// The first context_max x D/2 angles: table[p * D/2 + i] = p * inverse frequency i, scaled as the configuration says.
/// Rounded as the reference implementation does (f32 frequencies, f32 product).
std::vector<float> rope_angles(const ModelConfig& config, int positions);

}  // namespace covey::model

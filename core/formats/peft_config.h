/// adapter_config.json, as PEFT writes it. Source: huggingface/peft, src/peft/config.py, utils/peft_types.py, and
/// tuners/{lora,ia3,prompt_tuning,prefix_tuning}/config.py.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.h"
#include "core/formats/json.h"

namespace covey::formats {

inline constexpr std::int64_t kRankMax = 1 << 16;

/// Module names; or, where the file has one text instead of a list, a regular expression or "all-linear".
struct PeftNames {
  PeftNames(std::vector<std::string> list = {}, bool text = false)  // NOLINT: implicit by design
      : names(std::move(list)), is_text(text) {}
  std::vector<std::string> names;
  bool is_text = false;  ///< written as one text
  [[nodiscard]] bool empty() const { return names.empty(); }
};

/// What an adapter is. An option that changes the computation and is not here is refused by name when it is set
/// (use_dora, layer_replication, ...), and so is any unknown one; keys without effect on a stored adapter are kept.
struct PeftConfig {
  std::string peft_type = "LORA";  ///< LORA, IA3, PROMPT_TUNING or PREFIX_TUNING
  std::string task_type = "CAUSAL_LM";
  std::string base_model_name_or_path;
  std::string revision;  ///< empty: null
  bool inference_mode = true;
  std::string peft_version;

  // LORA and IA3
  PeftNames target_modules;
  PeftNames exclude_modules;
  bool fan_in_fan_out = false;  ///< the layers store [in, out]; only merging needs to know
  std::vector<std::string> modules_to_save;

  // LORA
  int r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  bool use_rslora = false;
  std::string bias = "none";  ///< or "all", "lora_only"
  /// In the file's order: PEFT takes the first name that fits a module.
  std::vector<std::pair<std::string, int>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::vector<std::int64_t> layers_to_transform;  ///< empty: null
  PeftNames layers_pattern;

  // IA3
  PeftNames feedforward_modules;

  // PROMPT_TUNING and PREFIX_TUNING
  int num_virtual_tokens = 0;
  int token_dim = 0;  ///< 0: null, like the next three
  int num_transformer_submodules = 1;
  int num_attention_heads = 0;
  int num_layers = 0;
  // PROMPT_TUNING
  std::string prompt_tuning_init = "RANDOM";
  std::string prompt_tuning_init_text;
  std::string tokenizer_name_or_path;
  // PREFIX_TUNING
  int encoder_hidden_size = 0;
  bool prefix_projection = false;  ///< how the prefix was trained; the stored values are the projected ones

  Json source;  ///< the object that was read; null for a new configuration
};

/// @param where opens every message. @errors corrupt_data, invalid_argument, unsupported (each names the key).
Result<PeftConfig> parse_peft_config(std::string_view json, const std::string& where);

/// The bytes that PEFT writes: indent 2, keys sorted, characters beyond ASCII escaped, no line break at the end. A
/// configuration that was read comes out with its own keys and spelling, changed only where a field was changed since.
std::string peft_config_text(const PeftConfig& config);

}  // namespace covey::formats

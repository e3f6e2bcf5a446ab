/// PEFT adapter directories: adapter_config.json, adapter_model.safetensors, README.md. Source: huggingface/peft,
/// docs/source/developer_guides/checkpoint.md, utils/save_and_load.py, tuners/lora/{config,layer}.py.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"

namespace covey::formats {

/// adapter_config.json, the fields that say what is computed. A field we would have to compute differently for is
/// refused by name when read (use_dora, bias, modules_to_save, ...), and so is an unknown one that is set.
struct PeftConfig {
  std::string peft_type = "LORA";  ///< or PROMPT_TUNING
  std::string task_type = "CAUSAL_LM";
  std::string base_model_name_or_path;
  std::string revision;  ///< empty: null
  bool inference_mode = true;
  std::string peft_version;

  // LORA
  int r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  bool use_rslora = false;
  std::vector<std::string>
      target_modules;                   ///< names, or one of "all-linear" or a regular expression where the next says
  bool target_modules_is_text = false;  ///< written as one string in the file
  std::vector<std::string> exclude_modules;
  std::map<std::string, int> rank_pattern;
  std::map<std::string, double> alpha_pattern;
  std::vector<std::int64_t> layers_to_transform;  ///< empty: null
  std::vector<std::string> layers_pattern;

  // PROMPT_TUNING
  int num_virtual_tokens = 0;
  int token_dim = 0;
  int num_transformer_submodules = 1;
  int num_attention_heads = 0;
  int num_layers = 0;
  std::string prompt_tuning_init = "RANDOM";
  std::string prompt_tuning_init_text;
  std::string tokenizer_name_or_path;
};

struct NamedF32 {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

struct PeftAdapter {
  PeftConfig config;
  std::vector<NamedF32> tensors;  ///< sorted by name when read
};

/// The names PEFT gives to the LoRA pair of a module path such as "model.layers.0.self_attn.q_proj".
std::string peft_lora_name(std::string_view module_path, char a_or_b);

/// One adapted module of an adapter that was read.
struct PeftLoraPair {
  std::string module_path;
  const NamedF32* a = nullptr;  ///< (R, in)
  const NamedF32* b = nullptr;  ///< (out, R)
};
/// The pairs of a LORA adapter, sorted by path; borrowed. @errors corrupt_data: an A without B, shapes that do not fit
/// each other; unsupported: a tensor that is no LoRA pair of a linear layer (its name is said).
Result<std::vector<PeftLoraPair>> peft_lora_pairs(const PeftAdapter& adapter);

/// @param where opens every message. @errors corrupt_data, invalid_argument, unsupported (each names the key).
Result<PeftConfig> parse_peft_config(std::string_view json, const std::string& where);
/// Indent 2, sorted keys, the keys PEFT itself writes.
std::string peft_config_text(const PeftConfig& config);

/// Tensors of F16 or BF16 are widened. LoRA pairs and the prompt's shape are checked.
/// @errors also not_found, and unsupported where the tensors are a pickle (adapter_model.bin).
Result<PeftAdapter> read_peft_directory(const std::string& directory);
/// Makes the directory where needed. The configuration is written last, so a directory cut short is not an adapter.
/// @errors invalid_argument: a tensor's shape does not fit its values; io_error.
[[nodiscard]] Status write_peft_directory(const std::string& directory, const PeftAdapter& adapter);

}  // namespace covey::formats

/// PEFT adapter directories: adapter_config.json, adapter_model.safetensors (or the older adapter_model.bin),
/// README.md. Source: huggingface/peft, docs/source/developer_guides/checkpoint.md, utils/save_and_load.py;
/// microsoft/LoRA, loralib/layers.py for state dicts of its own.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/formats/peft_config.h"
#include "core/formats/tensor.h"

namespace covey::formats {

/// A tensor that owns its bytes, so that a file comes out as it went in, F16 as F16.
struct PeftTensor {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  Bytes bytes;  ///< little-endian, row-major
  /// Borrowed.
  [[nodiscard]] TensorView view() const { return {.name = name, .dtype = dtype, .shape = shape, .bytes = bytes}; }
};
/// An F32 tensor of these values.
PeftTensor peft_tensor(std::string name, std::vector<std::int64_t> shape, std::span<const float> values);

struct PeftAdapter {
  PeftConfig config;
  std::vector<PeftTensor> tensors;  ///< sorted by name when read
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
};

/// What a tensor of an adapter is.
enum class PeftRole {
  lora_a,            ///< [r, in]
  lora_b,            ///< [out, r]
  lora_embedding_a,  ///< [r, vocabulary]
  lora_embedding_b,  ///< [width, r]
  ia3,               ///< [out, 1], or [1, in] of a feedforward module
  prompt,            ///< prompt_embeddings
  bias,              ///< of the base model, trained (bias = all, lora_only)
  saved,             ///< of a module that was trained whole (modules_to_save), or an embedding that PEFT kept beside
};
struct PeftPlace {
  PeftRole role = PeftRole::prompt;
  std::string module_path;  ///< "model.layers.0.self_attn.q_proj"; empty for a prompt
};
/// @errors unsupported: the name is none that this kind of adapter has (it is said).
Result<PeftPlace> peft_place(const PeftConfig& config, std::string_view tensor_name);

/// The names PEFT gives to the LoRA pair of a module path such as "model.layers.0.self_attn.q_proj".
std::string peft_lora_name(std::string_view module_path, char a_or_b);

/// And to the vector of an IA3 module.
std::string peft_ia3_name(std::string_view module_path);

/// One adapted module of an adapter that was read.
struct PeftLoraPair {
  std::string module_path;
  const PeftTensor* a = nullptr;  ///< (R, in)
  const PeftTensor* b = nullptr;  ///< (out, R)
  bool embedding = false;         ///< A (R, vocabulary), B (width, R)
};
/// The pairs of a LORA adapter, sorted by path; borrowed. Tensors of other roles are passed over.
/// @errors corrupt_data: an A without B, shapes that do not fit each other; unsupported: as peft_place.
Result<std::vector<PeftLoraPair>> peft_lora_pairs(const PeftAdapter& adapter);

/// Names, shapes and element types as the configuration wants them. Reading and writing do this.
/// @errors corrupt_data, unsupported; each names the tensor.
[[nodiscard]] Status check_peft_adapter(const PeftAdapter& adapter);

/// @errors not_found; what parse_peft_config, check_peft_adapter and the tensor file's reader report.
Result<PeftAdapter> read_peft_directory(const std::string& directory);
/// Makes the directory where needed. The configuration is written last, so a directory cut short is not an adapter.
/// An adapter that was read gives the same adapter_config.json and adapter_model.safetensors byte for byte, where PEFT
/// wrote them. @errors as check_peft_adapter; invalid_argument: a tensor's shape does not fit its bytes; io_error.
[[nodiscard]] Status write_peft_directory(const std::string& directory, const PeftAdapter& adapter);

struct StateDictOptions {
  double alpha = 0;  ///< LoRA's alpha, which such a file does not hold; > 0
  std::string task_type = "CAUSAL_LM";
  std::string base_model_name_or_path{};
};
/// The adapter that loralib's `lora_state_dict` holds: `<module>.lora_A` and `.lora_B`, and other parameters that were
/// trained beside them, which become modules_to_save.
/// @param where opens every message.
/// @errors invalid_argument: no alpha; corrupt_data: halves that do not fit (loralib's MergedLinear is one such);
/// not_found: no LoRA pair at all.
Result<PeftAdapter> peft_from_state_dict(std::span<const TensorView> tensors, const StateDictOptions& options,
                                         const std::string& where);

}  // namespace covey::formats

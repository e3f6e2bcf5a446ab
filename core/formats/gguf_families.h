/// How an architecture's GGUF differs from its Hugging Face directory: names of tensors, order of rows, configuration.
/// Source: llama.cpp, convert_hf_to_gguf.py, gguf-py/gguf/tensor_mapping.py and constants.py; formats.md.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/formats/gguf.h"
#include "core/formats/gguf_writer.h"
#include "core/formats/json.h"

namespace covey::formats {

struct GgufName {
  std::string_view hf;    ///< after "model.layers.N.", without ".weight" or ".bias"
  std::string_view gguf;  ///< after "blk.N."
};

struct GgufFamily {
  std::string_view architecture;  ///< general.architecture
  std::string_view model_type;    ///< config.json
  std::string_view class_name;    ///< config.json's architectures
  bool paired = false;            ///< rows of q and k: RoPE turns neighbours there, halves in Hugging Face's order
  std::span<const GgufName> names;
};

/// The family of a GGUF's general.architecture. @errors unsupported, naming those that are known.
Result<const GgufFamily*> gguf_family(std::string_view architecture);
/// The family of a config.json's model_type (mistral is written as llama, as llama.cpp does). @errors unsupported.
Result<const GgufFamily*> gguf_family_of_type(std::string_view model_type);

/// Empty where the family has no such tensor.
std::string gguf_tensor_name(const GgufFamily& family, std::string_view hf_name);
std::string hf_tensor_name(const GgufFamily& family, std::string_view gguf_name);

/// Whether rows of the tensor of this GGUF name are stored in pairs.
bool is_paired(const GgufFamily& family, std::string_view gguf_name);
/// Rows (of any type; a bias has rows of one value) from Hugging Face's order to GGUF's: row h D + i + j D/2 of head h
/// goes to h D + 2 i + j. `bytes` holds heads * D rows; D even (asserted).
Bytes to_pairs(ByteSpan bytes, std::int64_t rows, std::int64_t heads);
/// The inverse.
Bytes from_pairs(ByteSpan bytes, std::int64_t rows, std::int64_t heads);

/// The configuration as a config.json says it, every field that is computed stated. The vocabulary's size is that of
/// the embedding. @errors corrupt_data: a key missing or ill-typed; unsupported: a key that changes what is computed
/// and that we do not know, by name.
Result<Json> hf_config_of(const GgufFile& file);
/// The inverse, into the writer: general.architecture, the architecture's own keys, and, where RoPE is scaled as in
/// Llama 3, the tensor rope_freqs.weight. `config` states every field, as hf_config_of gives it.
/// @errors unsupported: a field that GGUF has no key for, by name; invalid_argument: a field missing.
Status gguf_config_of(const Json& config, GgufWriter& out);
/// bos, eos (the first two of a list, as eos and eot) and pad ids, where the vocabulary that was written before has not
/// said them. @errors unsupported: more than two eos ids.
Status gguf_token_ids_of(const Json& config, GgufWriter& out);

}  // namespace covey::formats

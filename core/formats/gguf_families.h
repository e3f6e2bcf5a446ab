/// How an architecture's GGUF differs from its Hugging Face directory: names of tensors, order of rows, configuration.
/// Source: llama.cpp, convert_hf_to_gguf.py, gguf-py/gguf/tensor_mapping.py and constants.py; formats.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/formats/ggml_types.h"
#include "core/formats/gguf.h"
#include "core/formats/gguf_writer.h"
#include "core/formats/json.h"

namespace covey::formats {

struct GgufName {
  std::string_view hf;    ///< after the layer's number, or whole, without ".weight" or ".bias"
  std::string_view gguf;  ///< after "blk.N.", or whole
};

/// A field of config.json beside the sizes, and its key after "ARCHITECTURE.".
struct GgufField {
  std::string_view field, key;
  enum class Kind : std::uint8_t { size, real, flag } kind = Kind::size;
};

/// A field of config.json that has one value in all models that GGUF can hold: no key says it.
struct GgufFixed {
  std::string_view field;
  std::string_view value;  ///< as JSON
};

/// How config.json calls what every model has; "" where it does not say it.
struct GgufSizes {
  std::string_view context = "max_position_embeddings", hidden = "hidden_size", layers = "num_hidden_layers";
  std::string_view inner = "intermediate_size";  ///< where it is not said or null, 4 x hidden
  std::string_view heads = "num_attention_heads", kv_heads = "num_key_value_heads", head_dim = "head_dim";
  std::string_view epsilon = "rms_norm_eps";
};

struct GgufFamily {
  std::string_view architecture;  ///< general.architecture
  std::string_view model_type;    ///< config.json
  std::string_view class_name;    ///< config.json's architectures
  std::span<const GgufName> names;
  std::span<const GgufName> globals;  ///< outside the layers; the embedding is called token_embd, the head output
  std::string_view layers = "model.layers.";
  GgufSizes sizes = {};
  bool rms = true;  ///< the key of the epsilon: attention.layer_norm_rms_epsilon or layer_norm_epsilon
  bool rope = true;
  std::string_view rotated = {};  ///< the field for the share of a head that RoPE turns; "": all of it
  std::span<const GgufFixed> fixed = {};
  std::span<const GgufField> fields = {};
  /// Flags that a tensor's presence says: field, and the tensor's name in GGUF.
  std::span<const GgufName> by_tensor = {};
  bool paired = false;      ///< rows of q and k: RoPE turns neighbours there, halves in Hugging Face's order
  bool apart = false;       ///< rows of qkv: q, k, v of every head in turn in Hugging Face's order, apart there
  bool transposed = false;  ///< matrices of layers lie (in, out) in Hugging Face's order
  bool plus_one = false;    ///< norms are stored plus one there
};

/// The family of a GGUF's general.architecture. @errors unsupported, naming those that are known.
Result<const GgufFamily*> gguf_family(std::string_view architecture);
/// The family of a config.json's model_type (mistral is written as llama, as llama.cpp does). @errors unsupported.
Result<const GgufFamily*> gguf_family_of_type(std::string_view model_type);

/// Empty where the family has no such tensor.
std::string gguf_tensor_name(const GgufFamily& family, std::string_view hf_name);
std::string hf_tensor_name(const GgufFamily& family, std::string_view gguf_name);

/// How a tensor's bytes differ between the two files.
struct GgufChange {
  enum class Kind : std::uint8_t { none, pairs, apart, transposed, plus_one } kind = Kind::none;
  std::int64_t heads = 0;  ///< of pairs and apart

  [[nodiscard]] explicit operator bool() const { return kind != Kind::none; }
  /// Whether rows change places, of any type and width: then a LoRA's B changes as its matrix does.
  [[nodiscard]] bool moves_rows() const { return kind == Kind::pairs || kind == Kind::apart; }
};
GgufChange gguf_change(const GgufFamily& family, std::string_view gguf_name, std::int64_t heads, std::int64_t kv_heads);

/// One tensor from Hugging Face's order to GGUF's (`to_gguf`) or back. `shape` is that of `bytes` and becomes that of
/// the result. @errors corrupt_data: rows that the heads do not divide; unsupported: a transposed or shifted tensor of
/// blocks.
Result<Bytes> gguf_changed(const GgufChange& change, const GgmlTypeInfo& type, std::vector<std::int64_t>& shape,
                           ByteSpan bytes, bool to_gguf);

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

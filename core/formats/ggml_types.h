/// Element types of GGUF tensors: their numbers, names, and how many bytes a block of elements takes. Source: ggml.h,
/// ggml-common.h. Quantized types store rows in blocks; a row is a whole number of blocks.
#pragma once

#include <cstddef>
#include <cstdint>

namespace covey::formats {

/// The numbers in the file. Those we compute with have names here; others are known to ggml_type_info only, so that a
/// file's layout can be checked and an unsupported tensor named.
enum class GgmlType : std::uint32_t {
  f32 = 0,
  f16 = 1,
  q4_0 = 2,
  q4_1 = 3,
  q5_0 = 6,
  q5_1 = 7,
  q8_0 = 8,
  q4_k = 12,
  q5_k = 13,
  q6_k = 14,
  bf16 = 30
};

struct GgmlTypeInfo {
  const char* name;         ///< as llama.cpp prints it, e.g. "Q4_K"
  std::uint32_t number;     ///< in the file
  std::size_t block;        ///< elements of a block
  std::size_t block_bytes;  ///< bytes of a block
};

/// nullptr: no type has this number (or a later version of ggml defined it).
const GgmlTypeInfo* ggml_type_info(std::uint32_t number);
inline const GgmlTypeInfo& ggml_type_info(GgmlType type) {
  return *ggml_type_info(static_cast<std::uint32_t>(type));
}

}  // namespace covey::formats

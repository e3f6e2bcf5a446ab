/// A tensor as it lies in a file: name, element type, shape, borrowed bytes; and its conversion to what we compute
/// with.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey::formats {

/// In safetensors' order: by alignment, so that a writer can sort by it.
enum class DType : std::uint8_t {
  boolean,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  f64,
  i64,
  u64
};

/// safetensors' name, e.g. "BF16".
const char* to_string(DType dtype);
/// Bytes of one element.
std::size_t size_of(DType dtype);
/// @errors unsupported: a name that safetensors does not define.
Result<DType> dtype_from(std::string_view name);

/// Borrows its bytes (little-endian, row-major) from the file or buffer it came from.
struct TensorView {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  ByteSpan bytes;

  [[nodiscard]] std::int64_t elements() const { return static_cast<std::int64_t>(bytes.size() / size_of(dtype)); }
  /// "[2, 3]"
  [[nodiscard]] std::string shape_text() const;
};

/// The values where they lie. @errors unsupported: not F32, or not aligned to 4 bytes in the file (then copy by
/// to_f32).
Result<std::span<const float>> as_f32(const TensorView& tensor);
/// F32, F16 and BF16 widened exactly. @errors unsupported: another element type.
Result<std::vector<float>> to_f32(const TensorView& tensor);
/// @param out as many values as the tensor has, else invalid_argument.
[[nodiscard]] Status to_f32(const TensorView& tensor, std::span<float> out);
/// F64, F32, F16, BF16. @errors unsupported.
Result<std::vector<double>> to_f64(const TensorView& tensor);
/// I64, I32. @errors unsupported.
Result<std::vector<std::int64_t>> to_i64(const TensorView& tensor);

float f16_to_f32(std::uint16_t bits);
inline float bf16_to_f32(std::uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(bits) << 16);
}

}  // namespace covey::formats

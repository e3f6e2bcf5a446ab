#include "core/formats/tensor.h"

#include <bit>
#include <cstring>

namespace covey::formats {
namespace {

static_assert(std::endian::native == std::endian::little, "files are read where they lie");

struct DTypeRow {
  const char* name;
  std::size_t size;
};
constexpr DTypeRow kDTypes[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E5M2", 1}, {"F8_E4M3", 1},
                                {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
                                {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};

template <typename T>
T load(ByteSpan bytes, std::size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

Error wrong_type(const TensorView& tensor, const char* wanted) {
  return {ErrorCode::unsupported,
          "tensor " + tensor.name + " holds " + to_string(tensor.dtype) + ", this needs " + wanted};
}

template <typename T>
Status widen(const TensorView& tensor, std::span<T> out) {
  const std::size_t n = out.size();
  switch (tensor.dtype) {
    case DType::f32:
      if constexpr (sizeof(T) == 4) {
        if (n > 0) std::memcpy(out.data(), tensor.bytes.data(), n * 4);
      } else {
        for (std::size_t i = 0; i < n; ++i) out[i] = load<float>(tensor.bytes, i);
      }
      return {};
    case DType::f16:
      for (std::size_t i = 0; i < n; ++i) out[i] = f16_to_f32(load<std::uint16_t>(tensor.bytes, i));
      return {};
    case DType::bf16:
      for (std::size_t i = 0; i < n; ++i) out[i] = bf16_to_f32(load<std::uint16_t>(tensor.bytes, i));
      return {};
    case DType::f64:
      if constexpr (sizeof(T) == 8) {
        for (std::size_t i = 0; i < n; ++i) out[i] = load<double>(tensor.bytes, i);
        return {};
      }
      [[fallthrough]];
    default:
      return wrong_type(tensor, "F32, F16 or BF16");
  }
}

}  // namespace

const char* to_string(DType dtype) {
  return kDTypes[static_cast<std::size_t>(dtype)].name;
}

std::size_t size_of(DType dtype) {
  return kDTypes[static_cast<std::size_t>(dtype)].size;
}

Result<DType> dtype_from(std::string_view name) {
  for (std::size_t i = 0; i < std::size(kDTypes); ++i) {
    if (name == kDTypes[i].name) return static_cast<DType>(i);
  }
  return Error{ErrorCode::unsupported, "unknown element type \"" + shown(name, 32) + "\""};
}

std::string TensorView::shape_text() const {
  std::string text = "[";
  for (const std::int64_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

Result<std::span<const float>> as_f32(const TensorView& tensor) {
  if (tensor.dtype != DType::f32) return wrong_type(tensor, "F32");
  if (reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % alignof(float) != 0) {
    return Error{ErrorCode::unsupported, "tensor " + tensor.name + " is not aligned in its file"};
  }
  return std::span<const float>(reinterpret_cast<const float*>(tensor.bytes.data()), tensor.bytes.size() / 4);
}

Status to_f32(const TensorView& tensor, std::span<float> out) {
  if (out.size() != static_cast<std::size_t>(tensor.elements())) {
    return Error{ErrorCode::invalid_argument, "tensor " + tensor.name + " has " + std::to_string(tensor.elements()) +
                                                  " values, expected " + std::to_string(out.size())};
  }
  return widen(tensor, out);
}

Result<std::vector<float>> to_f32(const TensorView& tensor) {
  std::vector<float> out(static_cast<std::size_t>(tensor.elements()));
  COVEY_TRY(widen(tensor, std::span<float>(out)));
  return out;
}

Result<std::vector<double>> to_f64(const TensorView& tensor) {
  std::vector<double> out(static_cast<std::size_t>(tensor.elements()));
  COVEY_TRY(widen(tensor, std::span<double>(out)));
  return out;
}

Result<std::vector<std::int64_t>> to_i64(const TensorView& tensor) {
  if (tensor.dtype != DType::i64 && tensor.dtype != DType::i32) return wrong_type(tensor, "I64 or I32");
  std::vector<std::int64_t> out(static_cast<std::size_t>(tensor.elements()));
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = tensor.dtype == DType::i64 ? load<std::int64_t>(tensor.bytes, i) : load<std::int32_t>(tensor.bytes, i);
  }
  return out;
}

float f16_to_f32(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000) << 16;
  const std::uint32_t exponent = (bits >> 10) & 31;
  const std::uint32_t mantissa = bits & 1023;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24, exact in f32
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
  return std::bit_cast<float>(sign | (wide << 23) | (mantissa << 13));
}

}  // namespace covey::formats

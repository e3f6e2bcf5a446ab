#include "core/formats/quant_blocks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "core/formats/tensor.h"

namespace covey::formats {
namespace {

using Byte = std::uint8_t;

template <typename T>
T load(const Byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

float half(const Byte* from) {
  return f16_to_f32(load<std::uint16_t>(from));
}

// One block each: `b` is its bytes as the struct in ggml-common.h lays them out, `y` its values. Each product and sum
// is one f32 operation in ggml's order; integers are exact.

void f32_block(const Byte* b, float* y) {
  *y = load<float>(b);
}
void f16_block(const Byte* b, float* y) {
  *y = half(b);
}
void bf16_block(const Byte* b, float* y) {
  *y = bf16_to_f32(load<std::uint16_t>(b));
}

void q4_0_block(const Byte* b, float* y) {  // d, 16 bytes of nibbles
  const float d = half(b);
  for (int j = 0; j < 16; ++j) {
    const int q = b[2 + j];
    y[j] = static_cast<float>((q & 15) - 8) * d;
    y[j + 16] = static_cast<float>((q >> 4) - 8) * d;
  }
}

void q4_1_block(const Byte* b, float* y) {  // d, m, nibbles
  const float d = half(b);
  const float m = half(b + 2);
  for (int j = 0; j < 16; ++j) {
    const int q = b[4 + j];
    y[j] = static_cast<float>(q & 15) * d + m;
    y[j + 16] = static_cast<float>(q >> 4) * d + m;
  }
}

/// Element j < 32 of five bits: a nibble and a bit of `high`.
int five_bits(const Byte* nibbles, std::uint32_t high, int j) {
  const int low = j < 16 ? nibbles[j] & 15 : nibbles[j - 16] >> 4;
  return low | (static_cast<int>(high >> j & 1) << 4);
}

void q5_0_block(const Byte* b, float* y) {  // d, 32 high bits, nibbles
  const float d = half(b);
  const auto high = load<std::uint32_t>(b + 2);
  for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(five_bits(b + 6, high, j) - 16) * d;
}

void q5_1_block(const Byte* b, float* y) {  // d, m, 32 high bits, nibbles
  const float d = half(b);
  const float m = half(b + 2);
  const auto high = load<std::uint32_t>(b + 4);
  for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(five_bits(b + 8, high, j)) * d + m;
}

void q8_0_block(const Byte* b, float* y) {  // d, 32 int8
  const float d = half(b);
  for (int j = 0; j < 32; ++j) y[j] = static_cast<float>(static_cast<std::int8_t>(b[2 + j])) * d;
}

/// Scale and minimum j < 8 of a super-block: 6 bits each in 12 bytes.
struct ScaleMin {
  int scale, minimum;
};
ScaleMin scale_min(const Byte* q, int j) {
  if (j < 4) return {q[j] & 63, q[j + 4] & 63};
  return {(q[j + 4] & 15) | (q[j - 4] >> 6 << 4), (q[j + 4] >> 4) | (q[j] >> 6 << 4)};
}

/// Q4_K: d, dmin, 12 bytes of scales, nibbles. Q5_K: with 32 bytes of high bits before the nibbles.
void k4_or_5_block(const Byte* b, const Byte* high, const Byte* nibbles, float* y) {
  const float d = half(b);
  const float minimum = half(b + 2);
  for (int part = 0; part < 8; ++part) {
    const ScaleMin s = scale_min(b + 4, part);
    const float scale = d * static_cast<float>(s.scale);
    const float offset = minimum * static_cast<float>(s.minimum);
    const Byte* q = nibbles + part / 2 * 32;
    for (int l = 0; l < 32; ++l) {
      int value = part % 2 == 0 ? q[l] & 15 : q[l] >> 4;
      if (high != nullptr) value |= (high[l] >> part & 1) << 4;
      *y++ = scale * static_cast<float>(value) - offset;
    }
  }
}
void q4_k_block(const Byte* b, float* y) {
  k4_or_5_block(b, nullptr, b + 16, y);
}
void q5_k_block(const Byte* b, float* y) {
  k4_or_5_block(b, b + 16, b + 48, y);
}

void q6_k_block(const Byte* b, float* y) {  // 128 bytes of low nibbles, 64 of high pairs, 16 int8 scales, d
  const float d = half(b + 208);
  for (int i = 0; i < 256; ++i) {
    const int part = i / 128;  // halves of the block: 64 bytes of nibbles, 32 of pairs, 8 scales
    const int quarter = i % 128 / 32;
    const int l = i % 32;
    const int byte = b[part * 64 + l + quarter % 2 * 32];
    const int low = quarter < 2 ? byte & 15 : byte >> 4;
    const int pair = b[128 + part * 32 + l] >> (2 * quarter) & 3;
    const auto scale = static_cast<std::int8_t>(b[192 + part * 8 + quarter * 2 + l / 16]);
    y[i] = d * static_cast<float>(scale) * static_cast<float>((low | pair << 4) - 32);
  }
}

using BlockReader = void (*)(const Byte*, float*);

BlockReader reader_of(const GgmlTypeInfo& type) {
  switch (static_cast<GgmlType>(type.number)) {
    case GgmlType::f32:
      return f32_block;
    case GgmlType::f16:
      return f16_block;
    case GgmlType::bf16:
      return bf16_block;
    case GgmlType::q4_0:
      return q4_0_block;
    case GgmlType::q4_1:
      return q4_1_block;
    case GgmlType::q5_0:
      return q5_0_block;
    case GgmlType::q5_1:
      return q5_1_block;
    case GgmlType::q8_0:
      return q8_0_block;
    case GgmlType::q4_k:
      return q4_k_block;
    case GgmlType::q5_k:
      return q5_k_block;
    case GgmlType::q6_k:
      return q6_k_block;
  }
  return nullptr;
}

void store(std::uint16_t value, Byte* to) {
  std::memcpy(to, &value, sizeof value);
}

void to_q8_0(const float* x, Byte* b) {
  float largest = 0;
  for (int j = 0; j < 32; ++j) largest = std::max(largest, std::fabs(x[j]));
  const float d = largest / 127.0F;
  const float inverse = d != 0 ? 1.0F / d : 0.0F;
  store(f32_to_f16(d), b);
  for (int j = 0; j < 32; ++j) b[2 + j] = static_cast<Byte>(static_cast<std::int8_t>(std::round(x[j] * inverse)));
}

void to_q4_0(const float* x, Byte* b) {
  float extreme = 0;  // the value of largest magnitude, with its sign: it becomes -8, which 7 could not reach
  for (int j = 0; j < 32; ++j) {
    if (std::fabs(extreme) < std::fabs(x[j])) extreme = x[j];
  }
  const float d = extreme / -8.0F;
  const float inverse = d != 0 ? 1.0F / d : 0.0F;
  store(f32_to_f16(d), b);
  const auto level = [&](float value) { return std::min(15, static_cast<int>(value * inverse + 8.5F)); };
  for (int j = 0; j < 16; ++j) b[2 + j] = static_cast<Byte>(level(x[j]) | level(x[j + 16]) << 4);
}

}  // namespace

bool can_dequantize(const GgmlTypeInfo& type) {
  return reader_of(type) != nullptr;
}

Status dequantize(const GgmlTypeInfo& type, ByteSpan in, std::span<float> out) {
  const BlockReader read = reader_of(type);
  if (read == nullptr) {
    return Error{ErrorCode::unsupported,
                 std::string("is of type ") + type.name +
                     ", which is not read here; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K are"};
  }
  if (in.size() % type.block_bytes != 0 || in.size() / type.block_bytes * type.block != out.size()) {
    return Error{ErrorCode::invalid_argument, std::to_string(in.size()) + " bytes of " + type.name + " are not " +
                                                  std::to_string(out.size()) + " values"};
  }
  if (type.number == static_cast<std::uint32_t>(GgmlType::f32)) {
    if (!out.empty()) std::memcpy(out.data(), in.data(), in.size());
    return {};
  }
  const std::size_t blocks = in.size() / type.block_bytes;
  for (std::size_t i = 0; i < blocks; ++i) read(in.data() + i * type.block_bytes, out.data() + i * type.block);
  return {};
}

Result<Bytes> quantize(GgmlType type, std::span<const float> values) {
  const GgmlTypeInfo& info = ggml_type_info(type);
  if (values.size() % info.block != 0) {
    return Error{ErrorCode::invalid_argument,
                 std::to_string(values.size()) + " values do not fill blocks of " + info.name};
  }
  if (info.block > 1 && !std::ranges::all_of(values, [](float x) { return std::isfinite(x); })) {
    return Error{ErrorCode::invalid_argument, "holds a value that is not finite, which blocks cannot hold"};
  }
  Bytes out(values.size() / info.block * info.block_bytes);
  const std::size_t blocks = values.size() / info.block;
  switch (type) {
    case GgmlType::f32:
      if (!out.empty()) std::memcpy(out.data(), values.data(), out.size());
      return out;
    case GgmlType::f16:
      for (std::size_t i = 0; i < blocks; ++i) store(f32_to_f16(values[i]), &out[2 * i]);
      return out;
    case GgmlType::bf16:
      for (std::size_t i = 0; i < blocks; ++i) store(f32_to_bf16(values[i]), &out[2 * i]);
      return out;
    case GgmlType::q8_0:
      for (std::size_t i = 0; i < blocks; ++i) to_q8_0(&values[i * info.block], &out[i * info.block_bytes]);
      return out;
    case GgmlType::q4_0:
      for (std::size_t i = 0; i < blocks; ++i) to_q4_0(&values[i * info.block], &out[i * info.block_bytes]);
      return out;
    default:
      return Error{ErrorCode::unsupported, std::string(info.name) + " is read but not written here"};
  }
}

std::uint16_t f32_to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  const auto with_sign = [&](std::uint32_t half_bits) { return static_cast<std::uint16_t>(sign | half_bits); };
  if (magnitude > 0x7F800000U) return with_sign(0x7E00);   // NaN
  if (magnitude >= 0x47800000U) return with_sign(0x7C00);  // 65536 and more
  if (magnitude < 0x38800000U) {                           // below 2^-14: a multiple of 2^-24
    // Adding 0.5 puts the unit in the last place at 2^-24, so the sum rounds to nearest even there.
    const float sum = std::bit_cast<float>(magnitude) + 0.5F;
    return with_sign(std::bit_cast<std::uint32_t>(sum) - std::bit_cast<std::uint32_t>(0.5F));
  }
  const std::uint32_t odd = magnitude >> 13 & 1;
  return with_sign((magnitude - (112U << 23) + 0xFFFU + odd) >>
                   13);  // a carry into the exponent is right, up to 0x7C00
}

std::uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>(bits >> 16 | 64);  // NaN stays one
  return static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16 & 1)) >> 16);
}

}  // namespace covey::formats

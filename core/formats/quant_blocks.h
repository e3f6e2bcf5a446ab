/// GGUF's element types as f32 and back. Source: ggml-quants.c, ggml-common.h (formats.md): the arithmetic is ggml's
/// own, operation by operation, so values are the same bits as there.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/formats/ggml_types.h"

namespace covey::formats {

/// Whether dequantize() knows the type: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K.
bool can_dequantize(const GgmlTypeInfo& type);

/// Whole blocks to f32, exactly as ggml does. `in` and `out` may have any alignment that their types allow.
/// @errors unsupported: a type that is not listed above; invalid_argument: sizes that do not fit each other.
[[nodiscard]] Status dequantize(const GgmlTypeInfo& type, ByteSpan in, std::span<float> out);

/// f32 to F32, F16, BF16 (round to nearest even), Q8_0 or Q4_0, exactly as ggml's reference quantizer does.
/// @errors unsupported: another type; invalid_argument: values that do not fill whole blocks, or that are not finite
/// where blocks share a scale.
Result<Bytes> quantize(GgmlType type, std::span<const float> values);

/// Round to nearest even; too large becomes infinity.
std::uint16_t f32_to_f16(float value);
std::uint16_t f32_to_bf16(float value);

}  // namespace covey::formats

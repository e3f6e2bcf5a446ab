/// Stochastic rounding to m-bit signed integers, and their packing to m bits each. Source: Suresh et al. 2017,
/// "Distributed mean estimation with limited communication" (stochastic rounding is unbiased: E[q] = y).
///
/// Packed form: element i takes bits [i m, (i + 1) m) of a little-endian bit string, two's complement; the bits that
/// fill the last byte are 0. One vector has one packed form, so a hash of it names its content.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "aggregation/update.h"
#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey::aggregation {

/// q[i] = floor(y) or floor(y) + 1 with y = x[i] factor, up with probability y - floor(y) in steps of 2^-32; then held
/// to |q| <= magnitude_max. x finite, |x factor| < 2^31.
std::vector<std::int32_t> quantize(std::span<const float> x, double factor, std::int32_t magnitude_max,
                                   const RandomBits& random);

/// ceil(count m / 8).
std::size_t packed_size(std::size_t count, std::uint32_t bits);
/// `bits` in [2, 24]; |q| < 2^(bits - 1).
Bytes pack_signed(std::span<const std::int32_t> q, std::uint32_t bits);
/// @errors invalid_argument: the length is not packed_size(count, bits), a fill bit is set, or a value is the one that
/// has no opposite (-2^(bits - 1)), which pack_signed() never writes. Nothing is allocated before the length is right.
Result<std::vector<std::int32_t>> unpack_signed(ByteSpan packed, std::size_t count, std::uint32_t bits);

}  // namespace covey::aggregation

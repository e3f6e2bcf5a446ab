/// Shamir's secret sharing of 32-byte secrets: any t of the shares give the secret, t - 1 say nothing about it.
/// Source: Shamir, CACM 1979. Field: integers mod p = 2^31 + 11; a secret is cut into 9 chunks of 31 bits (the last one
/// holds 8), and each chunk is the constant term of a polynomial of its own. Every share value is below p < 2^32.
/// Pure functions, thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret.h"

namespace covey::aggregation {

inline constexpr std::uint64_t kShamirPrime = (std::uint64_t{1} << 31) + 11;
inline constexpr std::size_t kShamirChunks = 9;
inline constexpr std::size_t kShamirSecretBytes = 32;
inline constexpr std::size_t kShamirShareBytes = 4 * kShamirChunks;

/// The value of the 9 polynomials at one point, each as 4 bytes little-endian.
using ShamirShare = std::array<std::uint8_t, kShamirShareBytes>;

/// Shares of `secret` at the points 1, 2, ..., `count`.
/// @param secret     32 bytes. @param threshold  t, from 1 to count.
/// @param seed       32 fresh secret bytes, used for nothing else: the polynomials are drawn from their key stream
///                   (rejection sampling, so uniform in the field).
/// @errors invalid_argument: a length, or a threshold that no set of shares can meet.
/// @cost O(9 count t) multiplications.
Result<std::vector<ShamirShare>> shamir_split(ByteSpan secret, std::size_t threshold, std::size_t count, ByteSpan seed);

struct ShamirPoint {
  std::uint32_t x = 0;  ///< from 1
  ShamirShare share{};
};

/// The secret that these points give: exactly t of them, of different x. Wrong shares give a wrong secret or an error;
/// the caller checks the secret against what was committed to.
/// @errors invalid_argument: no points, x = 0 or twice. corrupt_data: a value outside the field, or a result that no
/// 32-byte secret has.
/// @cost O(t^2) multiplications.
Result<SecretBytes> shamir_combine(std::span<const ShamirPoint> points);

}  // namespace covey::aggregation

/// Noise for differential privacy. Sources: Canonne, Kamath, Steinke 2020, "The discrete Gaussian for differential
/// privacy", Algorithms 1 to 3 (integers only, exact: no floating-point number touches a probability); Hoermann 1993
/// (PTRS, Poisson); Agarwal, Kairouz, Liu 2021 (Skellam).
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/base/bytes.h"
#include "core/base/secret.h"

namespace covey::aggregation::dp {

__extension__ typedef unsigned __int128 Wide;  // NOLINT: exact arithmetic of products of 64-bit numbers

/// Bits of one 32-byte secret, expanded by ChaCha20. The secret comes from the system generator (system(), or
/// crypto::random_fill by a driver): a seed that can be guessed is no noise. Not thread-safe.
class NoiseBits {
 public:
  explicit NoiseBits(ByteSpan seed);
  static NoiseBits system();

  std::uint64_t next();
  /// Uniform in [0, n), exact; n > 0.
  Wide below(Wide n);
  /// Uniform in (0, 1], steps of 2^-53.
  double uniform();

 private:
  SecretBytes seed_;
  std::uint64_t position_ = 0;
  std::size_t used_ = 0;
  std::array<std::uint32_t, 1024> words_{};
};

inline constexpr double kSigmaMax = 1 << 24;

/// P[x] proportional to e^(-x^2 / 2 sigma^2) over the integers.
class DiscreteGaussian {
 public:
  /// sigma in [2^-5, kSigmaMax]; sigma^2 is rounded up to a fraction with denominator 1,024 (from sigma = 1,024 on: 1).
  explicit DiscreteGaussian(double sigma);
  std::int64_t draw(NoiseBits& bits) const;

 private:
  [[nodiscard]] std::int64_t laplace(NoiseBits& bits) const;
  std::uint64_t numerator_;  ///< of sigma^2
  std::uint64_t denominator_;
  std::uint64_t scale_;  ///< t = floor(sigma) + 1, of the discrete Laplace that is accepted or not
};

/// Standard normal, Box-Muller. For simulations and for real-valued analyses: what protects people is discrete.
double standard_normal(NoiseBits& bits);

/// mean in [0, 2^40].
std::int64_t poisson(NoiseBits& bits, double mean);
/// The difference of two Poissons with mean variance / 2.
inline std::int64_t skellam(NoiseBits& bits, double variance) {
  const std::int64_t first = poisson(bits, variance / 2);
  return first - poisson(bits, variance / 2);
}

}  // namespace covey::aggregation::dp

/// Counter-based random numbers: any element of any stream in O(1), the same bits on every machine.
/// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011 (Philox4x32-10).
/// Not for secrets: keys and nonces come from core/crypto.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <utility>

namespace covey {

/// Random access. Immutable, thread-safe. A (seed, stream) pair names one sequence of 2^64 blocks of 128 bits.
class CounterRng {
 public:
  explicit CounterRng(std::uint64_t seed, std::uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  [[nodiscard]] std::array<std::uint32_t, 4> block(std::uint64_t index) const;
  /// 32 uniform bits: word `index % 4` of block `index / 4`.
  [[nodiscard]] std::uint32_t bits(std::uint64_t index) const { return block(index / 4)[index % 4]; }
  /// Standard normal deviate number `index`, by inversion of one 32-bit uniform (|z| < 6.3). Only + - * / sqrt of
  /// IEEE doubles are used, no libm and no contraction, so the bits are equal on every machine.
  [[nodiscard]] float normal(std::uint64_t index) const;
  /// out[i] = normal(first + i).
  void fill_normal(std::span<float> out, std::uint64_t first = 0) const;
  /// values[i] += scale * normal(first + i), each product and each sum rounded to float by itself.
  void add_normal(std::span<float> values, float scale, std::uint64_t first = 0) const;

 private:
  std::uint64_t seed_;
  std::uint64_t stream_;
};

/// Sequential view of one stream. Copyable; not thread-safe. `position` restores it exactly.
class Rng {
 public:
  explicit Rng(std::uint64_t seed, std::uint64_t stream = 0) : source_(seed, stream) {}

  std::uint32_t next_u32();
  std::uint64_t next_u64();
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Uniform in [0, n), without bias. n > 0.
  std::uint64_t below(std::uint64_t n);
  double normal();

  template <typename Range>
  void shuffle(Range& range) {  // Fisher-Yates
    for (std::size_t i = range.size(); i > 1; --i) std::swap(range[i - 1], range[below(i)]);
  }

  [[nodiscard]] std::uint64_t position() const { return position_; }
  void seek(std::uint64_t position) { position_ = position; }

 private:
  CounterRng source_;
  std::uint64_t position_ = 0;  ///< in 32-bit words
  std::uint64_t cached_index_ = ~std::uint64_t{0};
  std::array<std::uint32_t, 4> cached_{};
};

/// Inverse of the standard normal distribution function, 0 < p < 1; relative error below 1.2e-9.
/// Source: P. J. Acklam, "An algorithm for computing the inverse normal cumulative distribution function" (2003).
double inverse_normal(double p);

/// A well-mixed child seed, so that (seed, 1), (seed, 2), ... name independent generators. (splitmix64, Steele 2014.)
std::uint64_t derive_seed(std::uint64_t seed, std::uint64_t purpose);

}  // namespace covey

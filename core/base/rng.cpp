#include "core/base/rng.h"

#include "core/base/assert.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace covey {
namespace {

constexpr std::uint32_t kMultiplier0 = 0xD2511F53;
constexpr std::uint32_t kMultiplier1 = 0xCD9E8D57;
constexpr std::uint32_t kWeyl0 = 0x9E3779B9;
constexpr std::uint32_t kWeyl1 = 0xBB67AE85;

/// Natural logarithm of a normal positive double from + - * / alone: ln m by the atanh series for m in [sqrt.5, sqrt2).
double portable_log(double x) {
  const auto bits = std::bit_cast<std::uint64_t>(x);
  int exponent = static_cast<int>((bits >> 52) & 0x7FF) - 1023;
  double m = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFULL) | 0x3FF0000000000000ULL);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double s2 = s * s;
  double series = 0.0;
  for (int k = 21; k >= 1; k -= 2) series = series * s2 + 1.0 / k;
  return 2.0 * s * series + exponent * 0.6931471805599453;
}

}  // namespace

std::array<std::uint32_t, 4> CounterRng::block(std::uint64_t index) const {
  std::array<std::uint32_t, 4> c = {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                                    static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)};
  auto key0 = static_cast<std::uint32_t>(seed_);
  auto key1 = static_cast<std::uint32_t>(seed_ >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{kMultiplier0} * c[0];
    const std::uint64_t p1 = std::uint64_t{kMultiplier1} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ key0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ key1, static_cast<std::uint32_t>(p0)};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return c;
}

double inverse_normal(double p) {
  static constexpr double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                                 1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
  static constexpr double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                                 6.680131188771972e+01, -1.328068155288572e+01};
  static constexpr double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                                 -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
  static constexpr double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                                 3.754408661907416e+00};
  constexpr double kLow = 0.02425;
  const auto tail = [&](double q) {
    return (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
           ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1.0);
  };
  if (p < kLow) return tail(std::sqrt(-2.0 * portable_log(p)));
  if (p > 1.0 - kLow) return -tail(std::sqrt(-2.0 * portable_log(1.0 - p)));
  const double q = p - 0.5;
  const double r = q * q;
  return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
         (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1.0);
}

static double normal_from_bits(std::uint32_t bits) {
  return inverse_normal((static_cast<double>(bits) + 0.5) * 0x1p-32);
}

float CounterRng::normal(std::uint64_t index) const {
  return static_cast<float>(normal_from_bits(bits(index)));
}

void CounterRng::fill_normal(std::span<float> out, std::uint64_t first) const {
  std::array<std::uint32_t, 4> words{};
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::uint64_t index = first + i;
    if (i == 0 || index % 4 == 0) words = block(index / 4);
    out[i] = static_cast<float>(normal_from_bits(words[index % 4]));
  }
}

void CounterRng::add_normal(std::span<float> values, float scale, std::uint64_t first) const {
  std::array<float, 256> z{};
  for (std::size_t at = 0; at < values.size(); at += z.size()) {
    const auto part = values.subspan(at, std::min(z.size(), values.size() - at));
    fill_normal(std::span(z).first(part.size()), first + at);
    for (std::size_t i = 0; i < part.size(); ++i) part[i] += scale * z[i];
  }
}

std::uint32_t Rng::next_u32() {
  const std::uint64_t index = position_ / 4;
  if (index != cached_index_) {
    cached_ = source_.block(index);
    cached_index_ = index;
  }
  return cached_[position_++ % 4];
}

std::uint64_t Rng::next_u64() {
  const std::uint64_t high = next_u32();
  return high << 32 | next_u32();
}

double Rng::uniform() {
  return static_cast<double>(next_u64() >> 11) * 0x1p-53;
}

std::uint64_t Rng::below(std::uint64_t n) {
  COVEY_ASSERT(n > 0);
  const std::uint64_t limit = -n % n;  // 2^64 mod n: values under it would make small results likelier
  for (;;) {
    const std::uint64_t draw = next_u64();
    if (draw >= limit) return draw % n;
  }
}

double Rng::normal() {
  return normal_from_bits(next_u32());
}

std::uint64_t derive_seed(std::uint64_t seed, std::uint64_t purpose) {
  std::uint64_t z = seed + (purpose + 1) * 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
  return z ^ (z >> 31);
}

}  // namespace covey

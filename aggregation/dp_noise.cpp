#include "aggregation/dp_noise.h"

#include <bit>
#include <cmath>
#include <numbers>

#include "core/base/assert.h"
#include "core/crypto/random.h"
#include "core/crypto/stream.h"

namespace covey::aggregation::dp {
namespace {

int width_of(Wide n) {
  const auto high = static_cast<std::uint64_t>(n >> 64);
  return high != 0 ? 64 + std::bit_width(high) : std::bit_width(static_cast<std::uint64_t>(n));
}

/// True with probability e^(-n / d), n <= d. Algorithm 1.
bool chance_exp_fraction(NoiseBits& bits, Wide n, Wide d) {
  std::uint64_t k = 1;
  while (bits.below(d * k) < n) ++k;
  return k % 2 == 1;
}

/// The same for any n.
bool chance_exp(NoiseBits& bits, Wide n, Wide d) {
  for (; n > d; n -= d) {
    if (!chance_exp_fraction(bits, 1, 1)) return false;
  }
  return chance_exp_fraction(bits, n, d);
}

}  // namespace

NoiseBits::NoiseBits(ByteSpan seed) : seed_(seed.size()), used_(words_.size()) {
  COVEY_ASSERT(seed.size() == crypto::kStreamSeedBytes);
  std::copy(seed.begin(), seed.end(), seed_.data());
}

NoiseBits NoiseBits::system() {
  const SecretBytes seed = crypto::random_secret(crypto::kStreamSeedBytes);
  return NoiseBits(ByteSpan(seed.data(), seed.size()));
}

std::uint64_t NoiseBits::next() {
  if (used_ == words_.size()) {
    crypto::stream_words(ByteSpan(seed_.data(), seed_.size()), position_, words_);
    position_ += words_.size();
    used_ = 0;
  }
  const std::uint64_t out = words_[used_] | std::uint64_t{words_[used_ + 1]} << 32;
  used_ += 2;
  return out;
}

Wide NoiseBits::below(Wide n) {
  COVEY_ASSERT(n > 0);
  if (n == 1) return 0;
  const int width = width_of(n - 1);
  while (true) {  // of `width` bits more than half are below n
    Wide draw = next();
    if (width > 64) draw = draw << 64 | next();
    draw >>= (width > 64 ? 128 : 64) - width;
    if (draw < n) return draw;
  }
}

double NoiseBits::uniform() {
  return (static_cast<double>(next() >> 11) + 1) * 0x1p-53;
}

DiscreteGaussian::DiscreteGaussian(double sigma) {
  COVEY_ASSERT(sigma >= 0x1p-5 && sigma <= kSigmaMax);
  denominator_ = sigma < 1024 ? 1024 : 1;
  numerator_ = static_cast<std::uint64_t>(std::ceil(sigma * sigma * static_cast<double>(denominator_)));
  scale_ = static_cast<std::uint64_t>(sigma) + 1;
}

/// Algorithm 2 with an integer scale t.
std::int64_t DiscreteGaussian::laplace(NoiseBits& bits) const {
  while (true) {
    const auto low = static_cast<std::uint64_t>(bits.below(scale_));
    if (!chance_exp_fraction(bits, low, scale_)) continue;
    std::uint64_t high = 0;
    while (chance_exp_fraction(bits, 1, 1)) ++high;
    const auto magnitude = static_cast<std::int64_t>(low + scale_ * high);
    const bool negative = (bits.next() & 1) != 0;
    if (negative && magnitude == 0) continue;
    return negative ? -magnitude : magnitude;
  }
}

/// Algorithm 3: accepted with probability e^(-(|y| - sigma^2 / t)^2 / 2 sigma^2).
std::int64_t DiscreteGaussian::draw(NoiseBits& bits) const {
  const Wide bottom = Wide{2} * numerator_ * denominator_ * scale_ * scale_;
  while (true) {
    const std::int64_t y = laplace(bits);
    const Wide a = Wide{static_cast<std::uint64_t>(y < 0 ? -y : y)} * denominator_ * scale_;
    const Wide apart = a > numerator_ ? a - numerator_ : numerator_ - a;
    // A bound of 2^60 on `apart` is 2^10 Laplace scales away: never seen, and refused before it could overflow.
    if (apart >> 60 != 0) continue;
    if (chance_exp(bits, apart * apart, bottom)) return y;
  }
}

double standard_normal(NoiseBits& bits) {
  const double radius = std::sqrt(-2 * std::log(bits.uniform()));
  return radius * std::cos(2 * std::numbers::pi * bits.uniform());
}

std::int64_t poisson(NoiseBits& bits, double mean) {
  COVEY_ASSERT(mean >= 0 && mean <= 0x1p40);
  if (mean < 10) {  // products of uniforms
    const double limit = std::exp(-mean);
    std::int64_t count = 0;
    for (double product = bits.uniform(); product > limit; product *= bits.uniform()) ++count;
    return count;
  }
  const double b = 0.931 + 2.53 * std::sqrt(mean);
  const double a = -0.059 + 0.02483 * b;
  const double inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
  const double v_r = 0.9277 - 3.6224 / (b - 2);
  const double log_mean = std::log(mean);
  while (true) {
    const double u = bits.uniform() - 0.5;
    const double v = bits.uniform();
    const double us = 0.5 - std::abs(u);
    const double k = std::floor((2 * a / us + b) * u + mean + 0.43);
    if (us >= 0.07 && v <= v_r) return static_cast<std::int64_t>(k);
    if (k < 0 || (us < 0.013 && v > us)) continue;
    const double left = std::log(v * inverse_alpha / (a / (us * us) + b));
    if (left <= k * log_mean - mean - std::lgamma(k + 1)) return static_cast<std::int64_t>(k);
  }
}

}  // namespace covey::aggregation::dp

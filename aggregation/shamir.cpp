#include "aggregation/shamir.h"

#include <string.h>  // explicit_bzero

#include <algorithm>

#include "core/crypto/stream.h"

namespace covey::aggregation {
namespace {

constexpr std::uint64_t p = kShamirPrime;
constexpr std::uint32_t kChunkBits = 31;

using Chunks = std::array<std::uint64_t, kShamirChunks>;

std::uint64_t power(std::uint64_t base, std::uint64_t exponent) {
  std::uint64_t out = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) != 0) out = out * base % p;
    base = base * base % p;
  }
  return out;
}

std::uint64_t inverse(std::uint64_t value) {
  return power(value, p - 2);
}

Chunks chunks_of(ByteSpan secret) {
  Chunks out{};
  for (std::size_t bit = 0; bit < 8 * kShamirSecretBytes; ++bit) {
    const std::uint64_t one = (secret[bit / 8] >> (bit % 8)) & 1U;
    out[bit / kChunkBits] |= one << (bit % kChunkBits);
  }
  return out;
}

/// Uniform field elements from a key stream: 32-bit words, those from p up thrown away (nearly half of them).
class FieldStream {
 public:
  explicit FieldStream(ByteSpan seed) : seed_(seed) {}
  ~FieldStream() { explicit_bzero(words_.data(), sizeof words_); }
  FieldStream(const FieldStream&) = delete;
  FieldStream& operator=(const FieldStream&) = delete;

  std::uint64_t next() {
    for (;;) {
      if (at_ == words_.size()) {
        crypto::stream_words(seed_, position_, words_);
        position_ += words_.size();
        at_ = 0;
      }
      const std::uint64_t word = words_[at_++];
      if (word < p) return word;
    }
  }

 private:
  ByteSpan seed_;
  std::uint64_t position_ = 0;
  std::array<std::uint32_t, 1024> words_{};
  std::size_t at_ = 1024;
};

void put(ShamirShare& share, std::size_t chunk, std::uint64_t value) {
  for (std::size_t i = 0; i < 4; ++i) share[4 * chunk + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

std::uint64_t get(const ShamirShare& share, std::size_t chunk) {
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < 4; ++i) out |= std::uint64_t{share[4 * chunk + i]} << (8 * i);
  return out;
}

}  // namespace

Result<std::vector<ShamirShare>> shamir_split(ByteSpan secret, std::size_t threshold, std::size_t count,
                                              ByteSpan seed) {
  if (secret.size() != kShamirSecretBytes || seed.size() != crypto::kStreamSeedBytes) {
    return Error{ErrorCode::invalid_argument, "secret sharing: secret and seed must have 32 bytes"};
  }
  if (threshold < 1 || threshold > count || count >= p) {
    return Error{ErrorCode::invalid_argument, "secret sharing: a threshold of " + std::to_string(threshold) +
                                                  " cannot be met by " + std::to_string(count) + " shares"};
  }
  Chunks constant = chunks_of(secret);
  FieldStream stream(seed);
  std::vector<std::uint64_t> coefficients((threshold - 1) * kShamirChunks);
  for (std::uint64_t& value : coefficients) value = stream.next();

  std::vector<ShamirShare> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t x = i + 1;
    Chunks value{};  // Horner, highest coefficient first
    for (std::size_t degree = threshold - 1; degree-- > 0;) {
      for (std::size_t c = 0; c < kShamirChunks; ++c) {
        value[c] = (value[c] * x + coefficients[degree * kShamirChunks + c]) % p;
      }
    }
    for (std::size_t c = 0; c < kShamirChunks; ++c) put(out[i], c, (value[c] * x + constant[c]) % p);
  }
  if (!coefficients.empty()) explicit_bzero(coefficients.data(), coefficients.size() * sizeof coefficients[0]);
  explicit_bzero(constant.data(), sizeof constant);
  return out;
}

Result<SecretBytes> shamir_combine(std::span<const ShamirPoint> points) {
  if (points.empty()) return Error{ErrorCode::invalid_argument, "secret sharing: no shares"};
  Chunks secret{};
  for (const ShamirPoint& point : points) {
    // Lagrange at 0: the product of x_j / (x_j - x_i) over the other points.
    std::uint64_t above = 1;
    std::uint64_t below = 1;
    for (const ShamirPoint& other : points) {
      if (&other == &point) continue;
      above = above * (other.x % p) % p;
      below = below * ((other.x % p + p - point.x % p) % p) % p;
    }
    if (point.x == 0 || point.x >= p || below == 0) {
      return Error{ErrorCode::invalid_argument, "secret sharing: a share's place is 0 or taken twice"};
    }
    const std::uint64_t weight = above * inverse(below) % p;
    for (std::size_t c = 0; c < kShamirChunks; ++c) {
      const std::uint64_t value = get(point.share, c);
      if (value >= p) return Error{ErrorCode::corrupt_data, "secret sharing: a share has a value outside the field"};
      secret[c] = (secret[c] + value * weight) % p;
    }
  }
  const std::uint32_t last_bits = 8 * kShamirSecretBytes - kChunkBits * (kShamirChunks - 1);
  for (std::size_t c = 0; c < kShamirChunks; ++c) {
    if (secret[c] >> (c + 1 == kShamirChunks ? last_bits : kChunkBits) != 0) {
      return Error{ErrorCode::corrupt_data, "secret sharing: the shares do not belong together"};
    }
  }
  SecretBytes out(kShamirSecretBytes);
  for (std::size_t bit = 0; bit < 8 * kShamirSecretBytes; ++bit) {
    const std::uint64_t one = (secret[bit / kChunkBits] >> (bit % kChunkBits)) & 1U;
    out.data()[bit / 8] |= static_cast<std::uint8_t>(one << (bit % 8));
  }
  explicit_bzero(secret.data(), sizeof secret);
  return out;
}

}  // namespace covey::aggregation

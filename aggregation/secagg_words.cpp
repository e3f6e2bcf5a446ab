#include "aggregation/secagg_words.h"

#include <string.h>  // explicit_bzero

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "aggregation/clip.h"
#include "aggregation/quantize.h"
#include "core/base/assert.h"

namespace covey::aggregation {
namespace {

std::uint32_t low_bits(std::uint32_t bits) {
  return bits == 32 ? ~std::uint32_t{0} : (std::uint32_t{1} << bits) - 1;
}

/// The length and the fill bits, before anything is read.
Status check_packed(ByteSpan packed, std::size_t count, std::uint32_t bits) {
  if (packed.size() != packed_size(count, bits)) {
    return Error{ErrorCode::invalid_argument, "masked update: has " + std::to_string(packed.size()) +
                                                  " bytes of words, " + std::to_string(packed_size(count, bits)) +
                                                  " are due"};
  }
  const std::size_t used = count * bits % 8;
  if (used == 0 || packed.back() >> used == 0) return {};
  return Error{ErrorCode::invalid_argument, "masked update: the bits behind the last word are not 0"};
}

template <typename Each>
void for_each_word(ByteSpan packed, std::size_t count, std::uint32_t bits, Each&& each) {
  const std::uint32_t mask = low_bits(bits);
  std::uint64_t window = 0;  // bits that are not read yet, lowest first
  std::uint32_t filled = 0;
  std::size_t next = 0;
  for (std::size_t i = 0; i < count; ++i) {
    for (; filled < bits; filled += 8) window |= static_cast<std::uint64_t>(packed[next++]) << filled;
    each(i, static_cast<std::uint32_t>(window) & mask);
    window >>= bits;
    filled -= bits;
  }
}

}  // namespace

Result<std::uint32_t> modulus_bits(const UpdateSpec& spec) {
  COVEY_TRY(spec.check());
  const double values = static_cast<double>(spec.contributors_max) * static_cast<double>(spec.weight_max) *
                        static_cast<double>(spec.magnitude_max());
  const double largest = values + std::ceil(spec.noise_room);
  // Two's complement: [-2^(b-1), 2^(b-1)). Word 0, the sum of weights, is read unsigned and is no larger.
  std::uint32_t bits = 2;
  while (bits <= kModulusBitsMax && std::ldexp(1.0, static_cast<int>(bits) - 1) <= largest) ++bits;
  if (bits <= kModulusBitsMax) return bits;
  return Error{ErrorCode::invalid_argument,
               "plan: secure sums need more than 32 bits; lower value_bits, weight_max or the cohort"};
}

Result<std::vector<std::uint32_t>> secagg_contribution(const UpdateSpec& spec, std::span<const float> delta,
                                                       std::uint64_t weight, const RandomBits& random,
                                                       std::uint32_t bits) {
  COVEY_TRY(spec.check());
  if (delta.size() != spec.values) {
    return Error{ErrorCode::invalid_argument,
                 "update: has " + std::to_string(delta.size()) + " values instead of " + std::to_string(spec.values)};
  }
  COVEY_ASSIGN(const double clip, clip_factor(delta, spec.clip_norm));
  const auto q = quantize(delta, clip * spec.scale(), spec.magnitude_max(), random);
  const auto w = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(weight, 1, spec.weight_max));
  const std::uint32_t mask = low_bits(bits);
  std::vector<std::uint32_t> out(1 + q.size());
  out[0] = w & mask;
  for (std::size_t i = 0; i < q.size(); ++i) out[1 + i] = (static_cast<std::uint32_t>(q[i]) * w) & mask;
  return out;
}

Result<std::vector<std::uint32_t>> secagg_noised_contribution(const UpdateSpec& spec,
                                                              const dp::DistributedConfig& noise,
                                                              std::span<const float> delta, const RandomBits& random,
                                                              dp::NoiseBits& bits_of_noise, std::uint32_t bits) {
  COVEY_TRY(spec.check());
  if (delta.size() != spec.values || spec.weight_max != 1) {
    return Error{ErrorCode::invalid_argument,
                 "update: noise is made for the plan's number of values, each device once"};
  }
  COVEY_ASSIGN(const double clip, clip_factor(delta, spec.clip_norm));
  COVEY_ASSIGN(auto q, dp::round_conditionally(delta, clip * spec.scale(), spec.clip_norm * spec.scale(),
                                               spec.magnitude_max(), random));
  dp::add_noise_share(noise, dp::distributed_sensitivity(spec), q, bits_of_noise);
  const std::uint32_t mask = low_bits(bits);
  std::vector<std::uint32_t> out(1 + q.size(), 1);
  for (std::size_t i = 0; i < q.size(); ++i) out[1 + i] = static_cast<std::uint32_t>(q[i]) & mask;
  explicit_bzero(q.data(), q.size() * sizeof q[0]);
  return out;
}

Result<RunningSum> secagg_sum(const UpdateSpec& spec, std::span<const std::uint32_t> words, std::uint32_t contributors,
                              std::uint32_t bits) {
  COVEY_ASSERT(words.size() == spec.values + 1 && bits >= 2 && bits <= kModulusBitsMax);
  const std::uint32_t mask = low_bits(bits);
  const std::uint32_t sign = std::uint32_t{1} << (bits - 1);
  std::vector<std::int64_t> sum(spec.values);
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const std::uint32_t word = words[1 + i] & mask;
    sum[i] = (word & sign) != 0 ? static_cast<std::int64_t>(word) - static_cast<std::int64_t>(mask) - 1 : word;
  }
  COVEY_ASSIGN(auto out, RunningSum::from_parts(spec, std::move(sum), words[0] & mask, contributors));
  double squares = 0;
  for (const std::int64_t word : out.words()) squares += static_cast<double>(word) * static_cast<double>(word);
  const double noise = std::sqrt(static_cast<double>(spec.values)) * spec.noise_room;
  if (std::sqrt(squares) <= static_cast<double>(out.weight()) * update_norm_max(spec) + noise) return out;
  return Error{ErrorCode::corrupt_data, "sum: its norm is above what clipped updates give; some device sent nonsense"};
}

Bytes pack_words(std::span<const std::uint32_t> words, std::uint32_t bits) {
  COVEY_ASSERT(bits >= 1 && bits <= kModulusBitsMax);
  Bytes out(packed_size(words.size(), bits));
  const std::uint32_t mask = low_bits(bits);
  std::uint64_t window = 0;
  std::uint32_t filled = 0;
  std::size_t next = 0;
  for (const std::uint32_t word : words) {
    window |= static_cast<std::uint64_t>(word & mask) << filled;
    for (filled += bits; filled >= 8; filled -= 8) {
      out[next++] = static_cast<std::uint8_t>(window);
      window >>= 8;
    }
  }
  if (filled > 0) out[next] = static_cast<std::uint8_t>(window);
  return out;
}

Result<std::vector<std::uint32_t>> unpack_words(ByteSpan packed, std::size_t count, std::uint32_t bits) {
  COVEY_ASSERT(bits >= 1 && bits <= kModulusBitsMax && count <= kValuesMax + 1);
  COVEY_TRY(check_packed(packed, count, bits));
  std::vector<std::uint32_t> out(count);
  for_each_word(packed, count, bits, [&](std::size_t i, std::uint32_t word) { out[i] = word; });
  return out;
}

Status add_packed_words(ByteSpan packed, std::uint32_t bits, std::span<std::uint32_t> sum) {
  COVEY_ASSERT(bits >= 1 && bits <= kModulusBitsMax);
  COVEY_TRY(check_packed(packed, sum.size(), bits));
  for_each_word(packed, sum.size(), bits, [&](std::size_t i, std::uint32_t word) { sum[i] += word; });
  return {};
}

}  // namespace covey::aggregation

/// The numbers that secure aggregation adds: packing to b bits, a device's contribution, and what the sum means.
/// Source: security.md section 4 (quantization, weighted mean).
///
/// A contribution is 1 + P words modulo 2^b: w, then w q_i in two's complement, q as in aggregation/quantize.h.
/// b = m + ceil(log2 n) with m counting sign, q and w, so that the sum of n contributions is known from its residue.
/// Packed form: word i takes bits [i b, (i + 1) b) of a little-endian bit string; the bits that fill the last byte are
/// 0.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "aggregation/dp_distributed.h"
#include "aggregation/running_sum.h"
#include "aggregation/update.h"
#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey::aggregation {

inline constexpr std::uint32_t kModulusBitsMax = 32;

/// b for this plan: the largest sum and the room for noise beside it fit.
/// @errors those of UpdateSpec::check(); invalid_argument: b would pass kModulusBitsMax.
Result<std::uint32_t> modulus_bits(const UpdateSpec& spec);

/// A device's contribution, shape (1 + P), each word in [0, 2^bits): clip, scale, round, times the weight.
/// @param weight  counts as min(weight, w_max), at least 1.
/// @errors as protect(): an impossible plan, or a delta that is not finite.
Result<std::vector<std::uint32_t>> secagg_contribution(const UpdateSpec& spec, std::span<const float> delta,
                                                       std::uint64_t weight, const RandomBits& random,
                                                       std::uint32_t bits);

/// The same with the device's share of the plan's noise: rounded conditionally, noise added before the modulus.
/// @param noise  from the plan, whose check() has passed.   @param bits_of_noise  secret, fresh for each call.
/// @errors as secagg_contribution(); invalid_argument: w_max is not 1.
Result<std::vector<std::uint32_t>> secagg_noised_contribution(const UpdateSpec& spec,
                                                              const dp::DistributedConfig& noise,
                                                              std::span<const float> delta, const RandomBits& random,
                                                              dp::NoiseBits& bits_of_noise, std::uint32_t bits);

/// What the unmasked sum of `contributors` contributions says, as the sum that clear updates would have given: equal to
/// it bit for bit. @param words  shape (1 + P), modulo 2^bits.
/// @errors corrupt_data: a weight, word or L2 norm that no honest contributions give (some device sent nonsense).
Result<RunningSum> secagg_sum(const UpdateSpec& spec, std::span<const std::uint32_t> words, std::uint32_t contributors,
                              std::uint32_t bits);

/// `bits` in [1, 32]; words below 2^bits.
Bytes pack_words(std::span<const std::uint32_t> words, std::uint32_t bits);
/// @errors invalid_argument: the length is not ceil(count bits / 8), or a fill bit is set. Nothing is allocated before.
Result<std::vector<std::uint32_t>> unpack_words(ByteSpan packed, std::size_t count, std::uint32_t bits);
/// Adds a packed vector to `sum` modulo 2^32 without unpacking it elsewhere; masks stay on.
/// @errors as unpack_words(), with `sum` as it was.
Status add_packed_words(ByteSpan packed, std::uint32_t bits, std::span<std::uint32_t> sum);

}  // namespace covey::aggregation

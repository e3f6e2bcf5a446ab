#include "aggregation/update.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "aggregation/clip.h"
#include "aggregation/compress_rotate.h"
#include "aggregation/compress_topk.h"
#include "aggregation/dp_distributed.h"
#include "aggregation/quantize.h"
#include "core/base/rng.h"

namespace covey::aggregation {
namespace {

Error impossible(const std::string& what) {
  return {ErrorCode::invalid_argument, "plan: " + what};
}

wire::ClearUpdate clear_update(const wire::RoundPlan& plan, const wire::Hash& plan_hash, std::uint64_t weight,
                               std::size_t count, Bytes words) {
  wire::ClearUpdate update;
  update.round = plan.round;
  update.plan = plan_hash;
  update.weight = static_cast<std::uint32_t>(std::clamp<std::uint64_t>(weight, 1, plan.weight_max));
  update.count = static_cast<std::uint32_t>(count);
  update.bits = plan.value_bits;
  update.words = std::move(words);
  return update;
}

std::uint64_t little_endian(std::span<const std::uint8_t> bytes) {
  std::uint64_t out = 0;
  for (std::size_t i = bytes.size(); i-- > 0;) out = out << 8 | bytes[i];
  return out;
}

}  // namespace

UpdateSpec UpdateSpec::of(const wire::RoundPlan& plan, std::size_t values) {
  const std::uint32_t groups = std::max(plan.secure.groups, 1U);
  const std::uint32_t summed = plan.cohort_invited / groups + (plan.cohort_invited % groups > 0 ? 1 : 0);
  UpdateSpec out{values, plan.clip_norm, plan.value_bits, plan.weight_max, summed};
  out.kept = plan.kept;
  if (plan.noise.kind == wire::NoiseKind::none || !out.check().ok()) return out;
  const dp::DistributedConfig noise = dp::distributed_of(plan);
  const double sensitivity = dp::distributed_sensitivity(out);
  // Noise that cannot be is room that check() refuses.
  out.noise_room = noise.check(sensitivity).ok() ? dp::noise_room(noise, sensitivity, plan.cohort_invited) : -1;
  return out;
}

std::size_t version_values(const wire::RoundPlan& plan, std::size_t adapter_values) {
  return plan.seeded.candidates > 0 ? plan.seeded.candidates : adapter_values;
}

std::size_t update_values(const wire::RoundPlan& plan, std::size_t adapter_values) {
  const std::size_t values = version_values(plan, adapter_values);
  return plan.rotate && values <= kValuesMax ? rotated_size(values) : values;
}

std::vector<float> update_of_delta(const wire::RoundPlan& plan, std::span<const float> delta) {
  if (plan.rotate) return rotate(delta, plan.seed);
  return {delta.begin(), delta.end()};
}

Result<std::vector<float>> delta_of_update(const wire::RoundPlan& plan, std::vector<float> mean,
                                           std::size_t version_values) {
  if (plan.rotate) return rotate_back(mean, version_values, plan.seed);
  return mean;
}

Status UpdateSpec::check() const {
  if (values < 1 || values > kValuesMax) return impossible(std::to_string(values) + " values in an update");
  if (kept > values) {
    return impossible("keeps " + std::to_string(kept) + " of " + std::to_string(values) + " values");
  }
  if (!std::isfinite(clip_norm) || clip_norm < 1e-12 || clip_norm > 1e12) {
    return impossible("clip_norm must be from 1e-12 to 1e12");
  }
  if (value_bits < kValueBitsMin || value_bits > kValueBitsMax) {
    return impossible("value_bits is " + std::to_string(value_bits) + "; it must be from 2 to 24");
  }
  if (weight_max < 1 || contributors_max < 1) return impossible("weight_max and the cohort must be at least 1");
  if (!(noise_room >= 0 && noise_room <= 1e12)) {
    return impossible("noise: its multiplier, gamma, survivors_min and value_bits do not go together");
  }
  // Bits of the largest sum: every factor rounded up to a power of two.
  const int bits = static_cast<int>(value_bits) - 1 + std::bit_width(weight_max) + std::bit_width(contributors_max);
  if (bits <= 62) return {};
  return impossible("a sum of value_bits, weight_max and cohort needs " + std::to_string(bits) +
                    " bits, more than 62; lower one of them");
}

std::int32_t UpdateSpec::magnitude_max() const {
  return (std::int32_t{1} << (value_bits - 1)) - 1;
}

double UpdateSpec::scale() const {
  return static_cast<double>(magnitude_max()) / clip_norm;
}

std::size_t UpdateSpec::packed_bytes() const {
  return kept > 0 ? sparse_size(kept, values, value_bits) : packed_size(values, value_bits);
}

RandomBits seeded_bits(const std::array<std::uint8_t, 32>& seed) {
  const std::span<const std::uint8_t> bytes(seed);
  // The generator takes 128 bits of the 256: folding keeps every byte of the seed in use.
  const std::uint64_t key = derive_seed(little_endian(bytes.first(8)), little_endian(bytes.subspan(16, 8)));
  const std::uint64_t stream = derive_seed(little_endian(bytes.subspan(8, 8)), little_endian(bytes.subspan(24, 8)));
  return [rng = Rng(key, stream)](std::span<std::uint32_t> out) mutable {
    for (std::uint32_t& word : out) word = rng.next_u32();
  };
}

Result<wire::ClearUpdate> protect(const wire::RoundPlan& plan, const wire::Hash& plan_hash,
                                  std::span<const float> delta, std::uint64_t weight, const RandomBits& random) {
  if (plan.mode != wire::PrivacyMode::robust) {
    return Error{ErrorCode::unsupported, "plan: its privacy mode never sends a clear update; only `robust` does"};
  }
  if (plan.kept > 0) return impossible("keeps single values: protect_sparse() makes its updates");
  const std::vector<float> x = update_of_delta(plan, delta);
  const UpdateSpec spec = UpdateSpec::of(plan, x.size());
  COVEY_TRY(spec.check());
  COVEY_ASSIGN(const double clip, clip_factor(x, spec.clip_norm));
  const auto q = quantize(x, clip * spec.scale(), spec.magnitude_max(), random);
  return clear_update(plan, plan_hash, weight, x.size(), pack_signed(q, spec.value_bits));
}

Result<wire::ClearUpdate> protect_sparse(const wire::RoundPlan& plan, const wire::Hash& plan_hash,
                                         std::span<const float> delta, std::uint64_t weight, const RandomBits& random,
                                         std::vector<float>& residual) {
  if (plan.mode != wire::PrivacyMode::robust || plan.rotate || plan.kept == 0) {
    return impossible("sparse updates are for mode `robust` without rotation");
  }
  const UpdateSpec spec = UpdateSpec::of(plan, delta.size());
  COVEY_ASSIGN(auto sparse, sparsify(spec, delta, residual, random));
  residual = std::move(sparse.residual);
  return clear_update(plan, plan_hash, weight, spec.kept, pack_sparse(sparse.words, spec.values, spec.value_bits));
}

double update_norm_max(const UpdateSpec& spec) {
  const std::size_t rounded = spec.kept > 0 ? spec.kept : spec.values;
  return (spec.clip_norm * spec.scale() + std::sqrt(static_cast<double>(rounded))) * (1 + 1e-9);
}

Result<std::vector<std::int32_t>> open_update(const UpdateSpec& spec, const wire::ClearUpdate& update) {
  COVEY_TRY(spec.check());
  const std::size_t count = spec.kept > 0 ? spec.kept : spec.values;
  if (update.count != count || update.bits != spec.value_bits) {
    return Error{ErrorCode::invalid_argument, "update: has " + std::to_string(update.count) + " values of " +
                                                  std::to_string(update.bits) + " bits, the plan says " +
                                                  std::to_string(count) + " of " + std::to_string(spec.value_bits)};
  }
  if (update.weight < 1 || update.weight > spec.weight_max) {
    return Error{ErrorCode::invalid_argument, "update: weight " + std::to_string(update.weight) + " is not from 1 to " +
                                                  std::to_string(spec.weight_max)};
  }
  COVEY_ASSIGN(auto q, spec.kept > 0 ? unpack_sparse(update.words, spec.kept, spec.values, spec.value_bits)
                                     : unpack_signed(update.words, spec.values, spec.value_bits));
  double squares = 0;
  for (const std::int32_t value : q) squares += static_cast<double>(value) * static_cast<double>(value);
  if (std::sqrt(squares) > update_norm_max(spec)) {
    return Error{ErrorCode::invalid_argument, "update: its norm is above the plan's clip_norm"};
  }
  return q;
}

}  // namespace covey::aggregation

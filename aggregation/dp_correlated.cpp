#include "aggregation/dp_correlated.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "aggregation/dp_central.h"
#include "aggregation/dp_gaussian.h"
#include "aggregation/dp_noise.h"
#include "core/base/assert.h"
#include "core/crypto/hash.h"

namespace covey::aggregation::dp {
namespace {

constexpr std::uint32_t kBuffersMax = 16;

Error not_correlated(const std::string& what) {
  return {ErrorCode::invalid_argument, "privacy.dp: " + what};
}

double correlated_sigma(const wire::CorrelatedPlan& plan, const UpdateSpec& spec) {
  return plan.multiplier * central_sensitivity(spec);
}

Blt blt_of(const wire::CorrelatedPlan& plan) {
  return Blt::fitted(plan.buffers, plan.fitted_rounds);
}

}  // namespace

Status check_correlated(const wire::CorrelatedPlan& plan) {
  if (plan.kind == wire::CorrelatedKind::none) return {};
  if (!(plan.multiplier >= 1e-3 && plan.multiplier <= 1e3)) {
    return not_correlated("noise_multiplier: write 0.001 to 1000");
  }
  if (plan.separation < 1 || plan.separation > kCorrelatedRoundsMax) {
    return not_correlated("separation: write 1 to 1000000 rounds");
  }
  if (plan.participations_max > kCorrelatedRoundsMax) {
    return not_correlated("participations_max: write at most 1000000, or 0 for as many as separation lets");
  }
  if (plan.kind == wire::CorrelatedKind::tree) return {};
  if (plan.buffers < 1 || plan.buffers > kBuffersMax) return not_correlated("buffers: write 1 to 16");
  if (plan.fitted_rounds < 1 || plan.fitted_rounds > kCorrelatedRoundsMax) {
    return not_correlated("rounds: a BLT is fitted to 1 to 1000000 of them");
  }
  return blt_of(plan).check();
}

Status check_correlated(const wire::CorrelatedPlan& plan, const UpdateSpec& spec) {
  if (plan.kind == wire::CorrelatedKind::none) return {};
  COVEY_TRY(check_correlated(plan));
  if (spec.weight_max != 1) return not_correlated("every device must count the same; set privacy.weight_max to 1");
  const double sigma = correlated_sigma(plan, spec);
  if (sigma >= 1 && sigma <= kSigmaMax) return {};
  return not_correlated("the noise's deviation is " + std::to_string(sigma) +
                        " quantized units, outside of 1 to 16777216; change privacy.value_bits");
}

double correlated_rho(const wire::CorrelatedPlan& plan, std::uint64_t rounds) {
  COVEY_ASSERT(rounds <= kCorrelatedRoundsMax);
  if (rounds == 0) return 0;
  const std::size_t times =
      plan.participations_max > 0 ? plan.participations_max : std::numeric_limits<std::size_t>::max();
  const Participation participation{static_cast<std::size_t>(rounds), plan.separation, times};
  const double sensitivity = plan.kind == wire::CorrelatedKind::tree ? tree_sensitivity(participation)
                                                                     : blt_of(plan).sensitivity(participation);
  return zcdp_gaussian(sensitivity, plan.multiplier);
}

std::vector<double> correlated_charge(const wire::CorrelatedPlan& plan, std::uint64_t from, std::uint64_t to) {
  return Ledger::concentrated(std::max(0.0, correlated_rho(plan, to) - correlated_rho(plan, from)));
}

CorrelatedNoise::CorrelatedNoise(const wire::CorrelatedPlan& plan, ByteSpan seed, const UpdateSpec& spec)
    : plan_(plan), seed_(seed.size()), sigma_(correlated_sigma(plan, spec)), values_(spec.values) {
  COVEY_ASSERT(seed.size() == 32 && check_correlated(plan, spec).ok());
  std::copy(seed.begin(), seed.end(), seed_.data());
}

void CorrelatedNoise::advance(std::vector<double>& out, bool counts) {
  const auto key = crypto::derive_key(ByteSpan(seed_.data(), seed_.size()), "dpblt", ++at_);
  COVEY_ASSERT(key.ok());
  NoiseBits bits(ByteSpan(key->data(), key->size()));
  std::vector<double> z(values_);
  for (double& value : z) value = sigma_ * standard_normal(bits);
  blt_->correlate(z);
  for (std::size_t i = 0; counts && i < z.size(); ++i) out[i] += z[i];
}

std::vector<std::int64_t> CorrelatedNoise::between(std::uint64_t from, std::uint64_t to) {
  COVEY_ASSERT(from < to && to <= kCorrelatedRoundsMax);
  if (plan_.kind == wire::CorrelatedKind::tree) {
    return TreeNoise(ByteSpan(seed_.data(), seed_.size()), sigma_, values_).between(from, to);
  }
  if (!blt_ || at_ > from) {
    blt_.emplace(blt_of(plan_), values_);
    at_ = 0;
  }
  std::vector<double> sum(values_);
  while (at_ < to) advance(sum, at_ >= from);
  // Sums of updates are whole numbers: what is added is, too, so that no low bits tell of the generator.
  std::vector<std::int64_t> out(values_);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::llround(sum[i]);
  return out;
}

Result<std::vector<float>> correlated_release(CorrelatedNoise& noise, const RunningSum& sum, std::uint32_t expected,
                                              std::uint64_t from, std::uint64_t to) {
  if (sum.weight() != sum.contributors()) {
    return Error{ErrorCode::invalid_argument, "privacy.dp: a round's updates have weights other than 1"};
  }
  const auto extra = noise.between(from, to);
  const double divisor = expected * sum.spec().scale();
  std::vector<float> out(extra.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<float>(static_cast<double>(sum.words()[i] + extra[i]) / divisor);
  }
  return out;
}

}  // namespace covey::aggregation::dp

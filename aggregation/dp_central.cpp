#include "aggregation/dp_central.h"

#include <algorithm>
#include <cmath>

#include "aggregation/dp_gaussian.h"
#include "aggregation/dp_noise.h"

namespace covey::aggregation::dp {
namespace {

constexpr double kClipRate = 0.2;
constexpr double kClipQuantile = 0.5;

double count_sigma(std::uint32_t expected) {
  return expected / 20.0;
}

}  // namespace

double central_sensitivity(const UpdateSpec& spec) {
  return update_norm_max(spec);
}

Status CentralConfig::check(const UpdateSpec& spec) const {
  if (!on()) return {};
  const auto bad = [](const std::string& what) { return Error{ErrorCode::invalid_argument, "privacy.dp: " + what}; };
  COVEY_TRY(budget.check());
  if (!(noise_multiplier >= 1e-3 && noise_multiplier <= 1e3)) return bad("noise_multiplier: write 0.001 to 1000");
  if (spec.weight_max != 1) return bad("every device must count the same; set privacy.weight_max to 1");
  const double sigma = noise_multiplier * central_sensitivity(spec);
  if (sigma >= 1 && sigma <= kSigmaMax) return {};
  return bad("the noise's deviation is " + std::to_string(sigma) +
             " quantized units, outside of 1 to 16777216; change privacy.value_bits");
}

std::vector<double> central_charge(const CentralConfig& config, std::uint32_t expected) {
  double rho = zcdp_gaussian(1, config.noise_multiplier);
  if (config.adaptive_clip) rho += zcdp_gaussian(0.5, count_sigma(expected));
  return Ledger::concentrated(rho);
}

Result<CentralResult> central_release(const CentralConfig& config, const RunningSum& sum, std::uint32_t expected,
                                      ByteSpan seed) {
  if (sum.weight() != sum.contributors()) {
    return Error{ErrorCode::invalid_argument, "privacy.dp: a round's updates have weights other than 1"};
  }
  NoiseBits bits(seed);
  const UpdateSpec& spec = sum.spec();
  const DiscreteGaussian noise(config.noise_multiplier * central_sensitivity(spec));
  CentralResult out;
  out.mean.resize(spec.values);
  const double divisor = expected * spec.scale();
  for (std::size_t i = 0; i < spec.values; ++i) {
    out.mean[i] = static_cast<float>(static_cast<double>(sum.words()[i] + noise.draw(bits)) / divisor);
  }
  out.clip_norm = spec.clip_norm;
  if (!config.adaptive_clip) return out;
  // Twice the sum of (b - 1/2): whole numbers of sensitivity 1.
  const auto doubled = 2 * std::int64_t{sum.unclipped()} - std::int64_t{sum.contributors()};
  const DiscreteGaussian count_noise(std::max(2 * count_sigma(expected), 0x1p-5));
  const double share = static_cast<double>(doubled + count_noise.draw(bits)) / (2.0 * expected) + 0.5;
  out.clip_norm *= std::exp(-kClipRate * (std::clamp(share, 0.0, 1.0) - kClipQuantile));
  out.clip_norm = std::clamp(out.clip_norm, 1e-9, 1e9);
  return out;
}

}  // namespace covey::aggregation::dp

#include "aggregation/dp_distributed.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "aggregation/clip.h"
#include "aggregation/dp_ledger.h"
#include "aggregation/dp_rdp.h"
#include "aggregation/quantize.h"

namespace covey::aggregation::dp {

double rounded_sensitivity(double norm, std::size_t values, double beta) {
  const double root = std::sqrt(static_cast<double>(values));
  const double likely = norm * norm + root * root / 4 + std::sqrt(2 * std::log(1 / beta)) * (norm + root / 2);
  return std::min(norm + root, std::sqrt(likely));
}

double rounding_beta() {
  return std::exp(-0.5);
}

Result<std::vector<std::int32_t>> round_conditionally(std::span<const float> x, double factor, double norm,
                                                      std::int32_t magnitude_max, const RandomBits& random) {
  if (!(l2_norm(x) * factor <= norm * (1 + 1e-9))) {
    return Error{ErrorCode::invalid_argument, "rounding: the vector is longer than its clip norm"};
  }
  const double allowed = rounded_sensitivity(norm, x.size(), rounding_beta());
  constexpr int kTriesMax = 1000;
  for (int i = 0; i < kTriesMax; ++i) {
    auto q = quantize(x, factor, magnitude_max, random);
    double squares = 0;
    for (const std::int32_t value : q) squares += static_cast<double>(value) * value;
    if (squares <= allowed * allowed) return q;
  }
  return Error{ErrorCode::internal, "rounding: 1000 draws were all too long, which chance does not explain"};
}

std::uint32_t DistributedConfig::honest_min() const {
  return static_cast<std::uint32_t>(std::ceil((1 - gamma) * n_min - 1e-9));
}

double DistributedConfig::share_variance(double sensitivity) const {
  const double sigma = noise_multiplier * sensitivity;
  return sigma * sigma / honest_min();
}

DistributedConfig distributed_of(const wire::RoundPlan& plan) {
  return {plan.noise.kind == wire::NoiseKind::skellam ? Distributed::skellam : Distributed::discrete_gaussian,
          plan.noise.multiplier, plan.secure.corrupt_fraction, plan.secure.survivors_min};
}

double distributed_sensitivity(const UpdateSpec& spec) {
  return rounded_sensitivity(spec.clip_norm * spec.scale(), spec.values, rounding_beta());
}

std::vector<double> plan_charge(const wire::RoundPlan& plan, std::size_t values) {
  return distributed_charge(distributed_of(plan), distributed_sensitivity(UpdateSpec::of(plan, values)), values);
}

Status DistributedConfig::check(double sensitivity) const {
  const auto bad = [](const std::string& what) { return Error{ErrorCode::invalid_argument, "privacy.dp: " + what}; };
  if (!(gamma >= 0 && gamma < 1)) return bad("gamma: write a share from 0 to below 1");
  if (n_min < 1) return bad("n_min: write at least 1");
  if (!(noise_multiplier > 0 && noise_multiplier <= 1e3)) return bad("noise_multiplier: write up to 1000");
  const double deviation = std::sqrt(share_variance(sensitivity));
  if (deviation >= 0.5 && deviation <= kSigmaMax) return {};
  return bad("one device's noise has the deviation " + std::to_string(deviation) +
             " in quantized units, outside of 0.5 to 16777216; change value_bits");
}

void add_noise_share(const DistributedConfig& config, double sensitivity, std::span<std::int32_t> q, NoiseBits& bits) {
  const double variance = config.share_variance(sensitivity);
  if (config.mechanism == Distributed::skellam) {
    for (std::int32_t& value : q) value += static_cast<std::int32_t>(skellam(bits, variance));
    return;
  }
  const DiscreteGaussian gaussian(std::sqrt(variance));
  for (std::int32_t& value : q) value += static_cast<std::int32_t>(gaussian.draw(bits));
}

double noise_room(const DistributedConfig& config, double sensitivity, std::uint32_t cohort) {
  return 12 * std::sqrt(config.share_variance(sensitivity) * cohort);
}

namespace {

std::vector<double> gaussian_charge(const DistributedConfig& config, double sensitivity, std::size_t values) {
  const std::uint32_t n = config.honest_min();
  const double share = config.share_variance(sensitivity);
  double tau = 0;
  for (std::uint32_t k = 1; k < n; ++k) {
    tau += 10 * std::exp(-2 * std::numbers::pi * std::numbers::pi * share * k / (k + 1));
  }
  const double ratio = sensitivity / std::sqrt(share * n);
  const double root = std::sqrt(static_cast<double>(values));
  const double epsilon = std::min(std::sqrt(ratio * ratio + tau * root * root / 2), ratio + tau * root);
  return Ledger::concentrated(epsilon * epsilon / 2);
}

/// The bound holds at whole orders; divergences grow with the order, so the next whole one bounds those between.
std::vector<double> skellam_charge(const DistributedConfig& config, double sensitivity, std::size_t values) {
  const double mu = config.share_variance(sensitivity) * config.honest_min();
  const double two = sensitivity * sensitivity;
  const double one = std::min(std::sqrt(static_cast<double>(values)) * sensitivity, two);
  std::vector<double> out;
  for (const double order : default_orders()) {
    const double alpha = std::ceil(order);
    const double excess = std::min(((2 * alpha - 1) * two + 6 * one) / (4 * mu * mu), 3 * one / (2 * mu));
    out.push_back(alpha * two / (2 * mu) + excess);
  }
  return out;
}

}  // namespace

std::vector<double> distributed_charge(const DistributedConfig& config, double sensitivity, std::size_t values) {
  return config.mechanism == Distributed::skellam ? skellam_charge(config, sensitivity, values)
                                                  : gaussian_charge(config, sensitivity, values);
}

}  // namespace covey::aggregation::dp

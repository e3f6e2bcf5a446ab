/// Distributed differential privacy: every device adds its share of the noise to integers before they are masked, so
/// the coordinator too sees only the noised sum. Sources: Kairouz, Liu, Steinke 2021, "The distributed discrete
/// Gaussian mechanism for federated learning with secure aggregation"; Agarwal, Kairouz, Liu 2021, "The Skellam
/// mechanism for differentially private federated learning". Unit: one device's update, added or removed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "aggregation/dp_noise.h"
#include "aggregation/update.h"
#include "core/base/result.h"

namespace covey::aggregation::dp {

/// The L2 norm that conditional randomized rounding allows an integer vector of `values` elements whose real one has at
/// most `norm` (quantized units): min{norm + sqrt(P), sqrt(norm^2 + P/4 + sqrt(2 ln(1/beta)) (norm + sqrt(P)/2))}.
double rounded_sensitivity(double norm, std::size_t values, double beta);

/// beta of all rounding here: one draw is kept with probability of at least 1 - e^(-1/2) = 0.39.
double rounding_beta();

/// x factor, stochastically rounded again and again until its norm is within rounded_sensitivity(norm, P, beta).
/// @param x  shape (P), ||x factor|| <= norm. @errors invalid_argument: it is longer. internal: no draw of 1,000 fits.
Result<std::vector<std::int32_t>> round_conditionally(std::span<const float> x, double factor, double norm,
                                                      std::int32_t magnitude_max, const RandomBits& random);

enum class Distributed : std::uint8_t { discrete_gaussian = 0, skellam = 1 };

struct DistributedConfig {
  Distributed mechanism = Distributed::discrete_gaussian;
  double noise_multiplier = 1;  ///< of the sum's noise over the rounded sensitivity
  double gamma = 0.1;           ///< share of the cohort that may be corrupt and adds no noise
  std::uint32_t n_min = 0;      ///< fewest survivors

  /// ceil((1 - gamma) n_min): those whose noise is counted on.
  [[nodiscard]] std::uint32_t honest_min() const;
  /// The variance that one device adds, in squared quantized units.
  [[nodiscard]] double share_variance(double sensitivity) const;
  /// @errors invalid_argument: names the key; a share's deviation outside of 1/2 to 2^24.
  [[nodiscard]] Status check(double sensitivity) const;
};

/// What a plan says of noise; its kind is not `none`. What of it cannot be, check() refuses.
DistributedConfig distributed_of(const wire::RoundPlan& plan);
/// The L2 norm, in quantized units, of what one device adds to a sum apart from noise: rounded conditionally.
double distributed_sensitivity(const UpdateSpec& spec);
/// distributed_charge() of one round of this plan. @param values  update_values().
std::vector<double> plan_charge(const wire::RoundPlan& plan, std::size_t values);

/// Adds one device's share to q, shape (P). The caller has run check(). @cost about a microsecond per element.
void add_noise_share(const DistributedConfig& config, double sensitivity, std::span<std::int32_t> q, NoiseBits& bits);

/// Room above the largest sum, in quantized units: 12 deviations of all `cohort` devices' noise.
double noise_room(const DistributedConfig& config, double sensitivity, std::uint32_t cohort);

/// A round's divergences on the ledger's orders. The discrete Gaussian: the sum of shares is not one, and differs from
/// it by tau (Kairouz et al.); Skellams add up exactly, and cost a little more than a Gaussian (Agarwal et al.).
std::vector<double> distributed_charge(const DistributedConfig& config, double sensitivity, std::size_t values);

}  // namespace covey::aggregation::dp

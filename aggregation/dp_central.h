/// Central differential privacy of a round's sum: integer noise on the sum of quantized updates, and adaptive clipping.
/// Protects from whoever sees the published adapters, not from the coordinator, which sees updates and adds the noise.
/// Sources: McMahan et al. 2018 (DP-FedAvg); Canonne et al. 2020 (discrete Gaussian: concentrated privacy
/// sensitivity^2 / 2 sigma^2, as the Gaussian's); Andrew et al. 2021 (adaptive clipping). Unit: one device's update.
#pragma once

#include <cstdint>
#include <vector>

#include "aggregation/dp_ledger.h"
#include "aggregation/running_sum.h"
#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey::aggregation::dp {

struct CentralConfig {
  double noise_multiplier = 0;  ///< z: sigma / sensitivity; 0 = no differential privacy
  bool adaptive_clip = false;   ///< C <- C exp(-0.2 (b - 0.5)), b the noised share of updates below C
  Budget budget;

  [[nodiscard]] bool on() const { return noise_multiplier > 0; }
  /// @errors invalid_argument: names the key.
  [[nodiscard]] Status check(const UpdateSpec& spec) const;
};

/// The L2 norm that one update may add to the sum, in quantized units: what open_update() lets pass.
double central_sensitivity(const UpdateSpec& spec);

/// A round's divergences on the ledger's orders: 1 / 2 z^2, and with adaptive clipping 1 / 2 (2 sigma_b)^2 for the
/// count (b - 1/2 summed, sensitivity 1/2). `expected` = devices a round is planned for; sigma_b = expected / 20.
std::vector<double> central_charge(const CentralConfig& config, std::uint32_t expected);

struct CentralResult {
  std::vector<float> mean;  ///< (P): noised sum / expected
  double clip_norm = 0;     ///< for the next round
};
/// The same bits for the same sum and seed. The divisor is `expected`, not the number that came, which is not noised.
/// @param seed  32 secret bytes, fresh for each round; used for nothing else.
/// @errors invalid_argument: weights other than 1. @cost O(P) draws of about a microsecond.
Result<CentralResult> central_release(const CentralConfig& config, const RunningSum& sum, std::uint32_t expected,
                                      ByteSpan seed);

}  // namespace covey::aggregation::dp

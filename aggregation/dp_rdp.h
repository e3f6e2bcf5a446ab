/// Renyi differential privacy of the Gaussian mechanism, plain and Poisson-subsampled, and its conversions. Sources:
/// Mironov 2017; Mironov, Talwar, Zhang 2019 (the subsampled Gaussian, integer and fractional orders); Canonne, Kamath,
/// Steinke 2020, Proposition 12 (conversion to epsilon). Pure functions; libm in, no claim on the last bits.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace covey::aggregation::dp {

/// Order-alpha divergence of one release with noise sigma per unit of sensitivity, alpha > 1: alpha / (2 sigma^2).
double rdp_gaussian(double sigma, double alpha);

/// The same where each participant is in with probability q in [0, 1], independently, each time (add or remove one).
/// Integer orders by the binomial sum; others by quadrature of the defining integral, which is analytic, so that the
/// trapezoid rule converges geometrically. infinity for alpha = infinity and q > 0.
double rdp_poisson_gaussian(double q, double sigma, double alpha);

/// The smallest epsilon over `orders` whose divergences are `rdp`; at least 0. infinity where no order gives one.
double epsilon_of_rdp(std::span<const double> orders, std::span<const double> rdp, double delta);

/// 1.1 to 10.9 by 0.1, 12 to 63, then powers of 2 to 65536: what the ledger uses.
const std::vector<double>& default_orders();

/// Epsilon of `steps` releases.
double epsilon_poisson_gaussian(double q, double sigma, std::uint64_t steps, double delta,
                                std::span<const double> orders);

/// The smallest sigma in [1e-2, 1e4], to 1e-5 of it, at which epsilon(sigma) <= target. `epsilon` falls in sigma;
/// infinity where even the largest is not enough.
template <typename F>
double smallest_sigma(double target, F&& epsilon) {
  double low = 1e-2;
  double high = 1e4;
  if (epsilon(high) > target) return 1.0 / 0.0;
  while (high / low > 1 + 1e-5) {
    const double middle = low + (high - low) / 2;
    (epsilon(middle) <= target ? high : low) = middle;
  }
  return high;
}

}  // namespace covey::aggregation::dp

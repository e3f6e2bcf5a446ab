/// The Gaussian mechanism exactly, zero-concentrated differential privacy, and group privacy. Sources: Balle, Wang 2018
/// (exact delta); Bun, Steinke 2016 and Canonne, Kamath, Steinke 2020 (zCDP); Vadhan 2017, Lemma 2.2 (groups).
#pragma once

#include <cstddef>
#include <functional>

namespace covey::aggregation::dp {

/// Of any number of Gaussian releases together: mu^2 = sum of (sensitivity / sigma)^2, mu > 0.
double gaussian_delta(double mu, double epsilon);
/// The smallest epsilon >= 0 with gaussian_delta(mu, epsilon) <= delta in (0, 1).
double gaussian_epsilon(double mu, double delta);

/// rho of a Gaussian, discrete Gaussian included: sensitivity^2 / (2 sigma^2). Releases add up.
double zcdp_gaussian(double sensitivity, double sigma);
/// Epsilon of rho-zCDP at delta, by the best order.
double zcdp_epsilon(double rho, double delta);

/// Epsilon of a group of k where one member has `epsilon_at(delta)`: k epsilon(d), with d the largest member's delta
/// whose group's, d (e^(k e) - 1) / (e^e - 1), stays within `delta`.
double group_epsilon(std::size_t k, double delta, const std::function<double(double)>& epsilon_at);

/// Nodes that one participation touches in a binary tree over `steps` releases: what DP-FTRL's tree multiplies the
/// squared sensitivity by. Source: Kairouz et al. 2021, "Practical and private (deep) learning without sampling".
std::size_t tree_levels(std::size_t steps);

}  // namespace covey::aggregation::dp

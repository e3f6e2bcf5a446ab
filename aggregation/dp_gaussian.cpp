#include "aggregation/dp_gaussian.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace covey::aggregation::dp {
namespace {

double normal_below(double x) {
  return std::erfc(-x / std::sqrt(2.0)) / 2;
}

/// log of normal_below(x), also where that underflows (asymptotic series).
double log_normal_below(double x) {
  if (x > -30) return std::log(normal_below(x));
  const double squared = x * x;
  return -squared / 2 - std::log(-x) - 0.9189385332046727 + std::log1p(-1 / squared + 3 / (squared * squared));
}

/// The x in [low, high] where the falling function f crosses `target`, from above.
template <typename F>
double crossing(double low, double high, double target, F&& f) {
  for (int i = 0; i < 200 && high - low > 1e-13 * std::max(1.0, high); ++i) {
    const double middle = low + (high - low) / 2;
    (f(middle) > target ? low : high) = middle;
  }
  return high;
}

}  // namespace

double gaussian_delta(double mu, double epsilon) {
  const double gone = normal_below(mu / 2 - epsilon / mu);
  return std::max(0.0, gone - std::exp(epsilon + log_normal_below(-mu / 2 - epsilon / mu)));
}

double gaussian_epsilon(double mu, double delta) {
  if (gaussian_delta(mu, 0) <= delta) return 0;
  double high = 1;
  while (gaussian_delta(mu, high) > delta) high *= 2;
  return crossing(0, high, delta, [mu](double epsilon) { return gaussian_delta(mu, epsilon); });
}

double zcdp_gaussian(double sensitivity, double sigma) {
  return sensitivity * sensitivity / (2 * sigma * sigma);
}

double zcdp_epsilon(double rho, double delta) {
  if (rho == 0) return 0;
  const auto at = [&](double log_excess) {
    const double alpha = 1 + std::exp(log_excess);
    return rho * alpha + std::log1p(-1 / alpha) - (std::log(delta) + std::log(alpha)) / (alpha - 1);
  };
  // One valley in log(alpha - 1): thirds of the interval close in on it.
  double low = std::log(0.01);
  double high = std::log(1e12);
  for (int i = 0; i < 200; ++i) {
    const double a = low + (high - low) / 3;
    const double b = high - (high - low) / 3;
    (at(a) < at(b) ? high : low) = at(a) < at(b) ? b : a;
  }
  return std::max(0.0, at((low + high) / 2));
}

double group_epsilon(std::size_t k, double delta, const std::function<double(double)>& epsilon_at) {
  const auto group_delta_log = [&](double log_member) {
    const double e = epsilon_at(std::exp(log_member));
    if (e < 1e-12) return log_member + std::log(static_cast<double>(k));
    const double grown = static_cast<double>(k) * e;
    const double log_factor = grown + std::log(-std::expm1(-grown)) - e - std::log(-std::expm1(-e));
    return log_member + log_factor;
  };
  double low = std::log(delta) - 700;  // a member's delta far below: its group's is too, or no epsilon is given
  double high = std::log(delta);
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (group_delta_log(middle) <= std::log(delta) ? low : high) = middle;
  }
  return static_cast<double>(k) * epsilon_at(std::exp(low));
}

std::size_t tree_levels(std::size_t steps) {
  return static_cast<std::size_t>(std::bit_width(steps));
}

}  // namespace covey::aggregation::dp

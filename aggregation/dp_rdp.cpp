#include "aggregation/dp_rdp.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace covey::aggregation::dp {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// log(e^a + e^b).
double log_add(double a, double b) {
  if (a < b) std::swap(a, b);
  return b == -kInfinity ? a : a + std::log1p(std::exp(b - a));
}

double log_binomial(double n, double k) {
  return std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1);
}

/// log(1 + e^x).
double log1p_exp(double x) {
  return x > 30 ? x + std::exp(-x) : std::log1p(std::exp(x));
}

/// log E[L^alpha] with L the mixture's likelihood ratio, integer alpha. The terms k = 0 and 1 and the probabilities'
/// sum make 1, so what is added to it is a sum of positive terms and keeps its digits however small it is.
double log_moment_integer(double q, double sigma, int alpha) {
  double sum = -kInfinity;
  for (int k = 2; k <= alpha; ++k) {
    const double exponent = double(k) * (k - 1) / (2 * sigma * sigma);
    const double log_grown = exponent > 30 ? exponent : std::log(std::expm1(exponent));
    const double rest = alpha > k ? (alpha - k) * std::log1p(-q) : 0.0;
    sum = log_add(sum, log_binomial(alpha, k) + k * std::log(q) + rest + log_grown);
  }
  return log1p_exp(sum);
}

/// log((1 + u)^alpha - 1 - alpha u) for u > -1: convex, so never below 0. `log_grown` = log(1 + u).
double log_excess(double u, double log_grown, double alpha) {
  if (std::abs(u) < 1e-3) {
    const double series = 1 + (alpha - 2) / 3 * u * (1 + (alpha - 3) / 4 * u * (1 + (alpha - 4) / 5 * u));
    return std::log(alpha * (alpha - 1) / 2) + 2 * std::log(std::abs(u)) + std::log(series);
  }
  const double power = alpha * log_grown;
  if (power > 40) return power + std::log1p(-std::exp(log_grown + std::log(alpha) - power));
  return std::log(std::exp(power) - 1 - alpha * u);
}

/// The same by quadrature over z ~ N(0, sigma^2): 1 + E[(1 + u)^alpha - 1 - alpha u], u = q (L - 1), because E[u] = 0.
double log_moment_fractional(double q, double sigma, double alpha) {
  // The integrand is analytic up to |Im z| = pi sigma^2; this step leaves about e^-40 of discretization.
  const double step = std::min(sigma / 16, 0.45 * sigma * sigma);
  const double end = std::max(alpha, 2.0) + 12 * sigma;
  double sum = -kInfinity;
  for (double z = -12 * sigma; z <= end; z += step) {
    const double loss = (2 * z - 1) / (2 * sigma * sigma);
    double u = 0;
    double log_grown = 0;
    if (loss < 30) {
      u = q * std::expm1(loss);
      log_grown = std::log1p(u);
    } else {
      log_grown = log_add(std::log1p(-q), std::log(q) + loss);
      u = loss < 700 ? q * std::expm1(loss) : kInfinity;
    }
    if (u == 0) continue;
    sum = log_add(sum, -z * z / (2 * sigma * sigma) + log_excess(u, log_grown, alpha));
  }
  constexpr double kRootTwoPi = 2.5066282746310002;
  return log1p_exp(sum + std::log(step / (sigma * kRootTwoPi)));
}

}  // namespace

double rdp_gaussian(double sigma, double alpha) {
  return alpha / (2 * sigma * sigma);
}

double rdp_poisson_gaussian(double q, double sigma, double alpha) {
  if (q == 0) return 0;
  if (sigma == 0 || std::isinf(alpha)) return kInfinity;
  if (q == 1) return rdp_gaussian(sigma, alpha);
  const bool whole = alpha == std::floor(alpha) && alpha < 1e6;
  const double moment =
      whole ? log_moment_integer(q, sigma, static_cast<int>(alpha)) : log_moment_fractional(q, sigma, alpha);
  return moment / (alpha - 1);
}

double epsilon_of_rdp(std::span<const double> orders, std::span<const double> rdp, double delta) {
  double best = kInfinity;
  for (std::size_t i = 0; i < orders.size(); ++i) {
    const double alpha = orders[i];
    if (!(alpha > 1.01) || !std::isfinite(rdp[i])) continue;  // below, rounding eats the quotient by alpha - 1
    best = std::min(best, rdp[i] + std::log1p(-1 / alpha) - (std::log(delta) + std::log(alpha)) / (alpha - 1));
  }
  return std::max(best, 0.0);
}

const std::vector<double>& default_orders() {
  static const std::vector<double> orders = [] {
    std::vector<double> out;
    for (int tenth = 11; tenth < 110; ++tenth) out.push_back(tenth / 10.0);
    for (int order = 12; order < 64; ++order) out.push_back(order);
    for (int order = 64; order <= 65536; order *= 2) out.push_back(order);
    return out;
  }();
  return orders;
}

double epsilon_poisson_gaussian(double q, double sigma, std::uint64_t steps, double delta,
                                std::span<const double> orders) {
  std::vector<double> rdp;
  for (const double alpha : orders) rdp.push_back(static_cast<double>(steps) * rdp_poisson_gaussian(q, sigma, alpha));
  return epsilon_of_rdp(orders, rdp, delta);
}

}  // namespace covey::aggregation::dp

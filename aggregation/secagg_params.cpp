#include "aggregation/secagg_params.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace covey::aggregation {
namespace {

constexpr double kSlack = 1e-14;  ///< a fraction times n that should be whole is not lost to rounding

/// Logarithms of factorials 0 ... n, by summation. Device and coordinator must find the same k and t, and lgamma()
/// differs between C libraries by far more than log() does.
class LogFactorials {
 public:
  explicit LogFactorials(std::uint32_t n) : logs_(n + 1) {
    for (std::uint32_t i = 1; i <= n; ++i) logs_[i] = logs_[i - 1] + std::log(static_cast<double>(i));
  }
  [[nodiscard]] double choose(std::int64_t n, std::int64_t k) const {
    if (k < 0 || k > n) return -std::numeric_limits<double>::infinity();
    return at(n) - at(k) - at(n - k);
  }
  /// P[x marked ones in `draws` of a population with `marked`].
  [[nodiscard]] double hypergeometric(std::int64_t population, std::int64_t marked, std::int64_t draws,
                                      std::int64_t x) const {
    return std::exp(choose(marked, x) + choose(population - marked, draws - x) - choose(population, draws));
  }

 private:
  [[nodiscard]] double at(std::int64_t i) const { return logs_[static_cast<std::size_t>(i)]; }
  std::vector<double> logs_;
};

Status check(std::uint32_t devices, const SecAggAssumptions& assumptions, std::uint32_t devices_min) {
  const auto fraction = [](double value) { return std::isfinite(value) && value >= 0 && value < 1; };
  if (!fraction(assumptions.corrupt_fraction) || !fraction(assumptions.dropout_fraction)) {
    return Error{ErrorCode::invalid_argument,
                 "secure aggregation: the corrupt and dropout fractions must be from 0 to below 1"};
  }
  if (devices >= devices_min && devices <= kSecAggDevicesMax) return {};
  return Error{ErrorCode::invalid_argument, "secure aggregation: " + std::to_string(devices) +
                                                " devices; a round takes " + std::to_string(devices_min) + " to " +
                                                std::to_string(kSecAggDevicesMax)};
}

/// The smallest t1 with P[more than t1 of k neighbours are corrupt] <= bound.
std::int64_t corrupt_neighbours(const LogFactorials& logs, std::int64_t n, std::int64_t corrupt, std::int64_t k,
                                double bound) {
  double tail = 0;
  for (std::int64_t x = k; x > 0; --x) {
    tail += logs.hypergeometric(n, corrupt, k, x);
    if (tail > bound) return x;
  }
  return 0;
}

}  // namespace

Result<SecAggParams> solve_sparse(std::uint32_t devices, const SecAggAssumptions& assumptions, SecAggRule rule) {
  COVEY_TRY(check(devices, assumptions, 3));
  const double gamma = assumptions.corrupt_fraction;
  const double delta = assumptions.dropout_fraction;
  const auto n = static_cast<std::int64_t>(devices);
  const auto size = static_cast<double>(devices);
  const auto corrupt = static_cast<std::int64_t>(std::floor((gamma + kSlack) * size));
  const auto survivors = static_cast<std::int64_t>(std::ceil((1 - delta - kSlack) * size));
  const auto lost = static_cast<std::int64_t>(std::floor(gamma * size) + std::floor(delta * size));
  const double apart_max = -41 * std::log(2.0);
  const double corrupt_max = std::ldexp(1.0, -41) / size;
  const double too_few_max = std::ldexp(1.0, -20) / size;
  const LogFactorials logs(devices);

  for (std::int64_t k = 2; k < n; k += 2) {
    if (n - k - 1 > 0) {
      const double pairs = size * static_cast<double>(n - k - 1) / 2;
      if (!(std::log(pairs) + logs.choose(n - k, lost - k) - logs.choose(n, lost) < apart_max)) continue;
    }
    std::int64_t t1 = corrupt_neighbours(logs, n, corrupt, k, corrupt_max);
    if (rule == SecAggRule::semi_malicious) {
      t1 = static_cast<std::int64_t>(std::ceil((static_cast<double>(t1 + k) - 1.25) / 2));
    }
    const std::int64_t t = t1 + 1;
    if (t > k) continue;
    double too_few = 0;
    for (std::int64_t x = 0; x < t; ++x) too_few += logs.hypergeometric(n, survivors, k, x);
    if (too_few < too_few_max) {
      return SecAggParams{devices, false, static_cast<std::uint32_t>(k), static_cast<std::uint32_t>(t)};
    }
  }
  return Error{ErrorCode::not_found,
               "secure aggregation: no sparse graph of " + std::to_string(devices) + " devices bears these fractions"};
}

Result<SecAggParams> secagg_params(std::uint32_t devices, const SecAggAssumptions& assumptions) {
  COVEY_TRY(check(devices, assumptions, 2));
  if (devices > kCompleteDevicesMax) {
    auto sparse = solve_sparse(devices, assumptions, SecAggRule::semi_malicious);
    if (sparse.ok() || sparse.error().code != ErrorCode::not_found) return sparse;
  }
  const auto size = static_cast<double>(devices);
  const auto t =
      static_cast<std::uint32_t>(std::floor((size + (assumptions.corrupt_fraction + kSlack) * size) / 2)) + 1;
  if (t <= devices) return SecAggParams{devices, true, devices - 1, t};
  return Error{ErrorCode::invalid_argument,
               "secure aggregation: with this corrupt fraction no threshold is safe; invite more devices"};
}

}  // namespace covey::aggregation

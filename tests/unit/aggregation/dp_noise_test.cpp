// Samplers: chi-square against the exact probabilities (p > 1e-4) and the variance. Seeded, so a run repeats; the full
// test (COVEY_DP_DRAWS=10000000, label full) takes ten million draws of the system generator.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>

#include "aggregation/dp_noise.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation::dp;

namespace {

std::uint64_t draws() {
  const char* wanted = std::getenv("COVEY_DP_DRAWS");
  return wanted == nullptr ? 300'000 : std::strtoull(wanted, nullptr, 10);
}

NoiseBits bits_of(std::uint8_t seed) {
  if (std::getenv("COVEY_DP_DRAWS") != nullptr) return NoiseBits::system();
  Bytes bytes(32, seed);
  return NoiseBits(bytes);
}

/// Upper tail of the chi-square distribution, by Wilson and Hilferty's cube root: good to a few per cent far out.
double chi_square_p(double statistic, double freedom) {
  const double spread = 2 / (9 * freedom);
  const double z = (std::cbrt(statistic / freedom) - (1 - spread)) / std::sqrt(spread);
  return std::erfc(z / std::sqrt(2.0)) / 2;
}

struct Figures {
  double p = 0;
  double variance = 0;
};

/// `cell(x)` and the cells' probabilities; cells that expect fewer than 10 draws are put together.
Figures measure(const std::function<std::int64_t()>& draw, const std::map<std::int64_t, double>& probability,
                const std::function<std::int64_t(std::int64_t)>& cell) {
  const std::uint64_t n = draws();
  std::map<std::int64_t, std::uint64_t> counts;
  double sum = 0;
  double squares = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    const std::int64_t x = draw();
    const auto wide = static_cast<double>(x);
    sum += wide;
    squares += wide * wide;
    ++counts[cell(x)];
  }
  double statistic = 0;
  double cells = 0;
  double pooled_seen = static_cast<double>(n);
  double pooled_due = static_cast<double>(n);
  for (const auto& [at, p] : probability) {
    const double due = p * static_cast<double>(n);
    if (due < 10) continue;
    const auto seen = static_cast<double>(counts.contains(at) ? counts.at(at) : 0);
    statistic += (seen - due) * (seen - due) / due;
    pooled_seen -= seen;
    pooled_due -= due;
    cells += 1;
  }
  if (pooled_due > 1) {
    statistic += (pooled_seen - pooled_due) * (pooled_seen - pooled_due) / pooled_due;
    cells += 1;
  }
  const double mean = sum / static_cast<double>(n);
  return {chi_square_p(statistic, cells - 1), squares / static_cast<double>(n) - mean * mean};
}

/// 0.3% at ten million draws; fewer draws are allowed five standard errors.
void check(const char* what, const Figures& figures, double variance) {
  const double allowed = std::max(0.003, 5 * std::sqrt(2.5 / static_cast<double>(draws())));
  std::printf("%-28s p %.4f, variance %.6g of %.6g (%+.3f%%)\n", what, figures.p, figures.variance, variance,
              100 * (figures.variance / variance - 1));
  CHECK(figures.p > 1e-4);
  CHECK(std::abs(figures.variance / variance - 1) < allowed);
}

}  // namespace

TEST_CASE("the discrete Gaussian has its exact probabilities and variance, for small and large sigma") {
  for (const double sigma : {0.5, 3.0, 40.5, 5000.0}) {
    CAPTURE(sigma);
    const DiscreteGaussian gaussian(sigma);
    NoiseBits bits = bits_of(3);
    const auto width = std::max<std::int64_t>(1, static_cast<std::int64_t>(sigma / 8));
    const auto cell = [width](std::int64_t x) { return x >= 0 ? x / width : -((-x + width - 1) / width); };
    const auto reach = static_cast<std::int64_t>(12 * sigma) + 1;
    std::map<std::int64_t, double> probability;
    double total = 0;
    double variance = 0;
    for (std::int64_t x = -reach; x <= reach; ++x) {
      const double weight = std::exp(-static_cast<double>(x) * static_cast<double>(x) / (2 * sigma * sigma));
      probability[cell(x)] += weight;
      total += weight;
      variance += weight * static_cast<double>(x) * static_cast<double>(x);
    }
    for (auto& [at, p] : probability) p /= total;
    check(("discrete Gaussian, " + std::to_string(sigma)).c_str(),
          measure([&] { return gaussian.draw(bits); }, probability, cell), variance / total);
  }
}

TEST_CASE("Poisson and Skellam numbers have their probabilities and variances, by both methods") {
  for (const double mean : {0.7, 4.0, 30.0, 900.0}) {
    CAPTURE(mean);
    NoiseBits bits = bits_of(5);
    std::map<std::int64_t, double> probability;
    for (std::int64_t k = 0; k < static_cast<std::int64_t>(mean + 12 * std::sqrt(mean) + 20); ++k) {
      const auto wide = static_cast<double>(k);
      probability[k] = std::exp(wide * std::log(mean) - mean - std::lgamma(wide + 1));
    }
    const auto itself = [](std::int64_t x) { return x; };
    check(("Poisson, " + std::to_string(mean)).c_str(),
          measure([&] { return poisson(bits, mean); }, probability, itself), mean);
    if (mean > 100) continue;
    std::map<std::int64_t, double> difference;  // of two independent ones
    for (const auto& [a, p] : probability) {
      for (const auto& [b, q] : probability) difference[a - b] += p * q;
    }
    check(("Skellam, " + std::to_string(2 * mean)).c_str(),
          measure([&] { return skellam(bits, 2 * mean); }, difference, itself), 2 * mean);
  }
}

TEST_CASE("normal numbers have the normal distribution") {
  NoiseBits bits = bits_of(9);
  // In cells of 1/10; the draws are scaled by 2^20 so that the variance keeps its digits.
  constexpr double kScale = 1 << 20;
  const auto cell = [](std::int64_t x) {
    return static_cast<std::int64_t>(std::floor(static_cast<double>(x) / (kScale / 10)));
  };
  std::map<std::int64_t, double> probability;
  for (std::int64_t c = -80; c < 80; ++c) {
    const auto below = [](double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; };
    probability[c] = below(static_cast<double>(c + 1) / 10) - below(static_cast<double>(c) / 10);
  }
  check(
      "Gaussian",
      measure([&] { return static_cast<std::int64_t>(std::floor(standard_normal(bits) * kScale)); }, probability, cell),
      kScale * kScale);
}

TEST_CASE("numbers below a bound are uniform, also where it needs more than 64 bits") {
  NoiseBits bits = bits_of(1);
  std::array<int, 7> seen{};
  for (int i = 0; i < 70'000; ++i) ++seen[static_cast<std::size_t>(bits.below(7))];
  for (const int count : seen) CHECK(std::abs(count - 10'000) < 500);
  const Wide large = static_cast<Wide>(3) << 100;
  int upper = 0;
  for (int i = 0; i < 30'000; ++i) {
    const auto draw = bits.below(large);
    REQUIRE(draw < large);
    if (draw >= static_cast<Wide>(2) << 100) ++upper;
  }
  CHECK(std::abs(upper - 10'000) < 500);
}

TEST_CASE("one seed names one sequence, two seeds two") {
  NoiseBits a = bits_of(1);
  if (std::getenv("COVEY_DP_DRAWS") != nullptr) return;  // the system generator repeats nothing
  NoiseBits again = bits_of(1);
  NoiseBits other = bits_of(2);
  bool differs = false;
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t value = a.next();
    CHECK(value == again.next());
    differs = differs || value != other.next();
  }
  CHECK(differs);
}

// The published accountant values (data/dp-accountant-vectors), each held as its README says.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include "aggregation/dp_gaussian.h"
#include "aggregation/dp_pld.h"
#include "aggregation/dp_rdp.h"
#include "support/support.h"

using namespace covey::aggregation::dp;
using namespace covey;

namespace {

constexpr auto kGaussian = PldRelease::Noise::gaussian;

std::vector<double> opacus_orders() {
  std::vector<double> out;
  for (int tenth = 11; tenth < 110; ++tenth) out.push_back(tenth / 10.0);
  for (int order = 12; order < 64; ++order) out.push_back(order);
  return out;
}

std::vector<double> tfp_orders() {
  std::vector<double> out = {1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 4.5};
  for (int order = 5; order < 64; ++order) out.push_back(order);
  for (const double order : {128, 256, 512}) out.push_back(order);
  return out;
}

/// What the examples and statements of that test file take: the accountant's default orders. (Its order 3.2 gives
/// 10.8602036 for `tfp_ex_nomb_nosub_rdp`; the coarser grid above cannot be below 10.910.)
std::vector<double> dpa_orders() {
  std::vector<double> out;
  for (int tenth = 11; tenth < 110; ++tenth) out.push_back(tenth / 10.0);
  for (int order = 11; order < 64; ++order) out.push_back(order);
  for (const double order : {128, 256, 512, 1024}) out.push_back(order);
  return out;
}

double tfp_epsilon(double q, double sigma, std::uint64_t steps, double delta) {
  return epsilon_poisson_gaussian(q, sigma, steps, delta, tfp_orders());
}

double rdp_epsilon(double q, double sigma, std::uint64_t steps, double delta) {
  return epsilon_poisson_gaussian(q, sigma, steps, delta, dpa_orders());
}

PldCurve pld(std::vector<PldRelease> releases, double interval = 1e-4) {
  PldOptions options;
  options.interval = interval;
  auto curve = PldCurve::compose(releases, options);
  REQUIRE_OK(curve);
  return *std::move(curve);
}

double pld_epsilon(double q, double sigma, std::uint64_t steps, double delta, double interval = 1e-4) {
  return pld({PldRelease::poisson(kGaussian, q, sigma, steps)}, interval).epsilon(delta);
}

double opacus_sigma(std::uint64_t steps, bool by_pld) {
  return smallest_sigma(8, [&](double sigma) {
    if (sigma < 0.5) return 1e9;
    if (by_pld) return pld_epsilon(0.04, sigma, steps, 1e-5, 1e-3);
    return epsilon_poisson_gaussian(0.04, sigma, steps, 1e-5, opacus_orders());
  });
}

double constant_rdp() {
  std::vector<double> orders;
  for (int order = 2; order <= 32; ++order) orders.push_back(order);
  return epsilon_of_rdp(orders, std::vector<double>(orders.size(), 1.1), 1e-5);
}

double gaussian_on_fine_orders() {
  std::vector<double> orders;
  std::vector<double> rdp;
  for (int i = 1001; i < 100'000; ++i) {
    orders.push_back(i / 1000.0);
    rdp.push_back(rdp_gaussian(4.530877117, orders.back()));
  }
  return epsilon_of_rdp(orders, rdp, 1e-6);
}

double tree_epsilon(double sigma) {
  std::vector<double> rdp;
  for (const double order : tfp_orders()) {
    rdp.push_back(static_cast<double>(tree_levels(1600)) * rdp_gaussian(sigma, order));
  }
  return epsilon_of_rdp(tfp_orders(), rdp, 1e-6);
}

double log_erfc(double x) {
  return x < 25 ? std::log(std::erfc(x)) : -x * x - std::log(x * std::sqrt(3.141592653589793)) - 1 / (2 * x * x);
}

/// The fractional orders' series with every term's sign dropped, as dp_accounting sums it: an upper bound.
double bounding_rdp(double q, double sigma, double alpha) {
  const double z = sigma * sigma * std::log(1 / q - 1) + 0.5;
  double sum = 0;
  double log_coefficient = 0;  // of |binomial(alpha, i)|
  for (int i = 0; i < 1000; ++i) {
    const double j = alpha - i;
    const auto term = [&](double k, double rest, double argument) {
      return log_coefficient + k * std::log(q) + rest * std::log1p(-q) + k * (k - 1) / (2 * sigma * sigma) +
             log_erfc(argument / (std::sqrt(2.0) * sigma)) - std::log(2);
    };
    const double first = term(i, j, i - z);
    const double second = term(j, i, z - j);
    sum += std::exp(first) + std::exp(second);
    if (std::max(first, second) < -30) break;
    log_coefficient += std::log(std::abs(alpha - i)) - std::log(i + 1.0);
  }
  return std::log(sum) / (alpha - 1);
}

enum class Rule : std::uint8_t {
  relative,  ///< to 1e-6
  loose,     ///< relative to 1e-4
  own,       ///< the row's own tolerance, absolute
  half_percent,
  upper_95,  ///< at most the row, at least 0.95 of it
  upper_98,
  below,  ///< the row is a bound
  infinite,
  out_of_scope,
};

struct Case {
  Rule rule;
  std::function<double()> ours;
};

const double kPoissonQ = 64.0 / 10'000;

/// Microbatching doubles the sensitivity, so its rows have half the noise.
const std::map<std::string, Case>& cases() {
  static const std::map<std::string, Case> all = {
      {"opacus_rdp", {Rule::relative, [] { return epsilon_poisson_gaussian(.04, 1.5, 2250, 1e-5, opacus_orders()); }}},
      {"opacus_gdp", {Rule::out_of_scope, {}}},
      {"opacus_prv", {Rule::upper_98, [] { return pld_epsilon(.04, 1.5, 2249, 1e-5); }}},
      {"opacus_nm_rdp_epochs", {Rule::half_percent, [] { return opacus_sigma(2250, false); }}},
      {"opacus_nm_rdp_steps", {Rule::half_percent, [] { return opacus_sigma(2000, false); }}},
      {"opacus_nm_prv_epochs", {Rule::half_percent, [] { return opacus_sigma(2250, true); }}},
      {"opacus_nm_prv_steps", {Rule::half_percent, [] { return opacus_sigma(2000, true); }}},
      {"opacus_nm_gdp_epochs", {Rule::out_of_scope, {}}},
      {"tfp_0", {Rule::relative, [] { return tfp_epsilon(150.0 / 60'000, 1.3, 6000, 1e-5); }}},
      {"tfp_1", {Rule::relative, [] { return tfp_epsilon(100.0 / 100'000, 1.0, 30'000, 1e-7); }}},
      {"tfp_2", {Rule::relative, [] { return tfp_epsilon(1024.0 / 1e8, 0.1, 976'563, 1e-7); }}},
      {"tfp_ex_nomb_nosub_rdp", {Rule::relative, [] { return rdp_epsilon(1, .7, 2, 1e-5); }}},
      {"tfp_ex_mb_nosub_rdp", {Rule::relative, [] { return rdp_epsilon(1, .35, 2, 1e-5); }}},
      {"tfp_ex_nomb_sub_rdp", {Rule::upper_98, [] { return rdp_epsilon(.01, .7, 120, 1e-5); }}},
      {"tfp_ex_mb_sub_rdp", {Rule::upper_98, [] { return rdp_epsilon(.01, .35, 120, 1e-5); }}},
      {"tfp_ex_nomb_nosub_pld", {Rule::own, [] { return gaussian_epsilon(std::sqrt(2.0) / .7, 1e-5); }}},
      {"tfp_ex_mb_nosub_pld", {Rule::own, [] { return gaussian_epsilon(std::sqrt(2.0) / .35, 1e-5); }}},
      {"tfp_ex_nomb_sub_pld", {Rule::own, [] { return pld_epsilon(.01, .7, 120, 1e-5); }}},
      {"tfp_ex_mb_sub_pld", {Rule::own, [] { return pld_epsilon(.01, .35, 120, 1e-5); }}},
      {"tfp_stmt_rdp_once", {Rule::own, [] { return rdp_epsilon(1, 1, 5, 1e-6); }}},
      {"tfp_stmt_rdp_poisson", {Rule::own, [] { return rdp_epsilon(kPoissonQ, 1, 782, 1e-6); }}},
      {"tfp_stmt_pld_once", {Rule::own, [] { return gaussian_epsilon(std::sqrt(5.0), 1e-6); }}},
      {"tfp_stmt_pld_poisson", {Rule::own, [] { return pld_epsilon(kPoissonQ, 1, 782, 1e-6); }}},
      // Without sampling three members only triple the sensitivity; with it, Vadhan's lemma.
      {"tfp_stmt_user3_once", {Rule::own, [] { return rdp_epsilon(1, 1.0 / 3, 5, 1e-6); }}},
      {"tfp_stmt_user3_poisson",
       {Rule::own, [] { return group_epsilon(3, 1e-6, [](double d) { return rdp_epsilon(kPoissonQ, 1, 782, d); }); }}},
      {"dpa_rdp_o1.5", {Rule::upper_95, [] { return 50 * rdp_poisson_gaussian(.01, 2.5, 1.5); }}},
      {"dpa_rdp_o2.5", {Rule::upper_95, [] { return 50 * rdp_poisson_gaussian(.01, 2.5, 2.5); }}},
      {"dpa_rdp_o5", {Rule::loose, [] { return 50 * rdp_poisson_gaussian(.01, 2.5, 5); }}},
      {"dpa_rdp_o50", {Rule::loose, [] { return 50 * rdp_poisson_gaussian(.01, 2.5, 50); }}},
      {"dpa_rdp_o100", {Rule::loose, [] { return 50 * rdp_poisson_gaussian(.01, 2.5, 100); }}},
      {"dpa_rdp_inf", {Rule::infinite, [] { return 50 * rdp_poisson_gaussian(.01, 2.5, INFINITY); }}},
      {"dpa_gauss_exact", {Rule::own, gaussian_on_fine_orders}},
      {"dpa_pure", {Rule::own, constant_rdp}},
      {"dpa_expmech", {Rule::out_of_scope, {}}},
      {"dpa_tree_20", {Rule::below, [] { return tree_epsilon(1.13); }}},
      {"dpa_tree_2", {Rule::below, [] { return tree_epsilon(8.83); }}},
      {"dpa_pld_gauss", {Rule::own, [] { return gaussian_delta(1, 1); }}},
      {"dpa_pld_poisson", {Rule::own, [] { return pld({PldRelease::poisson(kGaussian, .2, .5, 3)}).delta(1); }}},
      {"dpa_pld_poisson_laplace",
       {Rule::own, [] { return pld({PldRelease::poisson(PldRelease::Noise::laplace, .2, .5, 3)}).epsilon(1e-14); }}},
      {"dpa_pld_mog",
       {Rule::own,
        [] {
          return pld({{kGaussian, 1, {0, 1, 2}, {.2, .6, .2}, 3}, {kGaussian, 2, {0, 2, 3}, {.33, .34, .33}, 2}})
              .epsilon(1e-6);
        }}},
      {"dpa_pld_trunc", {Rule::out_of_scope, {}}},
  };
  return all;
}

bool holds(Rule rule, double ours, double expected, double tolerance) {
  switch (rule) {
    case Rule::relative:
      return std::abs(ours / expected - 1) <= 1e-6;
    case Rule::loose:
      return std::abs(ours / expected - 1) <= 1e-4;
    case Rule::own:
      return std::abs(ours - expected) <= tolerance;
    case Rule::half_percent:
      return std::abs(ours / expected - 1) <= 5e-3;
    case Rule::upper_95:
      return ours <= expected && ours >= 0.95 * expected;
    case Rule::upper_98:
      return ours <= expected && ours >= 0.98 * expected;
    case Rule::below:
      return ours < expected && ours > 0.8 * expected;
    case Rule::infinite:
      return std::isinf(ours);
    case Rule::out_of_scope:
      return true;
  }
  return false;
}

const char* name_of(Rule rule) {
  constexpr std::array<const char*, 9> kNames = {"relative 1e-6",   "relative 1e-4",   "own tolerance",
                                                 "within 0.5%",     "0.95 to 1 of it", "0.98 to 1 of it",
                                                 "below the bound", "infinite",        "out of scope"};
  return kNames[static_cast<std::size_t>(rule)];
}

}  // namespace

TEST_CASE("every published accountant value is met as its README says, or listed as out of scope") {
  const auto path = test::data_path("dp-accountant-vectors/vectors.tsv");
  if (!path) return;
  std::ifstream file(*path);
  int rows = 0;
  int out_of_scope = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line.front() == '#') continue;
    std::vector<std::string> fields;
    std::istringstream in(line);
    for (std::string field; std::getline(in, field, '\t');) fields.push_back(field);
    REQUIRE(fields.size() == 11);
    const std::string& id = fields[0];
    CAPTURE(id);
    const auto found = cases().find(id);
    REQUIRE(found != cases().end());
    ++rows;
    const auto& [rule, ours] = found->second;
    if (rule == Rule::out_of_scope) {
      ++out_of_scope;
      std::printf("%-26s %-16s %-20s -\n", id.c_str(), name_of(rule), fields[8].c_str());
      continue;
    }
    const std::string number = fields[8].front() == '<' ? fields[8].substr(1) : fields[8];
    const double expected = std::strtod(number.c_str(), nullptr);
    const double tolerance = std::strtod(fields[9].c_str(), nullptr);
    const double value = ours();
    std::printf("%-26s %-16s %-20s %.12g\n", id.c_str(), name_of(rule), fields[8].c_str(), value);
    CHECK_MESSAGE(holds(rule, value, expected, tolerance), "ours " << value << ", expected " << expected);
  }
  CHECK(rows == static_cast<int>(cases().size()));
  CHECK(rows == 41);
  CHECK(out_of_scope == 4);  // GDP's CLT (no bound), the exponential mechanism, truncated sampling
}

TEST_CASE("the two rows that our exact integral lies below come out of the sum of absolute terms") {
  const auto with_bounds = [](double sigma) {
    std::vector<double> rdp;
    for (const double order : dpa_orders()) {
      const bool whole = order == std::floor(order);
      rdp.push_back(120 * (whole ? rdp_poisson_gaussian(.01, sigma, order) : bounding_rdp(.01, sigma, order)));
    }
    return epsilon_of_rdp(dpa_orders(), rdp, 1e-5);
  };
  CHECK(with_bounds(.7) == doctest::Approx(3.2392676).epsilon(1e-6));
  CHECK(with_bounds(.35) == doctest::Approx(22.6248601).epsilon(1e-6));
  CHECK(50 * bounding_rdp(.01, 2.5, 1.5) == doctest::Approx(6.70579741e-04).epsilon(1e-4));
  CHECK(50 * bounding_rdp(.01, 2.5, 2.5) == doctest::Approx(1.08548710e-03).epsilon(1e-4));
}

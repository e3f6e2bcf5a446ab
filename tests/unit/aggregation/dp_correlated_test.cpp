// A whole task's correlated noise: what it costs round by round, and that it is one sequence however it is asked for.
#include <algorithm>
#include <cmath>
#include <limits>

#include "aggregation/dp_correlated.h"
#include "aggregation/dp_gaussian.h"
#include "aggregation/dp_ledger.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;
using namespace covey::aggregation::dp;

namespace {

wire::CorrelatedPlan claim_of(wire::CorrelatedKind kind, std::uint32_t separation = 4, std::uint32_t times = 0) {
  const bool blt = kind == wire::CorrelatedKind::blt;
  return {kind, 2, separation, times, blt ? 3U : 0U, blt ? 64U : 0U};
}

constexpr wire::CorrelatedKind kBoth[] = {wire::CorrelatedKind::tree, wire::CorrelatedKind::blt};

UpdateSpec spec_of(std::size_t values) {
  return {values, 1, 10, 1, 8, 0};
}

std::vector<std::int64_t> plus(std::vector<std::int64_t> a, const std::vector<std::int64_t>& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += b[i];
  return a;
}

}  // namespace

TEST_CASE("the rounds' charges are never negative, and together they are what the whole task costs") {
  for (const auto kind : kBoth) {
    const auto claim = claim_of(kind, 4, 5);
    Ledger ledger({1e6, 1e-6});
    std::uint64_t before = 0;
    for (const std::uint64_t round : {1, 2, 3, 7, 8, 9, 40}) {  // others were aborted
      const auto charge = correlated_charge(claim, before, round);
      CHECK(std::ranges::all_of(charge, [](double value) { return value >= 0; }));
      REQUIRE_OK(ledger.charge(charge));
      before = round;
    }
    Ledger whole({1e6, 1e-6});
    REQUIRE_OK(whole.charge(Ledger::concentrated(correlated_rho(claim, 40))));
    CHECK(ledger.epsilon() == doctest::Approx(whole.epsilon()));
    // By the other formula: the ledger's grid of orders costs up to 2%.
    CHECK(ledger.epsilon() == doctest::Approx(zcdp_epsilon(correlated_rho(claim, 40), 1e-6)).epsilon(0.02));
  }
}

TEST_CASE("one participation in a tree of 1,600 rounds costs 11 Gaussian releases, as published") {
  const wire::CorrelatedPlan once{wire::CorrelatedKind::tree, 1, 1'000'000, 0, 0, 0};
  CHECK(correlated_rho(once, 1600) == doctest::Approx(11.0 / 2));
  CHECK(correlated_rho(once, 0) == 0);
}

TEST_CASE("a smaller separation and more participations cost more, and a bound on participations bounds them") {
  for (const auto kind : kBoth) {
    const double apart = correlated_rho(claim_of(kind, 16), 64);
    CHECK(correlated_rho(claim_of(kind, 4), 64) > 2 * apart);
    CHECK(correlated_rho(claim_of(kind, 4, 4), 64) < correlated_rho(claim_of(kind, 4), 64));
    CHECK(correlated_rho(claim_of(kind, 4, 1), 64) < apart);
  }
}

TEST_CASE("the noise of a task is one sequence: skipped rounds add up, and a restart changes nothing") {
  for (const auto kind : kBoth) {
    CAPTURE(static_cast<int>(kind));
    const Bytes seed(32, 7);
    CorrelatedNoise straight(claim_of(kind), seed, spec_of(50));
    const auto first = straight.between(0, 1);
    const auto second = straight.between(1, 2);
    const auto third = straight.between(2, 5);
    CHECK(first != second);
    CorrelatedNoise restarted(claim_of(kind), seed, spec_of(50));
    CHECK(restarted.between(2, 5) == third);
    CHECK(restarted.between(1, 2) == second);  // asked again for an earlier one
    CorrelatedNoise skipping(claim_of(kind), seed, spec_of(50));
    const auto whole = skipping.between(0, 5);
    const auto sum = plus(plus(first, second), third);
    for (std::size_t i = 0; i < whole.size(); ++i) {
      CHECK(std::abs(whole[i] - sum[i]) <= (kind == wire::CorrelatedKind::tree ? 0 : 2));  // each rounded for itself
    }
    CorrelatedNoise other(claim_of(kind), Bytes(32, 8), spec_of(50));
    CHECK(other.between(0, 1) != first);
  }
}

TEST_CASE("correlated noise of a long sum stays far below that of independent noise in each round") {
  for (const auto kind : kBoth) {
    const std::size_t values = 3000;
    CorrelatedNoise noise(claim_of(kind), Bytes(32, 1), spec_of(values));
    const auto sum = noise.between(0, 60);
    double squares = 0;
    for (const std::int64_t value : sum) squares += static_cast<double>(value) * static_cast<double>(value);
    const double sigma = 2 * update_norm_max(spec_of(values));
    const double per_round = std::sqrt(squares / static_cast<double>(values)) / sigma;
    CHECK(per_round > 1);
    CHECK(per_round < 0.5 * std::sqrt(60.0));
    if (kind == wire::CorrelatedKind::tree) CHECK(per_round == doctest::Approx(2).epsilon(0.05));  // 60 has four bits
  }
}

TEST_CASE("claims of correlated noise that cannot be are refused, and name the key") {
  const auto refused = [](auto change) {
    auto claim = claim_of(wire::CorrelatedKind::blt);
    change(claim);
    const Status status = check_correlated(claim, spec_of(50));
    return status.ok() ? std::string() : status.error().message;
  };
  CHECK(refused([](auto&) {}).empty());
  CHECK(refused([](auto& c) { c.multiplier = 0; }).find("noise_multiplier") != std::string::npos);
  CHECK(refused([](auto& c) { c.multiplier = std::nan(""); }).find("noise_multiplier") != std::string::npos);
  CHECK(refused([](auto& c) { c.separation = 0; }).find("separation") != std::string::npos);
  CHECK(refused([](auto& c) { c.separation = 2'000'000; }).find("separation") != std::string::npos);
  CHECK(refused([](auto& c) { c.participations_max = 2'000'000; }).find("participations_max") != std::string::npos);
  CHECK(refused([](auto& c) { c.buffers = 0; }).find("buffers") != std::string::npos);
  CHECK(refused([](auto& c) { c.buffers = 17; }).find("buffers") != std::string::npos);
  CHECK(refused([](auto& c) { c.fitted_rounds = 0; }).find("rounds") != std::string::npos);
  CHECK(refused([](auto& c) { c.multiplier = 1e-3; }).find("value_bits") != std::string::npos);
  auto unequal = spec_of(50);
  unequal.weight_max = 2;
  CHECK_FALSE(check_correlated(claim_of(wire::CorrelatedKind::tree), unequal).ok());
  for (std::uint32_t d = 1; d <= 16; ++d) {
    for (const std::uint32_t rounds : {1U, 2U, 50U, 1'000'000U}) {
      CAPTURE(d);
      CAPTURE(rounds);
      CHECK(refused([&](auto& c) { c.buffers = d, c.fitted_rounds = rounds; }).empty());
    }
  }
}

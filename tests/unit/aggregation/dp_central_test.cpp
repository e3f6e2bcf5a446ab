#include <cmath>

#include "aggregation/dp_central.h"
#include "aggregation/dp_gaussian.h"
#include "aggregation/update.h"
#include "core/base/rng.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;
using namespace covey::aggregation::dp;

namespace {

wire::RoundPlan plan_of(std::uint32_t devices) {
  wire::RoundPlan plan;
  plan.clip_norm = 2;
  plan.value_bits = 16;
  plan.weight_max = 1;
  plan.cohort_invited = devices;
  return plan;
}

/// The sum of `devices` updates of 200 values with the L2 norm `norm` each.
RunningSum sum_of(std::uint32_t devices, double norm) {
  const auto plan = plan_of(devices);
  auto sum = RunningSum::create(UpdateSpec::of(plan, 200)).value();
  for (std::uint32_t d = 0; d < devices; ++d) {
    const std::vector<float> delta(200, static_cast<float>(norm / std::sqrt(200.0)));
    REQUIRE_OK(sum.add(protect(plan, {}, delta, 1, seeded_bits({static_cast<std::uint8_t>(d)})).value()));
  }
  return sum;
}

CentralConfig config_of(double z) {
  CentralConfig config;
  config.noise_multiplier = z;
  config.budget = {8, 1e-6};
  return config;
}

}  // namespace

TEST_CASE("the noise on the mean has the multiplier's deviation, and one seed gives one result") {
  const auto sum = sum_of(10, 1);
  const auto release = central_release(config_of(1), sum, 10, Bytes(32, 7));
  REQUIRE_OK(release);
  CHECK(central_release(config_of(1), sum, 10, Bytes(32, 7))->mean == release->mean);
  CHECK(central_release(config_of(1), sum, 10, Bytes(32, 8))->mean != release->mean);
  const double wanted = 1 / std::sqrt(200.0);
  double squares = 0;
  for (const float value : release->mean) squares += (value - wanted) * (value - wanted);
  // z C / n = 0.2 for each value; 200 squares have a relative deviation of a tenth.
  CHECK(std::sqrt(squares / 200) == doctest::Approx(0.2).epsilon(0.2));
  CHECK(release->clip_norm == 2);
}

TEST_CASE("adaptive clipping falls where no update is clipped and rises where all are") {
  CentralConfig config = config_of(1);
  config.adaptive_clip = true;
  // 100 devices: sigma_b = 5, so the noised share is within 0.2 of the true one (four deviations).
  const double falls = central_release(config, sum_of(100, 0.5), 100, Bytes(32, 1))->clip_norm;
  const double rises = central_release(config, sum_of(100, 5), 100, Bytes(32, 1))->clip_norm;
  CHECK(falls < 2 * std::exp(-0.2 * 0.3));
  CHECK(falls > 2 * std::exp(-0.2 * 0.51));
  CHECK(rises > 2 * std::exp(0.2 * 0.3));
  CHECK(rises < 2 * std::exp(0.2 * 0.51));
}

TEST_CASE("the ledger refuses the charge that would pass epsilon_max, and keeps what was spent over a restart") {
  const CentralConfig config = config_of(4);
  Ledger ledger(config.budget);
  CHECK(ledger.epsilon() == 0);
  const auto charge = central_charge(config, 10);
  int rounds = 0;
  while (ledger.allows(charge)) {
    REQUIRE_OK(ledger.charge(charge));
    ++rounds;
    CHECK(ledger.epsilon() <= config.budget.epsilon_max);
    // By zCDP with the best of all orders, and never below the exact Gaussian's.
    CHECK(ledger.epsilon() == doctest::Approx(zcdp_epsilon(rounds / 32.0, 1e-6)).epsilon(0.02));
    CHECK(ledger.epsilon() >= gaussian_epsilon(std::sqrt(rounds / 16.0), 1e-6));
  }
  CHECK(rounds > 10);
  const Bytes before = ledger.serialize();
  const Status refused = ledger.charge(charge);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == ErrorCode::resource_exhausted);
  CHECK(ledger.serialize() == before);
  const auto restored = Ledger::restore(config.budget, before);
  REQUIRE_OK(restored);
  CHECK(restored->epsilon() == ledger.epsilon());
  CHECK_FALSE(restored->allows(charge));
  for (std::size_t cut = 0; cut < before.size(); cut += 7) {
    CHECK_FALSE(Ledger::restore(config.budget, ByteSpan(before).first(cut)).ok());
  }
}

TEST_CASE(
    "differential privacy is refused with weights, without a budget, and where the noise does not fit the words") {
  const auto spec = UpdateSpec::of(plan_of(10), 200);
  CHECK(config_of(1).check(spec).ok());
  CHECK(CentralConfig{}.check(spec).ok());  // off
  auto weighted = spec;
  weighted.weight_max = 2;
  CHECK_FALSE(config_of(1).check(weighted).ok());
  CentralConfig config = config_of(1);
  config.budget.delta = 0;
  CHECK_FALSE(config.check(spec).ok());
  config = config_of(1e3);
  CHECK(config.check(spec).error().message.find("value_bits") != std::string::npos);
}

// Tortured worlds: 2,000 seeds hold, every checker can fail, and a failure comes down to the faults that matter.
#include <cstdlib>

#include "core/base/cpu.h"
#include "core/base/log.h"
#include "simulations/faults.h"
#include "support/support.h"

using namespace covey;
using namespace covey::simulations;

namespace {

struct Caught {
  std::uint64_t worlds = 0;  ///< until the planted mistake was seen
  std::uint64_t seed = 0;
  bool seen = false;
};

Caught hunt(Plant plant) {
  Caught out;
  const Checker checker = checker_of(plant);
  for (std::uint64_t seed = 1; seed <= 200 && !out.seen; ++seed) {
    ++out.worlds;
    const FaultScenario scenario = draw_scenario(seed);
    const FaultOutcome world =
        checker == Checker::replay ? run_twice(scenario, plant) : run_fault_world(scenario, plant);
    for (const Violation& violation : world.violations) out.seen |= violation.checker == checker;
    out.seed = seed;
  }
  return out;
}

}  // namespace

TEST_CASE("a planted mistake is caught within 200 seeds by the checker that is about it") {
  set_log_level(LogLevel::off);
  for (std::size_t i = 1; i < kPlants; ++i) {
    const auto plant = static_cast<Plant>(i);
    const Caught caught = hunt(plant);
    CAPTURE(std::string(to_string(plant)));
    CHECK(caught.seen);
    MESSAGE(std::string(to_string(plant))
            << ": seen by `" << std::string(to_string(checker_of(plant))) << "` in world " << caught.worlds);
  }
}

TEST_CASE("a failure is brought down to the faults that it needs") {
  set_log_level(LogLevel::off);
  const Caught caught = hunt(Plant::lying_sync);
  REQUIRE(caught.seen);
  const FaultScenario whole = draw_scenario(caught.seed);
  const FaultScenario least = minimize(whole, Checker::kept, Plant::lying_sync);
  MESSAGE("seed " << caught.seed << ": " << whole.faults.size() << " faults, " << least.faults.size() << " are enough");
  CHECK(least.faults.size() < whole.faults.size());
  bool power_cut = false;  // without one a disk's lie stays without effect
  for (const FaultEntry& fault : least.faults) {
    power_cut |= fault.kind == FaultKind::lost_write || fault.kind == FaultKind::torn_write;
  }
  CHECK(power_cut);
  const FaultOutcome again = run_fault_world(least, Plant::lying_sync);
  REQUIRE(!again.violations.empty());
  CHECK(again.violations.front().checker == Checker::kept);
}

TEST_CASE("worlds of 2,000 seeds hold under every kind of fault in every phase") {
  set_log_level(LogLevel::off);
  const char* asked = std::getenv("COVEY_FAULT_SEEDS");
  const std::uint64_t seeds = asked != nullptr ? std::strtoull(asked, nullptr, 10) : 2000;
  const FaultsSummary sum =
      run_fault_worlds(1, seeds, cpu_count(), Plant::none, [](std::uint64_t seed, const FaultOutcome& world) {
        FAIL_CHECK("seed " << seed << ": " << std::string(to_string(world.violations.front().checker)) << ": "
                           << world.violations.front().what);
      });
  MESSAGE(coverage_table(sum.strikes) << "\n"
                                      << sum.published << " rounds published, " << sum.aborted << " aborted, "
                                      << sum.exhausted << " worlds without devices that may still mask");
  CHECK(sum.worlds == seeds);
  CHECK(sum.failed == 0);
  CHECK(static_cast<double>(sum.published_quiet) >= 0.95 * static_cast<double>(seeds));
  for (std::size_t kind = 0; kind < kFaultKinds; ++kind) {
    for (std::size_t phase = 0; phase < kFaultPhases; ++phase) {
      CAPTURE(std::string(to_string(static_cast<FaultKind>(kind))));
      CAPTURE(std::string(fault_phase_name(phase)));
      CHECK(sum.strikes[kind][phase] > 0);
    }
  }
}

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "core/base/cpu.h"
#include "core/formats/json.h"
#include "simulations/covey_sim.h"
#include "simulations/faults.h"

namespace covey::simulations {
namespace {

void print_outcome(std::uint64_t seed, const FaultOutcome& outcome) {
  std::printf("seed %llu: FAILED", static_cast<unsigned long long>(seed));
  for (const Violation& violation : outcome.violations) {
    std::printf("; %s: %s", to_string(violation.checker), violation.what.c_str());
  }
  std::printf("\n  covey-sim faults --replay %llu --minimize\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
}

Status replay(const FaultsOptions& options) {
  FaultScenario scenario = draw_scenario(*options.replay);
  FaultOutcome outcome = run_twice(scenario);
  if (options.minimize && !outcome.violations.empty()) {
    scenario = minimize(std::move(scenario), outcome.violations.front().checker);
    outcome = run_twice(scenario);
  }
  std::printf("seed %llu: %u devices, %llu rounds of %u to %u, %s mode%s, quiet after %lld ms\n",
              static_cast<unsigned long long>(scenario.seed), scenario.devices,
              static_cast<unsigned long long>(scenario.rounds), scenario.least, scenario.goal,
              scenario.secure ? "secure" : "robust", scenario.ledger ? ", with a privacy ledger" : "",
              static_cast<long long>(scenario.quiet_ms));
  for (const FaultEntry& entry : scenario.faults) std::printf("  %s\n", describe(entry).c_str());
  std::printf("%llu rounds published, %llu aborted, %llu processes died, %lld virtual ms, trace %s\n",
              static_cast<unsigned long long>(outcome.published), static_cast<unsigned long long>(outcome.aborted),
              static_cast<unsigned long long>(outcome.deaths), static_cast<long long>(outcome.virtual_ms),
              to_hex(ByteSpan(outcome.trace).first(8)).c_str());
  if (outcome.violations.empty()) {
    std::printf("1 passed, 0 failed\n");
    return {};
  }
  print_outcome(scenario.seed, outcome);
  std::printf("0 passed, 1 failed\n");
  return Error{ErrorCode::internal, "the world of seed " + std::to_string(scenario.seed) + " failed"};
}

}  // namespace

Status faults_command(const FaultsOptions& options) {
  if (options.replay) return replay(options);
  const int threads = options.threads.value_or(cpu_count());
  const auto started = std::chrono::steady_clock::now();
  const FaultsSummary sum = run_fault_worlds(options.first, options.seeds, threads, Plant::none, print_outcome);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  const auto percent = [&](std::uint64_t part) {
    return 100.0 * static_cast<double>(part) / static_cast<double>(std::max<std::uint64_t>(sum.worlds, 1));
  };
  std::printf("%s\n", coverage_table(sum.strikes).c_str());
  std::printf("rounds: %llu published, %llu aborted; processes died %llu times; %llu devices enrolled anew\n",
              static_cast<unsigned long long>(sum.published), static_cast<unsigned long long>(sum.aborted),
              static_cast<unsigned long long>(sum.deaths), static_cast<unsigned long long>(sum.reinstalled));
  std::printf(
      "worlds: %.1f%% published all their rounds, %.1f%% published after the faults had ended; %.1f%% ended with too "
      "few devices that may still mask for their version; each run twice, %.1f ms a world, %.0f s in all\n",
      percent(sum.finished), percent(sum.published_quiet), percent(sum.exhausted),
      1e3 * seconds / static_cast<double>(std::max<std::uint64_t>(sum.worlds, 1)), seconds);
  std::printf("%llu passed, %llu failed\n", static_cast<unsigned long long>(sum.worlds - sum.failed),
              static_cast<unsigned long long>(sum.failed));
  if (sum.failed == 0) return {};
  return Error{ErrorCode::internal,
               std::to_string(sum.failed) + " worlds failed, the first of seed " + std::to_string(*sum.first_failure)};
}

}  // namespace covey::simulations

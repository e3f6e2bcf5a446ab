#include "simulations/faults.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "core/base/thread_pool.h"

namespace covey::simulations {
namespace {

bool fails(const FaultOutcome& outcome, Checker checker) {
  return std::ranges::any_of(outcome.violations, [&](const Violation& v) { return v.checker == checker; });
}

}  // namespace

FaultOutcome run_twice(const FaultScenario& scenario, Plant plant) {
  FaultOutcome first = run_fault_world(scenario, plant);
  const FaultOutcome second = run_fault_world(scenario, plant);
  if (first.trace != second.trace || first.violations.size() != second.violations.size()) {
    first.violations.push_back({Checker::replay, "the second run of the same seed took another course"});
  }
  return first;
}

FaultsSummary run_fault_worlds(std::uint64_t first, std::uint64_t count, int threads, Plant plant,
                               const std::function<void(std::uint64_t seed, const FaultOutcome&)>& on_failure) {
  FaultsSummary out;
  ThreadPool pool(threads);
  constexpr std::uint64_t kBatch = 64;
  std::vector<FaultOutcome> outcomes;
  for (std::uint64_t done = 0; done < count; done += outcomes.size()) {
    outcomes.assign(std::min(kBatch, count - done), {});
    pool.parallel_for(outcomes.size(),
                      [&](std::size_t i) { outcomes[i] = run_twice(draw_scenario(first + done + i), plant); });
    for (std::size_t i = 0; i < outcomes.size(); ++i) {
      const FaultOutcome& world = outcomes[i];
      ++out.worlds;
      out.finished += world.finished ? 1 : 0;
      out.published_quiet += world.published_quiet || world.finished ? 1 : 0;
      out.exhausted += world.exhausted ? 1 : 0;
      out.published += world.published;
      out.aborted += world.aborted;
      out.deaths += world.deaths;
      out.reinstalled += world.reinstalled;
      for (std::size_t kind = 0; kind < kFaultKinds; ++kind) {
        for (std::size_t phase = 0; phase < kFaultPhases; ++phase)
          out.strikes[kind][phase] += world.strikes[kind][phase];
      }
      if (world.violations.empty()) continue;
      ++out.failed;
      if (!out.first_failure) out.first_failure = first + done + i;
      if (on_failure) on_failure(first + done + i, world);
    }
  }
  return out;
}

FaultScenario minimize(FaultScenario scenario, Checker checker, Plant plant) {
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (std::size_t i = scenario.faults.size(); i-- > 0;) {
      FaultScenario fewer = scenario;
      fewer.faults.erase(fewer.faults.begin() + static_cast<std::ptrdiff_t>(i));
      const FaultOutcome outcome = checker == Checker::replay ? run_twice(fewer, plant) : run_fault_world(fewer, plant);
      if (!fails(outcome, checker)) continue;
      scenario = std::move(fewer);
      smaller = true;
    }
  }
  return scenario;
}

std::string coverage_table(const FaultCoverage& strikes) {
  std::string out = "strikes           ";
  std::array<char, 64> cell{};
  for (std::size_t phase = 0; phase < kFaultPhases; ++phase) {
    std::snprintf(cell.data(), cell.size(), " %11s", fault_phase_name(phase));
    out += cell.data();
  }
  for (std::size_t kind = 0; kind < kFaultKinds; ++kind) {
    std::snprintf(cell.data(), cell.size(), "\n%-18s", to_string(static_cast<FaultKind>(kind)));
    out += cell.data();
    for (const std::uint64_t count : strikes[kind]) {
      std::snprintf(cell.data(), cell.size(), " %11llu", static_cast<unsigned long long>(count));
      out += cell.data();
    }
  }
  return out;
}

}  // namespace covey::simulations

/// `covey-sim faults`: tortured worlds by the thousand, each run twice, and what they met. A failure is a seed.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "simulations/fault_world.h"

namespace covey::simulations {

struct FaultsSummary {
  std::uint64_t worlds = 0;
  std::uint64_t failed = 0;
  std::uint64_t finished = 0;         ///< published all their rounds
  std::uint64_t published_quiet = 0;  ///< worlds that published after the faults had ended, or had finished by then
  std::uint64_t exhausted = 0;
  std::uint64_t published = 0;  ///< rounds
  std::uint64_t aborted = 0;
  std::uint64_t deaths = 0;
  std::uint64_t reinstalled = 0;
  FaultCoverage strikes{};
  std::optional<std::uint64_t> first_failure;  ///< seed
};

/// A world, run twice: the outcome of the first, with a violation of `replay` where the second differs.
FaultOutcome run_twice(const FaultScenario& scenario, Plant plant = Plant::none);

/// Worlds of the seeds first ... first + count - 1, on `threads` threads.
/// @param on_failure  called in the order of seeds, from the calling thread.
FaultsSummary run_fault_worlds(std::uint64_t first, std::uint64_t count, int threads, Plant plant,
                               const std::function<void(std::uint64_t seed, const FaultOutcome&)>& on_failure);

/// Leaves faults out as long as the world still fails the same checker.
FaultScenario minimize(FaultScenario scenario, Checker checker, Plant plant = Plant::none);

/// Counters per fault and phase, as a table.
std::string coverage_table(const FaultCoverage& strikes);

}  // namespace covey::simulations

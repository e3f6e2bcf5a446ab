/// One tortured world: the deployed coordinator and devices (state machines, drivers, codec, SQLite) on virtual time,
/// with faults in network, disks, clocks and processes until a scenario's quiet time, and checks throughout. Nothing
/// is trained: a device's update is a function of its identity and the round, so that every sum can be checked.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "core/wire/messages.h"
#include "simulations/fault_checks.h"
#include "simulations/fault_scenario.h"

namespace covey::simulations {

/// A mistake that Covey does not make, made here to show that a checker sees it.
enum class Plant : std::uint8_t {
  none = 0,
  wrong_sum,      ///< device 0 contributes something else than the checks believe
  counted_twice,  ///< the list of contributors names its first device twice
  lying_sync,     ///< the coordinator's disk says "synced" and is not
  low_threshold,  ///< rounds close with one device fewer than the checks believe
  late_charge,    ///< charges never reach the store
  lost_version,   ///< versions never reach the store
  torn_roster,    ///< the roster's first epoch is gone in the end
  deaf,           ///< the network does not come back when the faults end
  dice,           ///< something random that no seed repeats
};
inline constexpr std::size_t kPlants = 10;
const char* to_string(Plant plant);
/// Who has to see it.
Checker checker_of(Plant plant);

// idle, collecting, the four of secure aggregation, evaluating: where the coordinator is when a fault strikes.
inline constexpr std::size_t kFaultPhases = 7;
const char* fault_phase_name(std::size_t phase);
using FaultCoverage = std::array<std::array<std::uint64_t, kFaultPhases>, kFaultKinds>;

struct FaultOutcome {
  std::vector<Violation> violations;
  wire::Hash trace{};  ///< of every frame that was delivered, with its time
  FaultCoverage strikes{};
  std::uint64_t published = 0;
  std::uint64_t aborted = 0;
  bool finished = false;          ///< all rounds of the task were published
  bool published_quiet = false;   ///< one of them after the faults had ended
  bool exhausted = false;         ///< too few devices are left that may mask for this version: it ended there
  std::uint64_t deaths = 0;       ///< of processes
  std::uint64_t reinstalled = 0;  ///< devices whose disk was beyond use
  std::int64_t virtual_ms = 0;
};

FaultOutcome run_fault_world(const FaultScenario& scenario, Plant plant = Plant::none);

}  // namespace covey::simulations

/// What one tortured world goes through, drawn from a seed: its size and mode, and a list of faults with their times.
/// Source: security.md section 9, "simulated worlds" and "faults".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace covey::simulations {

enum class FaultKind : std::uint8_t {
  loss = 0,          ///< a share of the frames vanishes
  delay,             ///< frames come later
  reorder,           ///< a share of the frames is overtaken by others of its connection
  duplicate,         ///< a share of the frames comes twice
  partition,         ///< nothing passes between the coordinator and some devices
  clock_skew,        ///< a process comes back with a wall clock that is up to an hour off
  dropout,           ///< devices are gone
  kill_device,       ///< SIGKILL
  kill_coordinator,  ///< SIGKILL
  lost_write,        ///< power cut at some disk operation; nothing that was not synced is kept
  torn_write,        ///< the same; what was not synced is kept, lost or torn, each write on its own
  io_error,          ///< one disk operation fails
  full_disk,         ///< no write goes through
  bit_flip,          ///< one bit of a device's disk changes while the device is down
};
inline constexpr std::size_t kFaultKinds = 14;
const char* to_string(FaultKind kind);

struct FaultEntry {
  std::uint32_t number = 0;  ///< names its own random draws, so that the others' do not change when it is left out
  FaultKind kind{};
  std::int64_t at_ms = 0;     ///< virtual, from the world's start
  std::int64_t for_ms = 0;    ///< how long; of a process that dies: until it comes back
  bool coordinator = false;   ///< strikes it; else the devices below
  std::uint32_t devices = 0;  ///< one bit per device
  double share = 0;           ///< of frames: loss, reorder, duplicate
  std::int64_t amount = 0;    ///< delay, reorder: ms at most; clock_skew: ms; disk faults: which operation from then on
};
std::string describe(const FaultEntry& entry);

struct FaultScenario {
  std::uint64_t seed = 0;
  std::uint32_t devices = 8;  ///< 6 to 12
  std::uint64_t rounds = 4;   ///< published ones that end the world, 3 to 6
  bool secure = false;
  bool ledger = false;  ///< central differential privacy; robust mode only
  std::uint32_t goal = 4;
  std::uint32_t least = 2;         ///< contributors of any published round
  std::int64_t quiet_ms = 0;       ///< all faults have ended by then
  std::vector<FaultEntry> faults;  ///< of at least three kinds, in the order of time
};

/// The same for the same seed, on every machine. Odd seeds are `secure`.
FaultScenario draw_scenario(std::uint64_t seed);

}  // namespace covey::simulations

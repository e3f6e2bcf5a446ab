#include "simulations/fault_scenario.h"

#include <algorithm>
#include <array>
#include <cstdio>

#include "core/base/rng.h"

namespace covey::simulations {
namespace {

constexpr std::int64_t kHour_ms = 3'600'000;
constexpr std::int64_t kFirst_ms = 100;  ///< faults begin then

std::uint32_t some_devices(Rng& rng, std::uint32_t devices, std::uint64_t most) {
  std::uint32_t out = 0;
  for (std::uint64_t left = 1 + rng.below(most); left > 0; --left) out |= 1U << rng.below(devices);
  return out;
}

FaultEntry draw_fault(FaultKind kind, const FaultScenario& scenario, Rng& rng) {
  FaultEntry out;
  out.kind = kind;
  out.at_ms = kFirst_ms + static_cast<std::int64_t>(rng.below(scenario.quiet_ms - kFirst_ms));
  out.for_ms = 200 + static_cast<std::int64_t>(rng.below(3000));
  const std::uint32_t all = (1U << scenario.devices) - 1;
  switch (kind) {
    case FaultKind::loss:
    case FaultKind::duplicate:
    case FaultKind::reorder:
      out.devices = rng.below(2) == 0 ? all : some_devices(rng, scenario.devices, 4);
      out.share = 0.05 + 0.25 * rng.uniform();
      out.amount = 20 + static_cast<std::int64_t>(rng.below(400));
      break;
    case FaultKind::delay:
      out.devices = rng.below(2) == 0 ? all : some_devices(rng, scenario.devices, 4);
      out.amount = 50 + static_cast<std::int64_t>(rng.below(2500));
      break;
    case FaultKind::partition:
      out.devices = rng.below(4) == 0 ? all : some_devices(rng, scenario.devices, scenario.devices / 2);
      break;
    case FaultKind::dropout:
      out.devices = some_devices(rng, scenario.devices, scenario.devices * 2 / 5);  // 40% at most
      break;
    case FaultKind::clock_skew:
      out.coordinator = rng.below(3) == 0;
      out.devices = some_devices(rng, scenario.devices, 4);
      out.amount = static_cast<std::int64_t>(rng.below(2 * kHour_ms + 1)) - kHour_ms;
      out.for_ms = 50 + static_cast<std::int64_t>(rng.below(1000));
      break;
    case FaultKind::kill_device:
    case FaultKind::bit_flip:
      out.devices = some_devices(rng, scenario.devices, 3);
      out.amount = static_cast<std::int64_t>(rng.below(1U << 20));
      break;
    case FaultKind::kill_coordinator:
      out.coordinator = true;
      out.for_ms = 50 + static_cast<std::int64_t>(rng.below(1500));
      break;
    case FaultKind::lost_write:
    case FaultKind::torn_write:
    case FaultKind::io_error:
    case FaultKind::full_disk:
      out.coordinator = rng.below(3) != 0;
      out.devices = some_devices(rng, scenario.devices, 2);
      out.amount = 1 + static_cast<std::int64_t>(rng.below(12));
      break;
  }
  return out;
}

}  // namespace

const char* to_string(FaultKind kind) {
  constexpr std::array<const char*, kFaultKinds> kNames = {
      "loss",       "delay",    "reorder",     "duplicate",        "partition",
      "clock_skew", "dropout",  "kill_device", "kill_coordinator", "lost_write",
      "torn_write", "io_error", "full_disk",   "bit_flip"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::string describe(const FaultEntry& entry) {
  std::array<char, 200> line{};
  std::snprintf(line.data(), line.size(), "%2u  %6lld ms for %5lld ms  %-16s %s%x  share %.2f  amount %lld",
                entry.number, static_cast<long long>(entry.at_ms), static_cast<long long>(entry.for_ms),
                to_string(entry.kind), entry.coordinator ? "coordinator, " : "devices ", entry.devices, entry.share,
                static_cast<long long>(entry.amount));
  return line.data();
}

FaultScenario draw_scenario(std::uint64_t seed) {
  Rng rng(seed, 0x6661756c);
  FaultScenario out;
  out.seed = seed;
  out.secure = seed % 2 == 1;
  out.ledger = seed % 8 == 2;
  out.devices = static_cast<std::uint32_t>(out.secure ? 9 + rng.below(4) : 6 + rng.below(7));
  out.rounds = 3 + rng.below(4);
  out.goal = static_cast<std::uint32_t>(3 + rng.below(out.secure ? 2 : out.devices / 2 - 1));
  out.least = out.secure ? 3 : 2;
  out.quiet_ms = static_cast<std::int64_t>(4000 + rng.below(8000));

  std::array<FaultKind, kFaultKinds> kinds{};
  for (std::size_t i = 0; i < kFaultKinds; ++i) kinds[i] = static_cast<FaultKind>(i);
  rng.shuffle(kinds);
  const std::uint64_t chosen = 3 + rng.below(3);
  for (std::size_t i = 0; i < chosen; ++i) {
    for (std::uint64_t times = 1 + rng.below(3); times > 0; --times) {
      out.faults.push_back(draw_fault(kinds[i], out, rng));
    }
  }
  std::ranges::stable_sort(out.faults, {}, &FaultEntry::at_ms);
  for (std::uint32_t i = 0; i < out.faults.size(); ++i) {
    FaultEntry& fault = out.faults[i];
    fault.number = i;
    fault.for_ms = std::min(fault.for_ms, out.quiet_ms - fault.at_ms);
  }
  return out;
}

}  // namespace covey::simulations

/// Which devices take part in a round. Policy `uniform`: every device present has a seeded random score for the round,
/// and the lowest scores are drawn. Pure; a seed repeats it.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/base/ids.h"

namespace covey::coordinator {

struct Choice {
  bool drawn = false;
  std::string reason;  ///< stored with the choice
};

struct DrawState {
  std::uint64_t seed = 0;
  RoundId round;
  std::uint32_t wanted = 0;  ///< places of the round (goal x over-selection)
  std::uint32_t taken = 0;   ///< of them given away; refusals give theirs back
  /// Late in a round places that drawn but absent devices left empty go to whoever comes.
  bool anyone = false;
};

/// @param present  devices that compete: seen lately and not refused or rejected this round; `device` among them or
/// not.
Choice draw_uniform(const DrawState& state, const DeviceId& device, std::span<const DeviceId> present);

/// The device's score in this round; lower is drawn first.
std::uint64_t uniform_score(std::uint64_t seed, RoundId round, const DeviceId& device);

}  // namespace covey::coordinator

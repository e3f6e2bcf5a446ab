/// Which devices take part in a round. Policy `uniform`: every device present has a seeded random score for the round,
/// and the lowest scores are drawn. Pure; a seed repeats it.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/base/ids.h"
#include "core/wire/messages.h"

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

/// What sortition draws from: the newest roster epoch.
struct DrawRoot {
  std::uint64_t epoch = 0;
  wire::Hash hash{};         ///< wire::hash_of() of the signed epoch
  std::uint64_t active = 0;  ///< devices it lists
};
/// Policy `sortition`: everyone whose draw is below the plan's threshold, while there are places.
/// @param below  SecurePlan::drawn_below.
Choice draw_sortition(const DrawState& state, const wire::Hash& root, std::uint64_t below, const DeviceId& device);
/// The threshold that draws so many of the active devices on average; everyone where they are no more.
std::uint64_t draw_threshold(double wanted, std::uint64_t active);

/// The device's score in this round; lower is drawn first.
std::uint64_t uniform_score(std::uint64_t seed, RoundId round, const DeviceId& device);

}  // namespace covey::coordinator

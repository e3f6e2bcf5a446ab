#include "coordinator/selection.h"

#include <tuple>

#include "core/base/rng.h"

namespace covey::coordinator {

std::uint64_t uniform_score(std::uint64_t seed, RoundId round, const DeviceId& device) {
  std::uint64_t key = 0;
  for (std::size_t i = 0; i < 8; ++i) key = key << 8 | device.key[i];
  return derive_seed(derive_seed(seed, round.value), key);
}

Choice draw_uniform(const DrawState& state, const DeviceId& device, std::span<const DeviceId> present) {
  const std::string places = std::to_string(state.wanted) + " places";
  if (state.taken >= state.wanted) return {false, "uniform: all " + places + " are taken"};
  const auto own = std::tuple(uniform_score(state.seed, state.round, device), device);
  std::size_t rank = 1;
  std::size_t competing = 1;
  for (const DeviceId& other : present) {
    if (other == device) continue;
    ++competing;
    if (std::tuple(uniform_score(state.seed, state.round, other), other) < own) ++rank;
  }
  const std::string standing =
      "uniform: rank " + std::to_string(rank) + " of " + std::to_string(competing) + " present, " + places;
  if (rank <= state.wanted) return {true, standing};
  if (state.anyone) return {true, standing + ", taken because drawn devices stayed away"};
  return {false, standing};
}

}  // namespace covey::coordinator

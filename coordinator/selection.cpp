#include "coordinator/selection.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "core/base/rng.h"
#include "core/wire/signing.h"

namespace covey::coordinator {

std::uint64_t uniform_score(std::uint64_t seed, RoundId round, const DeviceId& device) {
  std::uint64_t key = 0;
  for (std::size_t i = 0; i < 8; ++i) key = key << 8 | device.key[i];
  return derive_seed(derive_seed(seed, round.value), key);
}

std::uint64_t draw_threshold(double wanted, std::uint64_t active) {
  const double share = wanted / static_cast<double>(std::max<std::uint64_t>(active, 1));
  if (share >= 1) return std::numeric_limits<std::uint64_t>::max();
  return std::max<std::uint64_t>(static_cast<std::uint64_t>(std::ldexp(share, 64)), 1);
}

Choice draw_sortition(const DrawState& state, const wire::Hash& root, std::uint64_t below, const DeviceId& device) {
  if (wire::draw_of(root, state.round, device.key) >= below) return {false, "sortition: not drawn in this round"};
  if (state.taken >= state.wanted) {
    return {false, "sortition: drawn, but all " + std::to_string(state.wanted) + " places are taken"};
  }
  return {true, "sortition: drawn"};
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

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

Choice draw_at_rank(const DrawState& state, std::size_t rank, std::size_t competing) {
  const std::string places = std::to_string(state.wanted) + " places";
  if (state.taken >= state.wanted) return {false, "uniform: all " + places + " are taken"};
  const std::string standing =
      "uniform: rank " + std::to_string(rank) + " of " + std::to_string(competing) + " present, " + places;
  if (rank <= state.wanted) return {true, standing};
  if (state.anyone) return {true, standing + ", taken because drawn devices stayed away"};
  return {false, standing};
}

Choice draw_uniform(const DrawState& state, const DeviceId& device, std::span<const DeviceId> present) {
  const auto own = std::tuple(uniform_score(state.seed, state.round, device), device);
  std::size_t rank = 1;
  std::size_t competing = 1;
  for (const DeviceId& other : present) {
    if (other == device) continue;
    ++competing;
    if (std::tuple(uniform_score(state.seed, state.round, other), other) < own) ++rank;
  }
  return draw_at_rank(state, rank, competing);
}

// ---- Competitors ---------------------------------------------------------------------------------------------------

void Competitors::add(const DeviceId& device, std::int64_t seen_ms) {
  const Entry added = entry(device);
  auto& bucket = buckets_[bucket_of(added)];
  const auto at = std::ranges::lower_bound(bucket, added);
  if (at != bucket.end() && *at == added) return;
  bucket.insert(at, added);
  oldest_.emplace(seen_ms, device);
  ++size_;
}

void Competitors::expire(std::int64_t from_ms, const std::function<std::int64_t(const DeviceId&)>& last_seen_ms) {
  while (!oldest_.empty() && oldest_.top().first < from_ms) {
    const DeviceId device = oldest_.top().second;
    oldest_.pop();
    const std::int64_t seen_ms = last_seen_ms(device);
    if (seen_ms >= from_ms) {
      oldest_.emplace(seen_ms, device);
      continue;
    }
    const Entry gone = entry(device);
    auto& bucket = buckets_[bucket_of(gone)];
    bucket.erase(std::ranges::lower_bound(bucket, gone));
    --size_;
  }
}

bool Competitors::contains(const DeviceId& device) const {
  const Entry sought = entry(device);
  return !buckets_.empty() && std::ranges::binary_search(buckets_[bucket_of(sought)], sought);
}

std::size_t Competitors::before(const DeviceId& device) const {
  const Entry own = entry(device);
  const std::size_t last = bucket_of(own);
  std::size_t count = 0;
  for (std::size_t i = 0; i < last; ++i) count += buckets_[i].size();
  const auto& bucket = buckets_[last];
  return count + static_cast<std::size_t>(std::ranges::lower_bound(bucket, own) - bucket.begin());
}

}  // namespace covey::coordinator

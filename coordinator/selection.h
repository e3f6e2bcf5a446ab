/// Which devices take part in a round. Policy `uniform`: every device present has a seeded random score for the round,
/// and the lowest scores are drawn. Pure; a seed repeats it.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <span>
#include <string>
#include <utility>
#include <vector>

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

/// What a device's place among those that compete means: 1 is the lowest score. Cost O(1).
Choice draw_at_rank(const DrawState& state, std::size_t rank, std::size_t competing);

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

/// The devices that compete in one round, in order of score, so that a check-in finds its rank without looking at all
/// of them: a fleet of 100,000 would else cost 10^10 comparisons a round. Scores are uniform, so a bucket holds a few.
class Competitors {
 public:
  Competitors() = default;
  Competitors(std::uint64_t seed, RoundId round) : seed_(seed), round_(round), buckets_(kBuckets) {}

  /// Nothing where it is there already. `seen_ms` is of its last check-in.
  void add(const DeviceId& device, std::int64_t seen_ms);
  /// Takes out who was not seen since `from_ms`; `last_seen_ms` tells when a device was seen last.
  void expire(std::int64_t from_ms, const std::function<std::int64_t(const DeviceId&)>& last_seen_ms);
  [[nodiscard]] bool contains(const DeviceId& device) const;
  [[nodiscard]] std::size_t size() const { return size_; }
  /// How many come before this device, which may be one of them or not. Cost O(buckets + devices / buckets).
  [[nodiscard]] std::size_t before(const DeviceId& device) const;

 private:
  static constexpr std::size_t kBuckets = 4096;
  using Entry = std::pair<std::uint64_t, DeviceId>;
  using Seen = std::pair<std::int64_t, DeviceId>;
  [[nodiscard]] Entry entry(const DeviceId& device) const { return {uniform_score(seed_, round_, device), device}; }
  static std::size_t bucket_of(const Entry& entry) { return static_cast<std::size_t>(entry.first >> 52); }

  std::uint64_t seed_ = 0;
  RoundId round_;
  std::vector<std::vector<Entry>> buckets_;  ///< each sorted
  std::priority_queue<Seen, std::vector<Seen>, std::greater<>> oldest_;
  std::size_t size_ = 0;
};

}  // namespace covey::coordinator

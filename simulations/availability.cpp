#include "simulations/availability.h"

#include <algorithm>
#include <limits>

#include "core/base/clock.h"
#include "core/base/rng.h"

namespace covey::simulations {

namespace {
constexpr double kHourMs = 3'600'000;
}

AvailabilityOf::AvailabilityOf(const Availability& model, std::uint64_t seed, std::uint64_t device)
    : model_(model), seed_(derive_seed(seed, device)) {
  Rng rng(seed_);
  zone_ms_ = static_cast<std::int64_t>(rng.uniform() * model.zones * kHourMs);
}

AvailabilityOf::Window AvailabilityOf::of_day(std::int64_t day) const {
  Rng rng(seed_, static_cast<std::uint64_t>(day + 1'000'000));
  const bool charges = rng.uniform() < model_.charged;
  const double begin = (model_.begin + rng.normal() * model_.spread) * kHourMs;
  const double lasts = std::clamp(model_.hours + rng.normal() * model_.spread, 1.0, 16.0) * kHourMs;
  const std::int64_t begin_ms = day * kDay_ms + zone_ms_ + static_cast<std::int64_t>(begin);
  return {begin_ms, charges ? begin_ms + static_cast<std::int64_t>(lasts) : begin_ms};
}

AvailabilityOf::Window AvailabilityOf::window(std::int64_t now_ms) const {
  if (!model_.diurnal) return {std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()};
  // A window is over 3 days after its day began, however late it starts; with `charged` > 0 one comes before long.
  constexpr std::int64_t kDaysMax = 100'000;
  const std::int64_t today = now_ms / kDay_ms;
  for (std::int64_t day = today - 3; day < today + kDaysMax; ++day) {
    const Window found = of_day(day);
    if (found.end_ms > found.begin_ms && found.end_ms > now_ms) return found;
  }
  return {std::numeric_limits<std::int64_t>::max(), std::numeric_limits<std::int64_t>::max()};
}

}  // namespace covey::simulations

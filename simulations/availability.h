/// When a device may train: plugged in, idle, on Wi-Fi. MODELLED, not measured: there is no public trace of this for
/// phones. The model is one charging window a day, mostly at night:
///
///   a day has a window with probability `charged`; it begins at `begin` o'clock of the device's local time, +-
///   `spread` hours (normal deviation), and lasts `hours`, +- `spread`, at least 1 and at most 16 hours; local time is
///   up to `zones` hours behind the first devices', uniformly.
///
/// So a fleet's share of available devices follows the day: about charged x hours / 24 on average, near `charged` in
/// the small hours, near 0 in the afternoon.
#pragma once

#include <cstdint>

namespace covey::simulations {

struct Availability {
  bool diurnal = false;  ///< false: always available
  double charged = 0.85;
  double begin = 22.5;  ///< hour of the day, local
  double hours = 8;
  double spread = 1.5;
  double zones = 0;
};

/// The windows of one device, a function of (model, seed, device) alone: nothing is kept.
class AvailabilityOf {
 public:
  AvailabilityOf(const Availability& model, std::uint64_t seed, std::uint64_t device);

  struct Window {
    std::int64_t begin_ms = 0;
    std::int64_t end_ms = 0;
  };
  /// The window that holds `now_ms` or the next one; times since the world's start, which is midnight at zone 0.
  [[nodiscard]] Window window(std::int64_t now_ms) const;

 private:
  [[nodiscard]] Window of_day(std::int64_t day) const;  ///< begin == end: none on that day
  const Availability& model_;
  std::uint64_t seed_;
  std::int64_t zone_ms_ = 0;
};

}  // namespace covey::simulations

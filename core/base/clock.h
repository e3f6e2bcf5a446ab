/// Time as a seam: daemons run on the machine's clocks, the simulator and the tests on a virtual one.
#pragma once

#include <cstdint>

namespace covey {

inline constexpr std::int64_t kDay_ms = 24LL * 3600 * 1000;

/// Milliseconds. Implementations are thread-safe unless they say otherwise.
class Clock {
 public:
  virtual ~Clock() = default;
  /// Since the Unix epoch; may jump when someone sets the clock. For stamps that people or other machines read.
  [[nodiscard]] virtual std::int64_t wall_ms() const = 0;
  /// Never goes back. For deadlines and durations.
  [[nodiscard]] virtual std::int64_t monotonic_ms() const = 0;
};

class SystemClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t wall_ms() const override;
  [[nodiscard]] std::int64_t monotonic_ms() const override;
};

/// Stands still until it is told to move. Not thread-safe.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(std::int64_t wall_start_ms = 0) : wall_ms_(wall_start_ms) {}
  [[nodiscard]] std::int64_t wall_ms() const override { return wall_ms_; }
  [[nodiscard]] std::int64_t monotonic_ms() const override { return monotonic_ms_; }
  void advance_to(std::int64_t monotonic_ms) {
    wall_ms_ += monotonic_ms - monotonic_ms_;
    monotonic_ms_ = monotonic_ms;
  }

 private:
  std::int64_t wall_ms_ = 0;
  std::int64_t monotonic_ms_ = 0;
};

}  // namespace covey

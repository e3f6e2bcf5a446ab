/// Virtual time: a queue of events in one total order, and the clock that it moves.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "core/base/clock.h"
#include "core/base/result.h"

namespace covey::simulations {

/// Events run in order of (time, order of posting), so a world is repeated bit for bit. Single-threaded.
class EventQueue {
 public:
  explicit EventQueue(std::int64_t wall_start_ms) : clock_(wall_start_ms) {}

  [[nodiscard]] const Clock& clock() const { return clock_; }
  [[nodiscard]] std::int64_t now_ms() const { return clock_.monotonic_ms(); }
  [[nodiscard]] bool empty() const { return events_.empty(); }

  /// A time in the past means now.
  void at(std::int64_t time_ms, std::function<void()> action) {
    events_.push({time_ms < now_ms() ? now_ms() : time_ms, next_++, std::move(action)});
  }
  void after(std::int64_t delay_ms, std::function<void()> action) { at(now_ms() + delay_ms, std::move(action)); }

  /// Runs the next event; false where none is left.
  bool run_one() {
    if (events_.empty()) return false;
    // The action may post further events: it is moved out before the queue changes.
    std::function<void()> action = std::move(const_cast<Entry&>(events_.top()).action);
    clock_.advance_to(events_.top().time_ms);
    events_.pop();
    action();
    return true;
  }

  /// Runs events until `over()`. @param rounds  the world's, so far
  /// @errors resource_exhausted: virtual time passed `limit_ms`; internal: no event is left.
  template <typename Over, typename Rounds>
  Status run_until(const Over& over, std::int64_t limit_ms, const Rounds& rounds) {
    while (!over()) {
      if (now_ms() > limit_ms) {
        return Error{ErrorCode::resource_exhausted, "the world passed `virtual_time_max` after " +
                                                        std::to_string(rounds.size()) +
                                                        " rounds; raise it, or lower `goal` or `min`"};
      }
      if (!run_one()) return Error{ErrorCode::internal, "the world stands still: no event is left"};
    }
    return {};
  }

 private:
  struct Entry {
    std::int64_t time_ms;
    std::uint64_t order;
    std::function<void()> action;
    bool operator<(const Entry& other) const {  // std::priority_queue keeps the largest on top
      return time_ms != other.time_ms ? time_ms > other.time_ms : order > other.order;
    }
  };
  ManualClock clock_;
  std::uint64_t next_ = 0;
  std::priority_queue<Entry> events_;
};

/// The next call of somebody who is called at one time at most, always by the same action: an earlier one takes a later
/// one's place. Outlives what it has posted on the queue, which is small, as what is outdated stays there until its
/// time.
class WakeUp {
 public:
  /// Nothing where `time_ms` is empty, or not before what is set already.
  void set(EventQueue& queue, std::optional<std::int64_t> time_ms, std::function<void()> action) {
    if (!time_ms || (at_ms_ && *at_ms_ <= *time_ms)) return;
    at_ms_ = time_ms;
    action_ = std::move(action);
    queue.at(*time_ms, [this, at = *time_ms] {
      if (at_ms_ != at) return;
      at_ms_.reset();
      const auto act = action_;  // it may set this again
      act();
    });
  }
  void cancel() { at_ms_.reset(); }

 private:
  std::optional<std::int64_t> at_ms_;
  std::function<void()> action_;
};

}  // namespace covey::simulations

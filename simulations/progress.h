/// One line of progress with the time that is left, written over itself where someone is looking.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>

namespace covey::simulations {

/// "1 h 04 min", "3 min 20 s", "12 s".
std::string duration_words(double seconds);

/// How long the rest takes, from the newest rounds: rounds that a resumed run only repeats pass in no time and are soon
/// forgotten. Pure: the caller brings the time.
class Eta {
 public:
  explicit Eta(std::uint64_t steps) : steps_(steps) {}
  /// `done` steps are done at `now_s`; more than one call for the same `done` counts once.
  void update(std::uint64_t done, double now_s);
  /// Empty before two steps are known.
  [[nodiscard]] std::optional<double> left_s() const;

 private:
  struct Mark {
    std::uint64_t done = 0;
    double now_s = 0;
  };
  std::uint64_t steps_;
  std::deque<Mark> marks_;
};

/// Writes to stderr; does nothing where that is no terminal.
void show_progress_line(const std::string& line);
void clear_progress_line();

}  // namespace covey::simulations

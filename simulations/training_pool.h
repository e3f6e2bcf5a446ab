/// Real training of virtual devices on worker threads, beside the single-threaded world. A job's result does not depend
/// on when or where it runs, so a world is the same with any number of threads.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "client/session.h"
#include "core/base/result.h"

namespace covey::simulations {

/// Thread-safe for its one owner thread; jobs run on `threads` workers.
class TrainingPool {
 public:
  using Job = std::function<Result<client::TrainingOutcome>()>;
  using Ticket = std::uint64_t;

  explicit TrainingPool(int threads);
  ~TrainingPool();
  TrainingPool(const TrainingPool&) = delete;
  TrainingPool& operator=(const TrainingPool&) = delete;

  Ticket submit(Job job);
  /// Waits for the job and takes its result; each ticket once.
  Result<client::TrainingOutcome> take(Ticket ticket);
  /// The result is not wanted any more: a job that has not begun never will.
  void drop(Ticket ticket);
  /// Seconds that workers spent inside jobs, summed over workers.
  [[nodiscard]] double busy_seconds() const;
  /// Processor time of jobs, which other programs on the machine do not stretch.
  [[nodiscard]] double cpu_seconds() const;

 private:
  void work();

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable finished_;
  bool stop_ = false;
  Ticket next_ = 1;
  double busy_seconds_ = 0;
  double cpu_seconds_ = 0;
  std::deque<std::pair<Ticket, Job>> queue_;
  std::map<Ticket, Result<client::TrainingOutcome>> results_;
  std::map<Ticket, bool> dropped_;  ///< running jobs whose result goes nowhere
  std::vector<std::thread> workers_;
};

}  // namespace covey::simulations

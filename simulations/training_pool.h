/// Real training of virtual devices on worker threads, beside the single-threaded world. A job's result does not depend
/// on when or where it runs, so a world is the same with any number of threads. With ranks (ranks.h) every rank submits
/// every job, one of them runs it, and all take its result.
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
#include "simulations/ranks.h"

namespace covey::simulations {

/// Thread-safe for its one owner thread; jobs run on `threads` workers.
class TrainingPool {
 public:
  using Job = std::function<Result<client::TrainingOutcome>()>;
  using Ticket = std::uint64_t;

  /// @param ranks  borrowed; null: this process runs all jobs.
  explicit TrainingPool(int threads, Ranks* ranks = nullptr);
  ~TrainingPool();
  TrainingPool(const TrainingPool&) = delete;
  TrainingPool& operator=(const TrainingPool&) = delete;

  /// @param cost  in any unit, the same on every rank: jobs go to the rank that has been given least.
  Ticket submit(Job job, double cost = 1);
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
  Result<client::TrainingOutcome> wait(Ticket ticket);
  [[nodiscard]] bool mine(int rank) const { return ranks_ == nullptr || rank == ranks_->rank(); }

  Ranks* ranks_;
  std::vector<double> given_;     ///< per rank, of all jobs so far
  std::map<Ticket, int> owners_;  ///< of jobs that nobody has taken or dropped
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

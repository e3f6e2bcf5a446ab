/// The device's real trainer: one worker thread that loads the base model (kept between rounds), takes the device's
/// examples, trains step by step and keeps an encrypted checkpoint, so that it can be stopped or killed at any instant.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "client/agent.h"
#include "client/example_store.h"
#include "client/local_round.h"
#include "core/base/clock.h"
#include "core/base/secret.h"

namespace covey::client {

/// Where the files of a plan lie once they are downloaded. Called from the worker's thread.
class PlanFiles {
 public:
  virtual ~PlanFiles() = default;
  /// A directory that holds the base model's files under their names. @errors not_found, io_error.
  virtual Result<std::string> model_directory(const wire::RoundPlan& plan) = 0;
  /// The adapter's values, (P). @errors not_found, corrupt_data, io_error.
  virtual Result<std::vector<float>> adapter_values(const wire::RoundPlan& plan) = 0;
};

struct WorkerTrainerOptions {
  std::string checkpoint_directory;  ///< exists
  SecretBytes storage_key;           ///< 32 bytes
  int threads = 1;
  std::uint64_t memory_bytes_max = 0;  ///< 0: no bound
  std::uint64_t device = 0;            ///< LocalRoundInputs::device
  std::int64_t checkpoint_ms = 10'000;
  std::int64_t progress_ms = 1'000;
  std::function<void()> on_thread_start;  ///< e.g. lowers the worker's priority; may be empty
};

/// Called from one thread; PlanFiles, ExampleStore and the clock are used from the worker too and must outlive it.
/// Examples must not be wiped while a round trains.
class WorkerTrainer final : public Trainer {
 public:
  WorkerTrainer(WorkerTrainerOptions options, PlanFiles& files, const ExampleStore& examples, const Clock& clock);
  /// Stops within one step, keeping the checkpoint.
  ~WorkerTrainer() override;

  void start(const wire::RoundPlan& plan) override;
  void stop(bool keep_checkpoint) override;
  std::optional<Event> poll() override;

 private:
  struct Job {
    std::uint64_t number = 0;
    wire::RoundPlan plan;
  };
  void work();
  void run(const Job& job);
  Result<TrainingOutcome> train(const Job& job);
  Result<adapters::Workbench> bench_for(const wire::RoundPlan& plan);
  void try_restore(LocalRound& round, const wire::RoundPlan& plan);
  void save_checkpoint(LocalRound& round, const Job& job);
  void remove_checkpoints(const std::string& but);
  [[nodiscard]] bool wanted(const Job& job);
  void say(const Job& job, Event event);

  WorkerTrainerOptions options_;
  PlanFiles& files_;
  const ExampleStore& examples_;
  const Clock& clock_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Job> next_;         // all below: under mutex_
  std::uint64_t current_ = 0;       ///< number of the job that is wanted; 0 = none
  std::atomic<bool> stop_ = false;  ///< the job at hand is wanted no more; read without the mutex
  std::uint64_t numbers_ = 0;
  bool discard_ = false;  ///< remove checkpoints when the worker is free
  bool ending_ = false;
  std::deque<Event> news_;  ///< of job current_

  ThreadPool pool_;  // the worker's own
  std::string bench_key_;
  std::optional<adapters::Workbench> bench_;
  std::thread thread_;
};

}  // namespace covey::client

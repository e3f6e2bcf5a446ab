/// A run of training as a user means it: held-out evaluation, early stopping with the best values kept, and a
/// checkpoint file that survives a kill at any instant, after which the run goes on to the same bits.
///
///   TrainingRun run(trainer, options, clock);
///   COVEY_TRY(run.resume());                     // where a checkpoint is there
///   COVEY_TRY(run.run(evaluate, observer));      // cancelled: the observer said stop; a checkpoint is kept
///   save(run.best_values());
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/train/evaluate.h"
#include "core/train/local_trainer.h"

namespace covey::train {

struct RunOptions {
  std::int64_t evaluate_every = 0;      ///< steps; 0: never
  int patience = 0;                     ///< evaluations in a row without improvement that end the run; 0 = off
  double min_improvement = 0;           ///< nats per target that count as one
  std::string checkpoint{};             ///< file; empty: none is kept
  std::int64_t checkpoint_every = 0;    ///< steps; 0: by `checkpoint_ms`
  std::int64_t checkpoint_ms = 10'000;  ///< where checkpoint_every is 0

  /// @errors invalid_argument, naming the field.
  [[nodiscard]] Status check() const;
};

/// Told what happens, in order. All calls come from TrainingRun::run.
class RunObserver {
 public:
  virtual ~RunObserver() = default;
  virtual Status on_step(const StepReport& report) = 0;
  /// `best`: lower than all before by min_improvement.
  virtual Status on_evaluation(std::int64_t step, const Evaluation& evaluation, bool best) = 0;
  /// Asked before each checkpoint: makes what was told so far durable and says how long its log is. After a resume the
  /// log must be cut to logged_bytes(): what follows it will be told again.
  virtual Result<std::uint64_t> make_durable() = 0;
  /// Asked before each step.
  virtual bool stop_wanted() = 0;
};

/// Whether the run that left this checkpoint file is complete, as the file's beginning says; nothing else of it is read
/// or checked. @errors not_found, io_error; corrupt_data: no checkpoint of a run.
Result<bool> checkpoint_is_complete(const std::string& path);

/// Evaluates these adapter values (P) on held-out data.
using EvaluateValues = std::function<Result<Evaluation>(std::span<const float> values)>;

/// Not thread-safe. Borrows the trainer, which trains an adapter, and the clock.
class TrainingRun {
 public:
  /// `options` must pass check() (asserted).
  TrainingRun(LocalTrainer& trainer, RunOptions options, const Clock& clock);

  /// Goes on from the checkpoint file. @return false: there is none. @errors corrupt_data: damaged, or of other inputs
  /// or options; io_error. The run is unchanged then.
  Result<bool> resume();

  /// Until the steps are done or patience ends. The last checkpoint says that the run is complete.
  /// @errors cancelled: the observer wanted to stop, and a checkpoint was written. What trainer, evaluation, observer
  /// and files report.
  [[nodiscard]] Status run(const EvaluateValues& evaluate, RunObserver& observer);

  /// Of the best evaluation, or the trainer's where none was made.
  [[nodiscard]] std::span<const float> best_values() const;
  [[nodiscard]] std::int64_t best_step() const;
  /// Of the best evaluation; tokens is 0 where none was made.
  [[nodiscard]] const Evaluation& best() const { return state_.best; }
  [[nodiscard]] bool stopped_early() const { return state_.stopped_early; }
  [[nodiscard]] bool complete() const { return state_.complete; }
  /// As make_durable() said it at the checkpoint that resume() read.
  [[nodiscard]] std::uint64_t logged_bytes() const { return state_.logged_bytes; }

 private:
  struct State {
    Evaluation best;
    std::int64_t best_step = 0;
    std::int64_t without_improvement = 0;
    std::uint64_t logged_bytes = 0;
    bool stopped_early = false;
    bool complete = false;
  };
  [[nodiscard]] std::uint64_t fingerprint() const;
  Status evaluate_now(const EvaluateValues& evaluate, RunObserver& observer);
  Status save(RunObserver& observer);

  LocalTrainer& trainer_;
  RunOptions options_;
  const Clock& clock_;
  State state_;
  std::vector<float> best_values_;  ///< (P) where an evaluation was made
};

}  // namespace covey::train

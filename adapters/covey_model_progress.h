/// What a user sees of training, and its log: a line that is replaced, the loss curve, metrics.jsonl. Private to the
/// program.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "adapters/covey_model.h"
#include "adapters/loss_curve.h"
#include "core/base/clock.h"
#include "core/formats/json.h"
#include "core/train/local_trainer.h"
#include "core/train/training_run.h"

namespace covey::adapters {

/// `step 120/400  loss 1.2345  eta 0:32  ▇▆▅▃▂`, on stderr and only where that is a terminal.
class TrainProgress {
 public:
  TrainProgress(Console& console, const Clock& clock);
  void step(const train::StepReport& report);
  void evaluation(std::int64_t step, const train::Evaluation& evaluation);
  /// Ends the line and draws the whole curve.
  void finish();

 private:
  Console& console_;
  const Clock& clock_;
  std::int64_t started_ms_;
  std::int64_t shown_ms_ = 0;
  std::int64_t first_step_ = 0;  ///< of this process: a resumed run knows nothing of the time before
  std::vector<double> losses_;
  std::vector<LossPoint> training_;
  std::vector<LossPoint> held_out_;
};

/// metrics.jsonl: one line for each step and each evaluation, without times, so that a run that was killed and resumed
/// leaves the same bytes as one that was not. Not thread-safe.
class MetricsLog {
 public:
  /// Cuts the file to its first `keep` bytes (what a checkpoint vouches for) and appends.
  /// @errors io_error; corrupt_data: the file is shorter than that.
  static Result<MetricsLog> open(const std::string& path, std::uint64_t keep);
  MetricsLog(MetricsLog&& other) noexcept;
  MetricsLog& operator=(MetricsLog&&) = delete;
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  ~MetricsLog();
  Status write(const formats::Json& line);
  /// Writes through to the disk. @return the file's length.
  Result<std::uint64_t> make_durable();

 private:
  MetricsLog(std::string path, int file, std::uint64_t bytes) : path_(std::move(path)), file_(file), bytes_(bytes) {}
  std::string path_;
  int file_ = -1;
  std::uint64_t bytes_ = 0;
};

/// All steps, with progress alone.
Status train_with_progress(train::LocalTrainer& trainer, Console& console);

formats::Json training_summary(const train::TrainReport& report, std::int64_t trainable);

}  // namespace covey::adapters

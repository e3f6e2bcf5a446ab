#include "adapters/covey_model_progress.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/base/file.h"

namespace covey::adapters {
namespace {

constexpr std::int64_t kShowEvery_ms = 100;
constexpr int kSparkWidth = 24;
constexpr int kPlotWidth = 64;
constexpr int kPlotHeight = 12;

}  // namespace

TrainProgress::TrainProgress(Console& console, const Clock& clock)
    : console_(console), clock_(clock), started_ms_(clock.monotonic_ms()) {}

void TrainProgress::step(const train::StepReport& report) {
  if (!console_.terminal()) return;
  if (training_.empty()) first_step_ = report.step - 1;
  losses_.push_back(report.loss);
  training_.emplace_back(report.step, report.loss);
  const std::int64_t now = clock_.monotonic_ms();
  if (now - shown_ms_ < kShowEvery_ms && report.step < report.steps_planned) return;
  shown_ms_ = now;
  const double per_step_s =
      static_cast<double>(now - started_ms_) / 1000 / static_cast<double>(report.step - first_step_);
  std::array<char, 128> text{};
  std::snprintf(text.data(), text.size(), "step %lld/%lld  loss %.4f  lr %.1e", static_cast<long long>(report.step),
                static_cast<long long>(report.steps_planned), report.loss, report.lr);
  std::string line = text.data();
  if (!held_out_.empty()) {
    std::snprintf(text.data(), text.size(), "  held out %.4f", held_out_.back().second);
    line += text.data();
  }
  line += "  eta " + duration_text(per_step_s * static_cast<double>(report.steps_planned - report.step));
  console_.progress(line + "  " + sparkline(losses_, kSparkWidth));
}

void TrainProgress::evaluation(std::int64_t step, const train::Evaluation& evaluation) {
  held_out_.emplace_back(step, evaluation.loss);
}

void TrainProgress::finish() {
  console_.end_progress();
  if (!console_.terminal()) return;
  const std::string plot = loss_plot(training_, held_out_, kPlotWidth, kPlotHeight);
  std::fputs(plot.c_str(), stderr);
}

Result<MetricsLog> MetricsLog::open(const std::string& path, std::uint64_t keep) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (file < 0) return os_error(path, "cannot open");
  MetricsLog log(path, file, keep);
  struct stat state {};
  if (::fstat(file, &state) != 0) return os_error(path, "cannot look at");
  if (static_cast<std::uint64_t>(state.st_size) < keep) {
    return Error{ErrorCode::corrupt_data,
                 path + ": is shorter than the checkpoint says; remove both, or put the whole file back"};
  }
  if (::ftruncate(file, static_cast<off_t>(keep)) != 0) return os_error(path, "cannot cut");
  if (::lseek(file, 0, SEEK_END) < 0) return os_error(path, "cannot seek in");
  return log;
}

MetricsLog::MetricsLog(MetricsLog&& other) noexcept
    : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)), bytes_(other.bytes_) {}

MetricsLog::~MetricsLog() {
  if (file_ >= 0) ::close(file_);
}

Status MetricsLog::write(const formats::Json& line) {
  const std::string text = line.dump() + "\n";
  std::string_view rest = text;
  while (!rest.empty()) {
    const ssize_t written = ::write(file_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return os_error(path_, "cannot write");
    rest.remove_prefix(static_cast<std::size_t>(written));
    bytes_ += static_cast<std::uint64_t>(written);
  }
  return {};
}

Result<std::uint64_t> MetricsLog::make_durable() {
  if (::fsync(file_) != 0) return os_error(path_, "cannot sync");
  return bytes_;
}

Status train_with_progress(train::LocalTrainer& trainer, Console& console) {
  const SystemClock clock;
  TrainProgress progress(console, clock);
  COVEY_TRY(trainer.run([&](const train::StepReport& report) {
    if (report.step > 0) progress.step(report);
    return true;
  }));
  progress.finish();
  return {};
}

formats::Json training_summary(const train::TrainReport& report, std::int64_t trainable) {
  return formats::Json::object({{"steps", report.steps},
                                {"examples", report.examples},
                                {"tokens", report.tokens},
                                {"first_loss", report.first_loss},
                                {"last_loss", report.last_loss},
                                {"mean_loss", report.mean_loss},
                                {"seconds", report.seconds},
                                {"tokens_per_s", report.tokens_per_s()},
                                {"trainable", trainable}});
}

}  // namespace covey::adapters

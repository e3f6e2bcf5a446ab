#include "client/trainer.h"

#include <algorithm>
#include <filesystem>

#include "core/base/log.h"
#include "core/crypto/aead.h"

namespace covey::client {
namespace {

constexpr std::string_view kTrainerLog = "trainer";

std::string checkpoint_name(const wire::RoundPlan& plan) {
  return "round-" + std::to_string(plan.round.value) + ".ckpt";
}

/// A checkpoint belongs to one round of one task that starts from one adapter.
std::string checkpoint_purpose(const wire::RoundPlan& plan) {
  return "checkpoint " + plan.task + " " + std::to_string(plan.round.value) + " " + to_hex(plan.adapter.blob);
}

}  // namespace

WorkerTrainer::WorkerTrainer(WorkerTrainerOptions options, PlanFiles& files, const ExampleStore& examples,
                             const Clock& clock)
    : options_(std::move(options)), files_(files), examples_(examples), clock_(clock), pool_(options_.threads) {
  thread_ = std::thread([this] { work(); });
}

WorkerTrainer::~WorkerTrainer() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    current_ = 0;
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void WorkerTrainer::start(const wire::RoundPlan& plan) {
  {
    const std::lock_guard lock(mutex_);
    news_.clear();
    current_ = ++numbers_;
    stop_ = true;  // what another job is at
    next_ = Job{current_, plan};
  }
  changed_.notify_all();
}

void WorkerTrainer::stop(bool keep_checkpoint) {
  {
    const std::lock_guard lock(mutex_);
    news_.clear();
    current_ = 0;
    stop_ = true;
    next_.reset();
    if (!keep_checkpoint) discard_ = true;
  }
  changed_.notify_all();
}

std::optional<Event> WorkerTrainer::poll() {
  const std::lock_guard lock(mutex_);
  if (news_.empty()) return std::nullopt;
  std::optional<Event> event = std::move(news_.front());
  news_.pop_front();
  return event;
}

bool WorkerTrainer::wanted(const Job& job) {
  const std::lock_guard lock(mutex_);
  return current_ == job.number;
}

void WorkerTrainer::say(const Job& job, Event event) {
  const std::lock_guard lock(mutex_);
  if (current_ != job.number) return;
  // Old progress is no news.
  std::erase_if(news_, [](const Event& e) { return std::holds_alternative<TrainingProgressed>(e); });
  news_.push_back(std::move(event));
}

void WorkerTrainer::work() {
  if (options_.on_thread_start) options_.on_thread_start();
  for (;;) {
    std::optional<Job> job;
    bool discard = false;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return ending_ || discard_ || next_; });
      discard = std::exchange(discard_, false);
      if (!discard && ending_) return;
      job = std::exchange(next_, std::nullopt);
      if (job) stop_ = false;
    }
    if (discard) remove_checkpoints("");
    if (job) run(*job);
  }
}

void WorkerTrainer::run(const Job& job) {
  auto outcome = train(job);
  if (outcome.ok()) {
    say(job, TrainingDone{job.plan.round, *std::move(outcome), {}});
  } else if (outcome.error().code != ErrorCode::cancelled) {
    log_warning(kTrainerLog, "round " + std::to_string(job.plan.round.value) + ": " + outcome.error().message);
    say(job, TrainingFailed{job.plan.round, refusal_for(outcome.error()), outcome.error().message});
  }
}

Result<TrainingOutcome> WorkerTrainer::train(const Job& job) {
  const auto& plan = job.plan;
  remove_checkpoints(checkpoint_name(plan));
  COVEY_ASSIGN(auto bench, bench_for(plan));
  COVEY_ASSIGN(auto values, files_.adapter_values(plan));
  COVEY_ASSIGN(const auto examples, examples_.all());
  const auto rows = adapters::example_rows(*bench.tokenizer, examples, static_cast<int>(plan.seq));
  LocalRoundInputs inputs{plan, std::move(bench), std::move(values), rows, options_.memory_bytes_max, options_.device};
  COVEY_ASSIGN(const auto round, LocalRound::prepare(std::move(inputs), pool_, clock_));
  try_restore(*round, plan);
  round->trainer().stop_when(&stop_);
  std::int64_t saved_ms = clock_.monotonic_ms();
  std::int64_t told_ms = saved_ms - options_.progress_ms;
  while (!round->done()) {
    const Result<train::StepReport> report = wanted(job) ? round->step() : Error{ErrorCode::cancelled, "stopped"};
    if (!report.ok()) {
      if (report.error().code == ErrorCode::cancelled) save_checkpoint(*round, job);
      return report.error();
    }
    const std::int64_t now = clock_.monotonic_ms();
    if (now - told_ms >= options_.progress_ms) {
      told_ms = now;
      say(job, TrainingProgressed{plan.round, static_cast<std::uint32_t>(report->step),
                                  static_cast<std::uint32_t>(report->steps_planned)});
    }
    if (now - saved_ms >= options_.checkpoint_ms && !round->done()) {
      save_checkpoint(*round, job);
      saved_ms = clock_.monotonic_ms();
    }
  }
  return round->outcome();
}

Result<adapters::Workbench> WorkerTrainer::bench_for(const wire::RoundPlan& plan) {
  const std::string key = model_key(plan);
  if (bench_ && bench_key_ == key) return *bench_;
  bench_.reset();  // never two base models in memory
  COVEY_ASSIGN(const std::string directory, files_.model_directory(plan));
  COVEY_ASSIGN(const std::string path, model_path(plan, directory));
  COVEY_ASSIGN(bench_, adapters::open_workbench(path));
  bench_key_ = key;
  return *bench_;
}

void WorkerTrainer::try_restore(LocalRound& round, const wire::RoundPlan& plan) {
  const std::string path = options_.checkpoint_directory + "/" + checkpoint_name(plan);
  auto saved = crypto::read_sealed_file(path, options_.storage_key.span(), checkpoint_purpose(plan));
  if (!saved.ok()) {
    if (saved.error().code != ErrorCode::not_found) log_warning(kTrainerLog, saved.error().message);
    return;
  }
  if (auto restored = round.trainer().restore(saved->span()); !restored.ok()) {
    log_warning(kTrainerLog, path + ": " + restored.error().message + "; training starts over");
    return;
  }
  log_info(kTrainerLog, "round " + std::to_string(plan.round.value) + " goes on from step " +
                            std::to_string(round.trainer().steps_done()));
}

/// A checkpoint that cannot be written costs repeated work after a kill, nothing else.
void WorkerTrainer::save_checkpoint(LocalRound& round, const Job& job) {
  const std::string path = options_.checkpoint_directory + "/" + checkpoint_name(job.plan);
  Bytes plain = round.trainer().checkpoint();
  const auto saved = crypto::write_sealed_file(path, options_.storage_key.span(), checkpoint_purpose(job.plan), plain);
  explicit_bzero(plain.data(), plain.size());
  if (!saved.ok()) log_warning(kTrainerLog, saved.error().message);
}

void WorkerTrainer::remove_checkpoints(const std::string& but) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(options_.checkpoint_directory, ignored)) {
    if (entry.path().extension() == ".ckpt" && entry.path().filename() != but)
      std::filesystem::remove(entry.path(), ignored);
  }
}

}  // namespace covey::client

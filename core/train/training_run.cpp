#include "core/train/training_run.h"

#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/base/assert.h"
#include "core/base/file.h"
#include "core/train/fingerprint.h"

namespace covey::train {
namespace {

/// The file: this header, best values (P floats, or none), the trainer's own checkpoint, and a sum over all of it.
struct RunHeader {
  std::array<char, 8> magic{'C', 'O', 'V', 'E', 'Y', 'R', 'U', '1'};
  std::uint64_t options = 0;  ///< fingerprint
  std::uint64_t best_values = 0;
  double loss = 0, perplexity = 0, accuracy = 0;
  std::int64_t tokens = 0, examples = 0;
  std::int64_t best_step = 0;
  std::int64_t without_improvement = 0;
  std::uint64_t logged_bytes = 0;
  std::uint32_t stopped_early = 0;
  std::uint32_t complete = 0;
};

std::uint64_t sum_of(ByteSpan bytes) {
  Fingerprint print;
  print.bytes(bytes);
  return print.value();
}

}  // namespace

Status RunOptions::check() const {
  const auto wrong = [](const char* what) { return Error{ErrorCode::invalid_argument, what}; };
  if (evaluate_every < 0) return wrong("evaluate_every: must be 0 (never) or more steps");
  if (patience < 0) return wrong("patience: must be 0 (off) or more evaluations");
  if (patience > 0 && evaluate_every == 0) return wrong("patience: needs evaluate_every");
  if (!(min_improvement >= 0) || !std::isfinite(min_improvement)) return wrong("min_improvement: must be 0 or more");
  if (checkpoint_every < 0 || checkpoint_ms < 0) return wrong("checkpoint_every: must be 0 (by time) or more steps");
  return {};
}

Result<bool> checkpoint_is_complete(const std::string& path) {
  COVEY_ASSIGN(const Bytes bytes, read_file(path));
  RunHeader header;
  if (bytes.size() >= sizeof header) std::memcpy(&header, bytes.data(), sizeof header);
  if (bytes.size() < sizeof header || header.magic != RunHeader{}.magic) {
    return Error{ErrorCode::corrupt_data, path + ": is no checkpoint of a run; remove it to start over"};
  }
  return header.complete != 0;
}

TrainingRun::TrainingRun(LocalTrainer& trainer, RunOptions options, const Clock& clock)
    : trainer_(trainer), options_(std::move(options)), clock_(clock) {
  COVEY_ASSERT(options_.check().ok());
}

/// Only what changes the result: how often checkpoints are written does not.
std::uint64_t TrainingRun::fingerprint() const {
  Fingerprint print;
  print.number(options_.evaluate_every);
  print.number(options_.patience);
  print.number(options_.min_improvement);
  return print.value();
}

Result<bool> TrainingRun::resume() {
  auto read = read_file(options_.checkpoint);
  if (!read.ok() && read.error().code == ErrorCode::not_found) return false;
  COVEY_ASSIGN(const Bytes bytes, std::move(read));
  const auto bad = [&](const char* what) {
    return Error{ErrorCode::corrupt_data, options_.checkpoint + ": " + what + "; remove it to start over"};
  };
  RunHeader header;
  std::uint64_t sum = 0;
  if (bytes.size() < sizeof header + sizeof sum) return bad("too short for a checkpoint");
  const ByteSpan body = ByteSpan(bytes).first(bytes.size() - sizeof sum);
  std::memcpy(&header, body.data(), sizeof header);
  std::memcpy(&sum, bytes.data() + body.size(), sizeof sum);
  if (header.magic != RunHeader{}.magic || sum != sum_of(body)) return bad("damaged, or no checkpoint of a run");
  if (header.options != fingerprint()) return bad("made with another evaluate_every, patience or min_improvement");
  const std::size_t P = trainer_.values().size();
  if (header.best_values != 0 && header.best_values != P) return bad("made from another adapter");
  const std::size_t best_bytes = static_cast<std::size_t>(header.best_values) * sizeof(float);
  if (body.size() < sizeof header + best_bytes) return bad("too short for a checkpoint");
  if (const Status restored = trainer_.restore(body.subspan(sizeof header + best_bytes)); !restored.ok()) {
    return restored.error().in(options_.checkpoint);
  }
  best_values_.resize(static_cast<std::size_t>(header.best_values));
  if (best_bytes > 0) std::memcpy(best_values_.data(), body.data() + sizeof header, best_bytes);
  state_ = {.best = {.loss = header.loss,
                     .perplexity = header.perplexity,
                     .accuracy = header.accuracy,
                     .tokens = header.tokens,
                     .examples = header.examples},
            .best_step = header.best_step,
            .without_improvement = header.without_improvement,
            .logged_bytes = header.logged_bytes,
            .stopped_early = header.stopped_early != 0,
            .complete = header.complete != 0};
  return true;
}

Status TrainingRun::save(RunObserver& observer) {
  if (options_.checkpoint.empty()) return {};
  COVEY_ASSIGN(state_.logged_bytes, observer.make_durable());
  RunHeader header;
  header.options = fingerprint();
  header.best_values = best_values_.size();
  header.loss = state_.best.loss;
  header.perplexity = state_.best.perplexity;
  header.accuracy = state_.best.accuracy;
  header.tokens = state_.best.tokens;
  header.examples = state_.best.examples;
  header.best_step = state_.best_step;
  header.without_improvement = state_.without_improvement;
  header.logged_bytes = state_.logged_bytes;
  header.stopped_early = state_.stopped_early ? 1 : 0;
  header.complete = state_.complete ? 1 : 0;
  const Bytes trainer = trainer_.checkpoint();
  const std::size_t best_bytes = best_values_.size() * sizeof(float);
  Bytes out(sizeof header + best_bytes + trainer.size() + sizeof(std::uint64_t));
  std::memcpy(out.data(), &header, sizeof header);
  if (best_bytes > 0) std::memcpy(out.data() + sizeof header, best_values_.data(), best_bytes);
  std::memcpy(out.data() + sizeof header + best_bytes, trainer.data(), trainer.size());
  const std::uint64_t sum = sum_of(ByteSpan(out).first(out.size() - sizeof sum));
  std::memcpy(out.data() + out.size() - sizeof sum, &sum, sizeof sum);
  return write_file_durably(options_.checkpoint, out);
}

Status TrainingRun::evaluate_now(const EvaluateValues& evaluate, RunObserver& observer) {
  COVEY_ASSIGN(const Evaluation now, evaluate(trainer_.values()));
  const bool best = state_.best.tokens == 0 || now.loss < state_.best.loss - options_.min_improvement;
  if (best) {
    state_.best = now;
    state_.best_step = trainer_.steps_done();
    state_.without_improvement = 0;
    best_values_.assign(trainer_.values().begin(), trainer_.values().end());
  } else {
    ++state_.without_improvement;
  }
  state_.stopped_early = options_.patience > 0 && state_.without_improvement >= options_.patience && !trainer_.done();
  return observer.on_evaluation(trainer_.steps_done(), now, best);
}

Status TrainingRun::run(const EvaluateValues& evaluate, RunObserver& observer) {
  const bool evaluates = options_.evaluate_every > 0 && evaluate != nullptr;
  std::int64_t saved_ms = clock_.monotonic_ms();
  if (evaluates && state_.best.tokens == 0) COVEY_TRY(evaluate_now(evaluate, observer));
  while (!trainer_.done() && !state_.stopped_early) {
    if (observer.stop_wanted()) {
      COVEY_TRY(save(observer));
      return Error{ErrorCode::cancelled, "stopped after step " + std::to_string(trainer_.steps_done())};
    }
    COVEY_ASSIGN(const StepReport report, trainer_.step());
    COVEY_TRY(observer.on_step(report));
    if (evaluates && (report.step % options_.evaluate_every == 0 || trainer_.done())) {
      COVEY_TRY(evaluate_now(evaluate, observer));
    }
    const bool due = options_.checkpoint_every > 0 ? report.step % options_.checkpoint_every == 0
                                                   : clock_.monotonic_ms() - saved_ms >= options_.checkpoint_ms;
    if (due && !trainer_.done() && !state_.stopped_early) {
      COVEY_TRY(save(observer));
      saved_ms = clock_.monotonic_ms();
    }
  }
  if (state_.complete) return {};
  state_.complete = true;
  return save(observer);
}

std::span<const float> TrainingRun::best_values() const {
  return best_values_.empty() ? trainer_.values() : std::span<const float>(best_values_);
}

std::int64_t TrainingRun::best_step() const {
  return best_values_.empty() ? trainer_.steps_done() : state_.best_step;
}

}  // namespace covey::train

#include "coordinator/evaluation.h"

#include "adapters/adapter.h"
#include "core/base/log.h"

namespace covey::coordinator {

Result<std::unique_ptr<EvaluationWorker>> EvaluationWorker::create(const adapters::Workbench& bench, TaskConfig task,
                                                                   const HeldOut& held_out) {
  std::vector<train::TokenRow> rows;
  if (!held_out.file.empty()) {
    COVEY_ASSIGN(auto examples, adapters::read_examples(held_out.file));
    if (examples.size() > static_cast<std::size_t>(held_out.examples_max)) {
      examples.resize(static_cast<std::size_t>(held_out.examples_max));
    }
    rows = adapters::example_rows(*bench.tokenizer, examples, held_out.seq);
    if (rows.empty()) return Error{ErrorCode::invalid_argument, held_out.file + ": has no usable example"};
  }
  return std::unique_ptr<EvaluationWorker>(new EvaluationWorker(bench, std::move(task), held_out, std::move(rows)));
}

EvaluationWorker::EvaluationWorker(const adapters::Workbench& bench, TaskConfig task, const HeldOut& held_out,
                                   std::vector<train::TokenRow> rows)
    : bench_(bench), task_(std::move(task)), held_out_(held_out), rows_(std::move(rows)), thread_([this] { run(); }) {}

EvaluationWorker::~EvaluationWorker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void EvaluationWorker::evaluate(Evaluate request) {
  {
    const std::lock_guard lock(mutex_);
    if (rows_.empty()) {
      answers_.push_back({request.version, {}, {}, 0});
      return;
    }
    requests_.push_back(std::move(request));
  }
  wake_.notify_all();
}

std::optional<Evaluated> EvaluationWorker::take() {
  const std::lock_guard lock(mutex_);
  if (answers_.empty()) return std::nullopt;
  Evaluated out = answers_.front();
  answers_.pop_front();
  return out;
}

void EvaluationWorker::run() {
  for (;;) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return stop_ || !requests_.empty(); });
    if (stop_) return;
    const Evaluate request = std::move(requests_.front());
    requests_.pop_front();
    lock.unlock();
    Evaluated answer = measure(request);
    lock.lock();
    answers_.push_back(std::move(answer));
  }
}

Evaluated EvaluationWorker::measure(const Evaluate& request) {
  Evaluated answer{request.version, {}, {}, 0};
  ThreadPool pool(held_out_.threads);
  const auto measured = evaluate_version(request.adapter, pool);
  if (!measured.ok()) {
    if (measured.error().code != ErrorCode::cancelled) log_error("evaluation", measured.error().message);
    return answer;
  }
  answer.loss = measured->loss;
  answer.accuracy = measured->accuracy;
  answer.tokens = static_cast<std::uint64_t>(measured->tokens);
  return answer;
}

Result<train::Evaluation> EvaluationWorker::evaluate_version(const std::vector<float>& version, ThreadPool& pool) {
  COVEY_ASSIGN(auto layout, adapters::AdapterLayout::parse(task_.adapter_layout));
  COVEY_ASSIGN(auto values, adapter_of_version(task_, layout, *bench_.model, version, pool));
  COVEY_ASSIGN(const auto adapter, adapters::Adapter::create(*bench_.model, std::move(layout), std::move(values)));
  train::EvaluateOptions options;
  options.batch = held_out_.batch;
  options.seq = held_out_.seq;
  options.cancelled = [this] {
    const std::lock_guard lock(mutex_);
    return stop_;
  };
  return train::evaluate(*bench_.model, adapter.spec(), adapter.view(), rows_, options, pool);
}

}  // namespace covey::coordinator

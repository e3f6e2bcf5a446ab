/// Measures adapter versions on held-out data in a thread of its own, so that the network loop never waits.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "adapters/workbench.h"
#include "coordinator/service.h"
#include "coordinator/settings.h"
#include "core/base/thread_pool.h"
#include "core/train/evaluate.h"

namespace covey::coordinator {

/// evaluate() and take() belong to the service's thread. Without held-out data it answers at once, without a loss.
class EvaluationWorker final : public Evaluator {
 public:
  /// Reads the held-out file. @errors those of read_texts; invalid_argument: no usable example.
  static Result<std::unique_ptr<EvaluationWorker>> create(const adapters::Workbench& bench, TaskConfig task,
                                                          const HeldOut& held_out);
  ~EvaluationWorker() override;
  void evaluate(Evaluate request) override;
  /// An answer that is ready.
  std::optional<Evaluated> take();

 private:
  EvaluationWorker(const adapters::Workbench& bench, TaskConfig task, const HeldOut& held_out,
                   std::vector<train::TokenRow> rows);
  void run();
  [[nodiscard]] Evaluated measure(const Evaluate& request);
  Result<train::Evaluation> evaluate_version(const std::vector<float>& version, ThreadPool& pool);

  adapters::Workbench bench_;
  TaskConfig task_;
  HeldOut held_out_;
  std::vector<train::TokenRow> rows_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Evaluate> requests_;
  std::deque<Evaluated> answers_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace covey::coordinator

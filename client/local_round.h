/// The training of one round: a plan, a model, the adapter's values and the device's rows become a TrainingOutcome.
/// The daemon's trainer and the simulator both use it.
///
///   auto outcome = train_now({plan, bench, values, rows, memory_max}, pool, clock);     // all at once
///   auto round = LocalRound::prepare(...); while (!round->done()) round->step();        // step by step
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "adapters/layout.h"
#include "adapters/workbench.h"
#include "client/session.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/train/local_trainer.h"

namespace covey::client {

/// What a round trains on. The rows are borrowed and must outlive the round.
struct LocalRoundInputs {
  const wire::RoundPlan& plan;
  adapters::Workbench bench;
  std::vector<float> values;  ///< of the adapter, (P); of a seeded task its version, (K)
  std::span<const train::TokenRow> rows;
  std::uint64_t memory_bytes_max = 0;  ///< 0: no bound
  std::uint64_t device = 0;            ///< tells devices apart: without backprop each goes along directions of its own
};

/// Not thread-safe. The same inputs give the same outcome, with any number of threads and any number of checkpoints.
class LocalRound {
 public:
  /// @errors resource_exhausted: the memory plan is over the bound (the message says by how much). not_found: no row to
  /// train on. invalid_argument, corrupt_data: the plan's layout or values do not fit the model.
  static Result<std::unique_ptr<LocalRound>> prepare(LocalRoundInputs inputs, ThreadPool& pool, const Clock& clock);

  [[nodiscard]] train::LocalTrainer& trainer() { return *trainer_; }
  [[nodiscard]] bool done() const { return trainer_->done(); }
  Result<train::StepReport> step() { return trainer_->step(); }
  /// Call when done(). What leaves is what adapters::contribution() makes of the delta.
  [[nodiscard]] TrainingOutcome outcome() const;

 private:
  LocalRound() = default;
  adapters::Workbench bench_;
  adapters::AdapterLayout layout_;
  model::AdapterSpec spec_;
  std::uint32_t weight_ = 1;
  std::unique_ptr<train::LocalTrainer> trainer_;
};

/// What prepare() holds against memory_bytes_max: a step of the plan's method.
model::MemoryPlan training_memory(const wire::RoundPlan& plan, const model::Model& model,
                                  const model::AdapterSpec& spec);

Result<TrainingOutcome> train_now(LocalRoundInputs inputs, ThreadPool& pool, const Clock& clock);

/// How such an error is told to the coordinator: memory, no_data, bad_plan or failed.
wire::RefusalReason refusal_for(const Error& error);

/// Names a base model by its files' names and contents, in hexadecimal.
std::string model_key(const wire::RoundPlan& plan);
/// Where the loadable model lies among a plan's files: the directory itself (config.json) or a llama2.c .bin in it.
/// @errors invalid_argument: neither is among them.
Result<std::string> model_path(const wire::RoundPlan& plan, const std::string& directory);

}  // namespace covey::client

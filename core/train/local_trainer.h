/// The training loop as an object that is driven step by step, so that its owner can pause, cancel and checkpoint
/// between any two steps. Trains an adapter beside a frozen model, or all of a model's parameters.
///
///   COVEY_ASSIGN(auto trainer, LocalTrainer::create(model, spec, start, rows, config, pool, clock));
///   while (!trainer->done()) {
///     if (must_stop()) return keep(trainer->checkpoint());  // encrypt and store: the owner's business
///     COVEY_ASSIGN(auto report, trainer->step());
///   }
///   send(trainer->delta());
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/model/engine.h"
#include "core/train/rows.h"
#include "core/train/seeded_update.h"
#include "core/train/train_config.h"

namespace covey::train {

struct StepReport {
  std::int64_t step = 0;  ///< 1 after the first step
  std::int64_t steps_planned = 0;
  double loss = 0;  ///< mean over the batch's targets, before the update (central differences: of both sides)
  double lr = 0;
  double gradient_norm = 0;  ///< before clipping; 0 where it was not needed
  std::int64_t tokens = 0;   ///< positions of the batch, padding not counted, however often they were computed
  int directions = 0;        ///< along which derivatives were taken; 0 for backprop
};

struct TrainReport {
  std::int64_t steps = 0;
  std::int64_t examples = 0;  ///< rows seen, with repetition
  std::int64_t tokens = 0;
  double first_loss = 0;
  double last_loss = 0;
  double mean_loss = 0;  ///< over steps
  double seconds = 0;    ///< spent inside step()
  [[nodiscard]] double tokens_per_s() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }
};

/// The least memory plan that holds what a trainer of this adapter allocates: the engine of the method, values, start,
/// gradient and optimizer state. `longest` is the longest row's positions, `longest_target` an encoder-decoder's.
model::MemoryPlan memory_plan(const model::Model& model, const model::AdapterSpec& spec, const TrainConfig& config,
                              int longest, int longest_target = 0);
/// The same for the model's own tensors, those that are chosen (empty: all).
model::MemoryPlan memory_plan_full(const model::Model& model, const model::TensorChoice& choice,
                                   const TrainConfig& config, int longest, int longest_target = 0);

/// Not thread-safe. Borrows model, pool and clock, which must outlive it; keeps a copy of the usable rows. The same
/// inputs give the same bits, with any number of threads and with any number of checkpoint/restore pairs in between.
class LocalTrainer {
 public:
  /// Trains an adapter that starts at `initial` (P floats in flat_view.h's layout).
  /// Rows are of the kind that the model's task wants: texts, classes, or sources and targets.
  /// @errors invalid_argument: configuration, sizes, rows of another kind, or no row with a target. What Engine::create
  /// reports.
  static Result<std::unique_ptr<LocalTrainer>> create(const model::Model& model, const model::AdapterSpec& spec,
                                                      std::vector<float> initial, std::span<const TokenRow> rows,
                                                      const TrainConfig& config, ThreadPool& pool, const Clock& clock);
  /// Trains tensors of a writable model in place: all, or those that are chosen (gradients and optimizer state are of
  /// these alone). Weight decay spares tensors of one dimension.
  static Result<std::unique_ptr<LocalTrainer>> create_full(model::Model& model, std::span<const TokenRow> rows,
                                                           const TrainConfig& config, ThreadPool& pool,
                                                           const Clock& clock, model::TensorChoice choice = {});
  ~LocalTrainer();

  /// One optimizer step. @errors invalid_argument when done(); internal: the loss is not finite, nothing was updated.
  Result<StepReport> step();
  /// Once `*stop` is true, a step in flight ends with `cancelled` within milliseconds, as do later ones while it stays
  /// so; the trainer is as it was before that step (zeroth-order: within roundings) and can go on later. nullptr:
  /// never.
  void stop_when(const std::atomic<bool>* stop);
  /// Steps until done. `keep_going` is asked before every step (the report of the step before; step 0 at first); where
  /// it says no the result is `cancelled` and the trainer can go on later. May be empty.
  [[nodiscard]] Status run(const std::function<bool(const StepReport&)>& keep_going = {});

  [[nodiscard]] bool done() const { return steps_done() >= steps_planned(); }
  [[nodiscard]] std::int64_t steps_done() const;
  [[nodiscard]] std::int64_t steps_planned() const;
  [[nodiscard]] TrainReport report() const;

  /// Adapter mode: the values now, at the start, and their difference (P). Empty in full-parameter mode.
  [[nodiscard]] std::span<const float> values() const;
  [[nodiscard]] std::span<const float> initial() const;
  [[nodiscard]] std::vector<float> delta() const;
  /// With config.candidates: delta as sum_k c_k z_k, up to the roundings of moving in small steps. Else empty.
  [[nodiscard]] const SeededUpdate& seeded_update() const;

  /// Everything that changes while training: values, optimizer, position, report. Not encrypted: the owner does that.
  [[nodiscard]] Bytes checkpoint() const;
  /// Continues bit-exactly where checkpoint() was taken, in a trainer made from the same inputs.
  /// @errors corrupt_data: damaged, or made from other inputs; the trainer is unchanged then.
  [[nodiscard]] Status restore(ByteSpan bytes);

 private:
  struct Impl;
  explicit LocalTrainer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace covey::train

/// One interface over the ways to a gradient. Backprop gives a dense vector; the other two give a few seeded terms and
/// run in inference memory: no activations are kept, no vector of P values is made for the gradient.
///
///   COVEY_ASSIGN(auto source, GradientSource::create(parameters, config, {.rows = 4, .seq = 128}, pool));
///   COVEY_ASSIGN(const auto estimate, source->estimate(batch, seed));
///   // dense(): (P). Else combine(terms, first, out) gives any part of it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/result.h"
#include "core/base/thread_pool.h"
#include "core/model/engine.h"
#include "core/train/direction.h"
#include "core/train/method.h"
#include "core/train/parameters.h"

namespace covey::train {

struct GradientConfig {
  Method method = Method::backprop;
  Derivative derivative = Derivative::exact;  ///< forward_gradient; zeroth_order is always central
  int directions = 0;                         ///< per step; 0: 8 (forward_gradient), 1 (zeroth_order)
  /// Of central differences; 0: 1e-2 for adapters (MeZO's for LoRA, FwdLLM's h), 1e-3 for whole models.
  double epsilon = 0;
  /// FwdLLM's control of variance: directions are added, as many as before, until the variance between the two halves'
  /// mean gradients, averaged over the last values of [0, P), is at most this; 0 = off. Needs directions >= 2.
  double variance_max = 0;
  int directions_max = 64;  ///< where variance_max is on
  bool checkpoint_activations = false;
  /// W8A8: gradients on their way through int8 weights are rounded up with the probability of the remainder instead of
  /// to the nearest (model::EngineOptions::stochastic_seed), with noise of this seed and the step's. None: to the
  /// nearest. No effect without int8 weights.
  std::optional<std::uint64_t> stochastic_rounding = {};
  std::string name{};  ///< of a method in methods/ that shares `method` with others; empty: the first such

  /// @errors invalid_argument, naming the field and what it may be.
  [[nodiscard]] Status check() const;
  [[nodiscard]] int directions_used() const;
  [[nodiscard]] double epsilon_used(bool adapter) const;
  /// What a step of an adapter computes, in forward passes over its batch: 2 (backprop: forward, and input gradients),
  /// 2 for each direction (value and derivative, or both sides).
  [[nodiscard]] int forward_passes() const;
  /// The engine that this way needs for `rows` at once: training buffers for backprop alone. Exact derivatives, whose
  /// tangents double what a row takes, compute half of the rows at a time: the memory of the loss of all of them.
  /// EngineOptions::trained is the caller's to set.
  [[nodiscard]] model::EngineOptions engine(int rows, int seq, int prompt_tokens, int target_seq = 0) const;
};

/// The gradient of the mean loss over a batch's targets, or an unbiased estimate of it.
struct Estimate {
  model::LossResult loss;         ///< central differences: the mean of both sides' losses
  std::vector<SeededTerm> terms;  ///< empty where dense
  std::span<float> dense{};       ///< (P), the source's own until the next call; empty where seeded
};

/// Not thread-safe; borrows parameters, model and pool.
class GradientSource {
 public:
  /// Rows of one engine call and their positions. More rows in a batch are computed one part after the other: the
  /// result is the mean over all targets of the batch, within the rounding of a sum in another order.
  struct Sizes {
    int rows = 1;
    int seq = 1;
    int target_seq = 0;  ///< encoder-decoders
  };
  /// Which seed direction k of a step takes; default: derive_seed(step_seed, k).
  using SeedOf = std::function<std::uint64_t(std::uint64_t step_seed, int k)>;

  /// @errors invalid_argument: an exact derivative of a whole model (Engine::jvp follows adapters alone), or what
  /// config.check() and Engine::create report.
  static Result<std::unique_ptr<GradientSource>> create(Parameters& parameters, const GradientConfig& config,
                                                        Sizes sizes, ThreadPool& pool, SeedOf seed_of = {});
  virtual ~GradientSource() = default;

  /// `seed` names the step's directions (backprop: its stochastic rounding). Central differences move the values in
  /// place and back: each direction leaves a value within three roundings of where it was, as MeZO does.
  /// @errors those of the engine; values are where they were then, as near as otherwise.
  virtual Result<Estimate> estimate(const model::TokenBatch& batch, std::uint64_t seed) = 0;

  /// As Engine::stop_when: an estimate in flight ends with `cancelled`.
  void stop_when(const std::atomic<bool>* stop) { engine_->stop_when(stop); }

 protected:
  explicit GradientSource(std::unique_ptr<model::Engine> engine) : engine_(std::move(engine)) {}
  std::unique_ptr<model::Engine> engine_;
};

/// The batch's rows in parts of at most `rows`. Borrowed from `batch`.
std::vector<model::TokenBatch> parts_of(const model::TokenBatch& batch, int rows);

/// Positions of the batch that have something to predict.
std::int64_t count_targets(const model::TokenBatch& batch);

/// FwdLLM's measure on values [first, first + size): the mean over them of the variance between the mean gradients of
/// the first and the second half of `terms` (an odd last term is left out).
double variance_between_halves(std::span<const SeededTerm> terms, std::int64_t first, std::int64_t size);

}  // namespace covey::train

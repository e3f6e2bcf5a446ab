/// What the ways to a gradient without backprop share: a derivative along each of a few seeded directions.
#pragma once

#include <span>
#include <utility>

#include "core/train/gradient_method.h"

namespace covey::train {

/// A method says how it gets one derivative.
class AlongDirections : public GradientSource {
 public:
  explicit AlongDirections(SourceInputs inputs)
      : GradientSource(std::move(inputs.engine)),
        parameters_(inputs.parameters),
        config_(std::move(inputs.config)),
        rows_(inputs.rows),
        pool_(inputs.pool),
        seed_of_(std::move(inputs.seed_of)) {}

  Result<Estimate> estimate(const model::TokenBatch& batch, std::uint64_t seed) override;

 protected:
  /// Loss of all parts, and the derivative of their common mean along direction `seed`.
  virtual Result<model::JvpResult> derivative(std::span<const model::TokenBatch> parts, std::uint64_t seed) = 0;

  Parameters& parameters_;
  GradientConfig config_;
  int rows_;
  ThreadPool& pool_;

 private:
  [[nodiscard]] bool settled(std::span<const SeededTerm> terms) const;
  SeedOf seed_of_;
};

/// (f(w + h v) - f(w - h v)) / 2h, in place.
class CentralDifference : public AlongDirections {
 public:
  using AlongDirections::AlongDirections;

 protected:
  Result<model::JvpResult> derivative(std::span<const model::TokenBatch> parts, std::uint64_t seed) override;

 private:
  Result<model::LossResult> loss_of(std::span<const model::TokenBatch> parts);
};

}  // namespace covey::train

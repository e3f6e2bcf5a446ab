// Reverse mode: exact, dense, keeps activations.
#include <algorithm>
#include <optional>
#include <vector>

#include "core/base/rng.h"
#include "core/train/gradient_method.h"

namespace covey::train {
namespace {

class Backprop final : public GradientSource {
 public:
  explicit Backprop(SourceInputs inputs)
      : GradientSource(std::move(inputs.engine)),
        parameters_(inputs.parameters),
        rows_(inputs.rows),
        rounding_(inputs.config.stochastic_rounding),
        gradient_(static_cast<std::size_t>(parameters_.size())) {}

  Result<Estimate> estimate(const model::TokenBatch& batch, std::uint64_t seed) override {
    if (rounding_) engine_->seed_rounding(derive_seed(*rounding_, seed));
    std::fill(gradient_.begin(), gradient_.end(), 0.0F);
    const auto parts = parts_of(batch, rows_);
    const auto all = static_cast<double>(count_targets(batch));
    Estimate out;
    for (const model::TokenBatch& part : parts) {
      // The engine's gradient is of its own part's mean; together they must be the mean over the whole batch.
      const auto share = parts.size() == 1 ? 1.0F : static_cast<float>(static_cast<double>(count_targets(part)) / all);
      COVEY_ASSIGN(const auto loss, parameters_.add_gradient(*engine_, part, gradient_, share));
      out.loss.loss_sum += loss.loss_sum;
      out.loss.targets += loss.targets;
      out.loss.correct += loss.correct;
    }
    out.dense = gradient_;
    return out;
  }

 private:
  Parameters& parameters_;
  int rows_;
  std::optional<std::uint64_t> rounding_;
  std::vector<float> gradient_;
};

}  // namespace

extern const PlanMethod method_backprop{"backprop", Method::backprop, Derivative::exact};

std::unique_ptr<GradientSource> make_backprop(SourceInputs inputs) {
  return std::make_unique<Backprop>(std::move(inputs));
}

}  // namespace covey::train

// Baydin et al. 2022: exact derivatives along seeded directions, by the engine's jvp. Adapters only.
#include <algorithm>
#include <vector>

#include "core/train/along_directions.h"

namespace covey::train {
namespace {

class ExactForward final : public AlongDirections {
 public:
  using AlongDirections::AlongDirections;

 protected:
  Result<model::JvpResult> derivative(std::span<const model::TokenBatch> parts, std::uint64_t seed) override {
    direction_.resize(static_cast<std::size_t>(parameters_.size()));
    std::fill(direction_.begin(), direction_.end(), 0.0F);
    for (const Piece& piece : parameters_.pieces()) {  // what is frozen does not move
      const Piece part{
          .offset = piece.offset,
          .values = std::span(direction_).subspan(static_cast<std::size_t>(piece.offset), piece.values.size())};
      add_direction(pool_, {&part, 1}, seed, 1);
    }
    model::JvpResult out;
    double sum = 0;
    for (const model::TokenBatch& part : parts) {
      COVEY_ASSIGN(const auto along, parameters_.jvp(*engine_, part, direction_));
      out.loss.loss_sum += along.loss.loss_sum;
      out.loss.targets += along.loss.targets;
      out.loss.correct += along.loss.correct;
      sum += along.derivative * static_cast<double>(along.loss.targets);
    }
    if (out.loss.targets > 0) out.derivative = sum / static_cast<double>(out.loss.targets);
    return out;
  }

 private:
  std::vector<float> direction_;  ///< (P) of an adapter
};

}  // namespace

extern const PlanMethod method_forward_gradient{"forward-gradient", Method::forward_gradient, Derivative::exact};

std::unique_ptr<GradientSource> make_forward_gradient(SourceInputs inputs) {
  return std::make_unique<ExactForward>(std::move(inputs));
}

}  // namespace covey::train

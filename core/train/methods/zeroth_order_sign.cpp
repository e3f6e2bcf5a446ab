// MeZO by the sign of each derivative: steps of one length. After FeedSign (Cai et al. 2025), which votes on each sign.
#include <cmath>

#include "core/train/along_directions.h"

namespace covey::train {
namespace {

class SignOfDifference final : public CentralDifference {
  using CentralDifference::CentralDifference;
  Result<model::JvpResult> derivative(std::span<const model::TokenBatch> parts, std::uint64_t seed) override {
    COVEY_ASSIGN(auto along, CentralDifference::derivative(parts, seed));
    if (along.derivative != 0) along.derivative = std::copysign(1.0, along.derivative);
    return along;
  }
};

}  // namespace

extern const PlanMethod method_zeroth_order_sign{"zeroth-order-sign", Method::zeroth_order, Derivative::central};

std::unique_ptr<GradientSource> make_zeroth_order_sign(SourceInputs inputs) {
  return std::make_unique<SignOfDifference>(std::move(inputs));
}

}  // namespace covey::train

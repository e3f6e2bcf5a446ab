// MeZO (Malladi et al. 2023): SPSA, in place.
#include "core/train/along_directions.h"

namespace covey::train {

extern const PlanMethod method_zeroth_order{"zeroth-order", Method::zeroth_order, Derivative::central};

std::unique_ptr<GradientSource> make_zeroth_order(SourceInputs inputs) {
  return std::make_unique<CentralDifference>(std::move(inputs));
}

}  // namespace covey::train

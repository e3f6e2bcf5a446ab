// FwdLLM (Xu et al. 2024): forward gradients by central differences, with its control of variance.
#include "core/train/along_directions.h"

namespace covey::train {

extern const PlanMethod method_forward_gradient_central{"forward-gradient-central", Method::forward_gradient,
                                                        Derivative::central};

std::unique_ptr<GradientSource> make_forward_gradient_central(SourceInputs inputs) {
  return std::make_unique<CentralDifference>(std::move(inputs));
}

}  // namespace covey::train

#include "aggregation/clip.h"

#include <cmath>

namespace covey::aggregation {

double l2_norm(std::span<const float> x) {
  double sum = 0;
  for (const float value : x) sum += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(sum);
}

Result<double> clip_factor(std::span<const float> x, double clip_norm) {
  // A float's square fits a double's range 2^28 times over, so only an element that is not finite can spoil the norm.
  const double norm = l2_norm(x);
  if (!std::isfinite(norm)) {
    return Error{ErrorCode::invalid_argument, "delta: holds values that are not finite; lower the learning rate"};
  }
  return norm <= clip_norm ? 1.0 : clip_norm / norm;
}

}  // namespace covey::aggregation

// Lion (Chen et al. 2023) on the server: every value moves by lr, along the sign of a mean of deltas.
#include <cmath>

#include "aggregation/server_rule.h"

namespace covey::aggregation {

extern const ServerRule server_rule_lion{
    .name = "lion",
    .keeps_m = true,
    .keeps_v = false,
    .advance = [](const ServerOptimizerConfig& config, double m, double, double d) {
      const double along = config.beta1 * m + (1 - config.beta1) * d;
      return ServerElement{.m = config.beta2 * m + (1 - config.beta2) * d,
                           .step = along == 0 ? 0 : std::copysign(1.0, along)};
    }};

}  // namespace covey::aggregation

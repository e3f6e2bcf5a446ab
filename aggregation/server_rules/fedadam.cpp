// Reddi et al. 2021, Algorithm 2: v = beta2 v + (1 - beta2) D^2.
#include "aggregation/server_rule.h"

namespace covey::aggregation {

extern const ServerRule server_rule_fedadam{
    .name = "fedadam",
    .keeps_m = true,
    .keeps_v = true,
    .advance = [](const ServerOptimizerConfig& config, double m, double v, double d) {
      return adaptive_step(config, m, config.beta2 * v + (1 - config.beta2) * (d * d), d);
    }};

}  // namespace covey::aggregation

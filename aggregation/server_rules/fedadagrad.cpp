// Reddi et al. 2021, Algorithm 2: v += D^2.
#include "aggregation/server_rule.h"

namespace covey::aggregation {

extern const ServerRule server_rule_fedadagrad{
    .name = "fedadagrad",
    .keeps_m = true,
    .keeps_v = true,
    .advance = [](const ServerOptimizerConfig& config, double m, double v, double d) {
      return adaptive_step(config, m, v + d * d, d);
    }};

}  // namespace covey::aggregation

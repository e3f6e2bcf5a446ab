// Reddi et al. 2021, Algorithm 2: v -= (1 - beta2) D^2 sign(v - D^2).
#include "aggregation/server_rule.h"

namespace covey::aggregation {

extern const ServerRule server_rule_fedyogi{
    .name = "fedyogi",
    .keeps_m = true,
    .keeps_v = true,
    .advance = [](const ServerOptimizerConfig& config, double m, double v, double d) {
      const double square = d * d;
      // sign(0) = 0: where v equals d^2 it has arrived.
      if (v != square) v -= (1 - config.beta2) * square * (v > square ? 1 : -1);
      return adaptive_step(config, m, v, d);
    }};

}  // namespace covey::aggregation

// Hsu et al. 2019: m = momentum m + D; x += lr m.
#include "aggregation/server_rule.h"

namespace covey::aggregation {

extern const ServerRule server_rule_fedavgm{
    .name = "fedavgm",
    .keeps_m = true,
    .keeps_v = false,
    .advance = [](const ServerOptimizerConfig& config, double m, double, double d) {
      const double next = config.momentum * m + d;
      return ServerElement{.m = next, .step = next};
    }};

}  // namespace covey::aggregation

// McMahan et al. 2017: x += lr D.
#include "aggregation/server_rule.h"

namespace covey::aggregation {

extern const ServerRule server_rule_fedavg{
    .name = "fedavg",
    .keeps_m = false,
    .keeps_v = false,
    .advance = [](const ServerOptimizerConfig&, double, double, double d) { return ServerElement{.step = d}; }};

}  // namespace covey::aggregation

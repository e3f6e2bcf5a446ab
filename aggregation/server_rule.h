/// What a server optimizer does to one value. Each has a file in server_rules/ that defines its ServerRule, and a word
/// in the list of rules in CMakeLists.txt; adding one takes no more. simulations/README.md, "Adding a method", shows
/// it.
#pragma once

#include <span>

#include "aggregation/server_optimizer.h"

namespace covey::aggregation {

/// A value's state, and its step before the learning rate.
struct ServerElement {
  double m = 0;
  double v = 0;
  double step = 0;
};

struct ServerRule {
  const char* name;  ///< as configurations spell it
  bool keeps_m;      ///< (P) floats of state, from 0
  bool keeps_v;      ///< (P) floats of state, from tau^2, never negative
  /// Pure. `d` is the value's mean delta, trained minus received; m and v are 0 where they are not kept.
  ServerElement (*advance)(const ServerOptimizerConfig& config, double m, double v, double d);
};

/// In the order of the list; a rule's place is its ServerOptimizerKind.
std::span<const ServerRule* const> server_rules();

/// What FedAdagrad, FedAdam and FedYogi share: the step along a mean of deltas, divided by the root of their own v.
ServerElement adaptive_step(const ServerOptimizerConfig& config, double m, double v, double d);

}  // namespace covey::aggregation

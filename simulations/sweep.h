/// Many runs of one experiment: variants x a grid or random draws x seeds. One YAML file:
///
///   experiment: speakers.yaml            # relative to this file
///   seeds: [1, 2, 3]
///   search: grid                         # grid: every combination; random: `samples` draws of every axis
///   samples: 20
///   seed: 1                              # of the draws
///   variants:                            # optional: named settings, each of which meets every point
///     - {name: fedprox, set: [local.prox_mu=0.1]}
///   axes:                                # optional; `values`, or for random search `low` and `high`
///     - {key: local.learning_rate, values: [0.001, 0.003]}
///     - {key: local.prox_mu, low: 0.001, high: 1, scale: log}
#pragma once

#include <string>
#include <vector>

#include "core/base/result.h"
#include "simulations/experiment.h"

namespace covey::simulations {

struct SweepPoint {
  std::string name;     ///< of its folder: "0003-fedprox-s2"; unique
  std::string variant;  ///< empty where the sweep has none
  std::vector<KeyValue> set;
  std::uint64_t seed = 1;
};

struct Sweep {
  std::string experiment;  ///< path
  std::vector<SweepPoint> points;
  std::string resolved;  ///< the file with all defaults
};

inline constexpr std::size_t kSweepPointsMax = 10'000;

/// Every point's experiment is read, too: a sweep does not stop hours later at a value out of range.
/// @errors invalid_argument: one line, what and how to mend; more than kSweepPointsMax points.
Result<Sweep> load_sweep(const std::string& path);

}  // namespace covey::simulations

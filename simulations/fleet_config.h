/// The keys of an experiment that say what its devices are and when they are there. README.md lists them.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/task.h"
#include "core/config/reader.h"
#include "simulations/availability.h"
#include "simulations/fleet_data.h"

namespace covey::simulations {

/// A scheduling experiment: devices train in virtual time only, and their updates are zeros.
struct ModelledTraining {
  double parameters = 0;           ///< of the base model that they would train; 0: of `model`
  std::uint64_t update_bytes = 0;  ///< of one upload, and of the adapter's download; 0: what the adapter makes
  double examples = 100;           ///< per device, on average; exponentially distributed, at least 1
};

/// From a path in the file to one that can be opened.
using Beside = std::function<std::string(const std::string&)>;

/// `classes`, or `scores` with `score_classes` and `median_gflops`, or the built-in ones.
std::vector<DeviceClass> read_classes(config::Section fleet, const Beside& beside);
/// `traces`: a list of paths without their .up and .down.
std::vector<LinkTrace> read_traces(config::Section fleet, const Beside& beside);
Availability read_availability(config::Section section);
/// `training: modelled` with the section `modelled`; otherwise nothing.
std::optional<ModelledTraining> read_modelled(config::Section root, const coordinator::TaskConfig& task);

}  // namespace covey::simulations

/// What a run says beside its rounds: who took part and what the model is worth to each (fairness), what each method
/// would take of a device's memory, energy and CO2.
#pragma once

#include <string>
#include <vector>

#include "adapters/workbench.h"
#include "core/base/result.h"
#include "core/formats/json.h"
#include "simulations/experiment.h"
#include "simulations/world.h"

namespace covey::simulations {

/// Adds to the summary `method`, `memory` (a line a method: what a step of it takes as the engine plans it),
/// `training_bytes` of this run's method, `grid_g_per_kwh`, `co2_g`, and for devices that trained for real `fleet`, and
/// in each line of `classes` the same: updates per device, energy, and losses on the devices' own held-out rows.
/// @param result  its summary is added to.
/// @return devices.csv: a line a device; empty for a modelled world.
/// @errors what evaluation reports.
/// @cost two evaluations of the held-out rows.
Result<std::string> add_outcomes(const Experiment& experiment, const adapters::Workbench& bench, WorldResult& result);

/// Grams of CO2 equivalents of so much energy.
double co2_grams(double joules, double grid_g_per_kwh);

/// The value below which `part` (0 to 1) of the sorted values lie, linear between neighbours. NaN without values.
double quantile(const std::vector<double>& sorted, double part);

}  // namespace covey::simulations

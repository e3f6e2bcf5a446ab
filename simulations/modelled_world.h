/// A scheduling experiment: the deployed coordinator's RoundMachine with a fleet whose devices are modelled, 100,000
/// and more of them. Real: plans, selection, registry, deadlines, over-selection, receipts, sums, every decision of a
/// round. Modelled: devices (when they are available, what training and links take), and with them their updates, which
/// are zeros, so that versions stay what they are and nothing is evaluated. Left out beside what world.h leaves out:
/// frames, signatures, roster (O(devices) for every device) and the store: what the machine persists is counted, not
/// kept.
#pragma once

#include "core/base/result.h"
#include "simulations/experiment.h"
#include "simulations/world.h"

namespace covey::simulations {

/// Same experiment and seed: same rounds. Memory O(devices), about 1.5 kB each; one thread.
/// @errors what loading the model reports; resource_exhausted: `virtual_time_max` passed before the last round.
Result<WorldResult> run_modelled_world(const Experiment& experiment, const WorldObserver& observer = {});

}  // namespace covey::simulations

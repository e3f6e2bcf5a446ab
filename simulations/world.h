/// A whole simulated world: one coordinator and its devices, deployed code on virtual time, in-memory network and
/// stores, real training.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/formats/json.h"
#include "core/train/rows.h"
#include "simulations/experiment.h"
#include "simulations/journal.h"
#include "simulations/ranks.h"

namespace covey::simulations {

/// What became of one device.
struct DeviceOutcome {
  std::uint32_t kind = 0;           ///< its place in Experiment::classes
  std::uint64_t contributions = 0;  ///< updates of it that were summed
  double training_joules = 0;       ///< modelled
  double radio_joules = 0;
};

struct WorldResult {
  std::vector<formats::Json> rounds;  ///< one object per round that ended: the lines of metrics.jsonl
  formats::Json summary;              ///< without `command` and `config`; "measured" holds this machine's own times
  std::string adapter_layout;
  std::vector<float> adapter;              ///< (P) of the last version
  std::vector<DeviceOutcome> devices;      ///< in the data's order; empty where training was modelled
  std::vector<train::TokenRow> held_out;   ///< what versions were evaluated on
  std::vector<std::uint32_t> held_out_of;  ///< the device whose examples each row is of
};

/// A class's line of the summary.
formats::Json class_json(const DeviceClass& kind, std::uint64_t devices, std::uint64_t contributions);

/// What an experiment's data is cut by.
std::uint64_t data_seed(const Experiment& experiment);

struct WorldLoad;

struct WorldObserver {
  std::function<void(const formats::Json& round)> on_round;  ///< as soon as it has ended; may be empty
  Journal* journal = nullptr;  ///< takes and gives back trained updates and evaluations; may be nullptr
  Ranks* ranks = nullptr;      ///< that the run is spread over; may be nullptr
  std::function<void(const WorldLoad&)> on_load = {};  ///< of a real-training world, after each round; may be empty
  bool keep_agents = false;  ///< devices that wait keep their agents, as a process that stays would; for comparison
};

/// Runs until the task's rounds are done. Same experiment and seed: same rounds and adapter, bit for bit, with any
/// number of threads.
/// @errors what loading model and data reports; resource_exhausted: `virtual_time_max` passed before the last round.
Result<WorldResult> run_world(const Experiment& experiment, const WorldObserver& observer = {});

}  // namespace covey::simulations

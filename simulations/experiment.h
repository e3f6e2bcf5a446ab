/// An experiment: one YAML file, every key checked, with a default where that makes sense. experiments/*.yaml and
/// README.md explain the keys.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "adapters/adapter_options.h"
#include "coordinator/task.h"
#include "core/base/result.h"
#include "simulations/adversary.h"
#include "simulations/device_data.h"
#include "simulations/fleet.h"
#include "simulations/fleet_config.h"

namespace covey::simulations {

struct Experiment {
  std::string name;
  std::string model;      ///< Hugging Face directory or llama2.c .bin
  std::string tokenizer;  ///< empty: beside the model
  std::size_t devices = 0;
  bool central = false;  ///< the rows of all devices on one: a world of one device
  int threads = 1;       ///< devices trained at the same time; does not change any result
  DataConfig data;
  coordinator::TaskConfig task;  ///< rounds, cohort, deadline, local training, server optimizer, privacy, seed
  adapters::AdapterOptions adapter;
  std::vector<DeviceClass> classes;
  std::vector<LinkTrace> traces;         ///< recorded links in place of the classes' rates; empty: the rates
  std::vector<std::string> fleet_files;  ///< what classes and traces were read from
  Availability availability;
  bool roster_known = false;  ///< devices begin with the roster followed: for each it costs time and memory O(devices)
  std::optional<ModelledTraining> modelled;  ///< nothing is trained: modelled_world.h
  Adversaries adversaries;
  double grid_g_per_kwh = 480;      ///< CO2 equivalents of the electricity that the devices charge with
  double dropout = 0;               ///< chance that a device dies while it trains for a round
  std::int64_t away_ms = 600'000;   ///< how long a dead device stays away
  std::int64_t virtual_ms_max = 0;  ///< the world ends there at the latest
  std::string resolved;             ///< the file with all defaults, as YAML
};

/// "local.learning_rate=0.01": a dotted key and its YAML value.
/// @errors invalid_argument: no "=".
struct KeyValue {
  std::string key;
  std::string value;
  static Result<KeyValue> parse(const std::string& text);
  [[nodiscard]] std::string text() const { return key + "=" + value; }
};

/// Paths in the file are relative to the file's folder. @param set  put in place of what the file says.
/// @errors invalid_argument: one line, file:line:col, what and how to mend.
Result<Experiment> load_experiment(const std::string& path, const std::vector<KeyValue>& set = {});

}  // namespace covey::simulations

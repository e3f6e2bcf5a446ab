/// The commands of covey-sim.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/result.h"

namespace covey::simulations {

struct RunOptions {
  std::string experiment;  ///< YAML file
  std::string out;         ///< directory, made where it is missing
  std::optional<int> threads;
  std::optional<std::uint64_t> seed;
  bool json = false;         ///< summary.json on stdout instead of a table
  std::string command_line;  ///< for the report
};

/// Runs an experiment and writes config.yaml, metrics.jsonl, summary.json, report.html and adapter/ (PEFT).
/// @errors already_exists: `out` holds a run; what load_experiment and run_world report; io_error.
Status run_command(const RunOptions& options);

/// Plays the attacks of attacks.h; one line each, and "N passed, M failed".
/// @errors internal: M > 0.
Status attack_command();

}  // namespace covey::simulations

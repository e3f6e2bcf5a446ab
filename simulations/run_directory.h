/// A run and its directory: config.yaml, metrics.jsonl, metrics.csv, devices.csv, summary.json, report.html, adapter/
/// (PEFT), and while it is not complete the journal that --resume goes on from.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/formats/json.h"
#include "simulations/experiment.h"
#include "simulations/ranks.h"

namespace covey::simulations {

struct RunDirectory {
  std::string out;                                           ///< made where it is missing
  std::string config;                                        ///< what ran, for config.yaml and the report
  std::string command_line;                                  ///< that repeats it, for the report
  bool resume = false;                                       ///< go on with what `out` holds; nothing there: begin
  Ranks* ranks = nullptr;                                    ///< that the run is spread over; may be nullptr
  std::function<void(const formats::Json& round)> on_round;  ///< as soon as it has ended; may be empty
};

/// Runs the experiment, or what is left of it. A complete run is not run again: its summary comes back.
/// metrics.jsonl, metrics.csv and adapter/ are the same bytes however often it was killed and resumed.
/// @return what summary.json holds; null on other ranks than the first, which write journals alone.
/// @errors already_exists: `out` holds a run and `resume` is not set. invalid_argument: it holds another run.
/// What run_world reports; io_error.
Result<formats::Json> run_into(const Experiment& experiment, const RunDirectory& directory);

/// What a complete run has left.
struct RunFiles {
  formats::Json summary;
  std::vector<formats::Json> rounds;  ///< the lines of metrics.jsonl
};
/// @errors not_found: no summary.json or no metrics.jsonl; corrupt_data: they are not what a run writes. One line.
Result<RunFiles> read_run(const std::string& folder);

inline constexpr const char* kJournalName = "journal.bin";

}  // namespace covey::simulations

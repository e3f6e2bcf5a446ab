/// The commands of covey-sim.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace covey::simulations {

struct RunOptions {
  std::string experiment;  ///< YAML file
  std::string out;         ///< directory, made where it is missing
  std::optional<int> threads;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> set;  ///< key=value, in place of what the file says
  bool resume = false;           ///< go on with what `out` holds
  bool json = false;             ///< summary.json on stdout instead of a table
  std::string command_line;      ///< for the report
};

/// Runs an experiment and writes what run_directory.h lists.
/// @errors what load_experiment and run_into report.
Status run_command(const RunOptions& options);

/// Prints the keys of an experiment, as a Markdown table or as JSON.
Status keys_command(bool json);

struct SweepOptions {
  std::string sweep;  ///< YAML file, see sweep.h
  std::string out;    ///< directory: sweep.yaml, results.sqlite, runs/NAME/
  std::optional<int> threads;
};

/// Runs what is left of a sweep: complete runs are not run again, a killed one goes on.
/// @errors what load_sweep reports; internal: runs failed, each told on stderr; io_error.
Status sweep_command(const SweepOptions& options);

struct CompareOptions {
  std::vector<std::string> runs;  ///< as read_compared_runs() takes them
  std::string out;                ///< an .html file, or a folder for comparison.html
  std::optional<double> target_perplexity;
  std::optional<double> target_accuracy;
  bool json = false;         ///< the comparison on stdout instead of a table
  std::string command_line;  ///< for the page
};

/// Lays runs side by side: an HTML page, beside it .csv (a line a setting), .curves.csv and .json.
/// @errors what read_compared_runs reports; io_error.
Status compare_command(const CompareOptions& options);

struct PoisonOptions {
  std::string experiment;          ///< YAML file with `adversaries`
  std::vector<std::string> rules;  ///< empty: all
  std::uint32_t groups = 0;        ///< more than 0: in grouped mode, the rules over so many groups' means
  std::optional<int> threads;
  bool all_attacks = false;  ///< instead of the file's
};

/// Runs the experiment under each rule with 0, 10, 20 and 30% bad devices; prints final losses and attack success.
/// @errors what load_experiment and run_world report; invalid_argument: a rule that the experiment is too small for.
Status poison_command(const PoisonOptions& options);

/// Plays the attacks of attacks.h; one line each, and "N passed, M failed".
/// @errors internal: M > 0.
Status attack_command();

struct FaultsOptions {
  std::uint64_t seeds = 200;
  std::uint64_t first = 1;
  std::optional<int> threads;           ///< as many as there are processors
  std::optional<std::uint64_t> replay;  ///< this seed alone, with its faults listed
  bool minimize = false;                ///< of a replay that fails: with as few faults as will do
};

struct PartitionOptions {
  std::string experiment;  ///< YAML file; its `data`, `devices` and `seed` count
  std::string out;         ///< HTML file with the plot; empty: none
  bool json = false;
};

/// Shows how an experiment's data is divided: a bar per device by label (or by amount), how uneven amounts and mixes
/// are.
/// @errors what load_experiment and partition_devices report; io_error.
Status partition_command(const PartitionOptions& options);

/// Runs tortured worlds; a line for each that failed, counters, and "N passed, M failed".
/// @errors internal: M > 0.
Status faults_command(const FaultsOptions& options);

}  // namespace covey::simulations

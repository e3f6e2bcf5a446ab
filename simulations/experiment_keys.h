/// The keys of an experiment with their meanings: `covey-sim keys` prints them, README.md holds what it prints, and a
/// test compares both with what load_experiment() reads.
#pragma once

#include <string>
#include <vector>

namespace covey::simulations {

struct ExperimentKey {
  std::string name;      ///< dotted; durations without their unit (key_ms, key_s, key_min or key_h in the file)
  std::string meaning;   ///< Markdown
  std::string fallback;  ///< default; "required"
  std::string range;     ///< empty: see meaning
};

/// In the order of the file's sections. A new key needs its line here.
const std::vector<ExperimentKey>& experiment_keys();

/// As a Markdown table, a line for each key.
std::string experiment_keys_table();

}  // namespace covey::simulations

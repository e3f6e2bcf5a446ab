/// Runs side by side. Runs of the same settings that differ in their seed alone are one group, told as a mean with the
/// 95% confidence interval of that mean (Student's t over the seeds).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/formats/json.h"

namespace covey::simulations {

struct ComparedRun {
  std::string source;  ///< folder, or file and row
  std::uint64_t seed = 0;
  formats::Json summary;
  std::vector<formats::Json> rounds;
};

struct ComparedGroup {
  std::string label;
  std::vector<ComparedRun> runs;  ///< in the order of their seeds, each seed once
};

struct ComparedRuns {
  std::vector<ComparedGroup> groups;  ///< in the order in which they came
  std::vector<std::string> skipped;   ///< folders of a sweep whose run has not come to its end
};

inline constexpr std::size_t kComparedRunsMax = 10'000;
inline constexpr std::size_t kComparedGroupsMax = 200;

/// @param sources  a folder of `covey-sim run`; of `covey-sim sweep` (every complete run in it); or a sweep's
/// results.sqlite. "LABEL=PATH" names what comes from it.
/// @errors not_found: no complete run there; corrupt_data: files that no run writes; invalid_argument: one setting and
/// seed twice, or more than the bounds above. One line, naming the file.
Result<ComparedRuns> read_compared_runs(const std::vector<std::string>& sources);

/// Half of the interval of the mean is no figure for fewer than two values.
struct Interval {
  double mean = 0;
  double half = 0;
  std::size_t n = 0;
};
/// Values that are no figures are left out.
Interval confidence(const std::vector<double>& values);
/// The quantile 0.975 of Student's t. @param freedom  1 or more.
double student_t(std::size_t freedom);

/// What "time to target" waits for.
struct ComparedTarget {
  bool accuracy = false;  ///< at or above; otherwise of the loss, at or below
  double value = 0;
  std::string words;
};
/// 90% of the first group's way from its first to its last loss. Nothing where no loss fell.
std::optional<ComparedTarget> default_target(const ComparedRuns& runs);

/// One version, over the seeds that all have it.
struct CurvePoint {
  std::uint64_t version = 0;
  double round = 0;  ///< these are means
  double virtual_s = 0;
  double bytes_total = 0;
  double joules_total = 0;
  double epsilon = 0;
  Interval loss;
  Interval perplexity;
  Interval accuracy;
};
/// As far as the shortest of the group's runs goes.
std::vector<CurvePoint> curve_of(const ComparedGroup& group);

/// {"confidence", "target", "skipped", "settings": [{"label", "seeds", "runs", "figures": {name: {mean, half, n}},
/// "against_first": {...}, "target": {...}, "curve": [...]}]}.
formats::Json comparison_json(const ComparedRuns& runs, const std::optional<ComparedTarget>& target);
/// A line a setting: every figure with its half interval.
std::string comparison_csv(const formats::Json& comparison);
/// A line a setting and version.
std::string curves_csv(const formats::Json& comparison);
/// @param command  that repeats it.
std::string comparison_html(const ComparedRuns& runs, const formats::Json& comparison, const std::string& command);

}  // namespace covey::simulations

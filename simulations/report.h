/// report.html: one self-contained page of a run. Curves, time to target, who took part and who did not, fairness per
/// class, memory, energy, and the command that repeats it.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/formats/json.h"

namespace covey::simulations {

/// @param summary  what summary.json holds; `rounds`: the lines of metrics.jsonl. Both may lack members and hold
/// anything: what is missing is said, what is text is escaped.
/// @return the page; it loads nothing from elsewhere and runs no script.
std::string render_report(const formats::Json& summary, std::span<const formats::Json> rounds);

/// The rounds as a table with a header line; keys of the first round give the columns, a missing value is empty.
/// Objects and lists stand as JSON in quotes.
std::string metrics_csv(std::span<const formats::Json> rounds);

/// The rounds in which a version was evaluated, and before them what there was at the start: round 0, nothing spent.
std::vector<formats::Json> measured_rounds(const formats::Json& summary, std::span<const formats::Json> rounds);

}  // namespace covey::simulations

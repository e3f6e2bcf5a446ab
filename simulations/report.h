/// report.html: one self-contained page with the curves, the rounds and the command that repeats the run.
#pragma once

#include <span>
#include <string>

#include "core/base/result.h"
#include "core/formats/json.h"

namespace covey::simulations {

/// @param summary  what summary.json holds; `rounds`: the lines of metrics.jsonl.
/// @return the page; it loads nothing from elsewhere.
std::string render_report(const formats::Json& summary, std::span<const formats::Json> rounds);

/// The rounds as a table with a header line; keys of the first round give the columns, a missing value is empty.
std::string metrics_csv(std::span<const formats::Json> rounds);

}  // namespace covey::simulations

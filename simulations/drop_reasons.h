/// Why devices that a round invited are not in its sum, as the coordinator's own rows say it.
#pragma once

#include <cstdint>

#include "core/base/ids.h"
#include "core/base/result.h"
#include "core/formats/json.h"
#include "core/store/store.h"

namespace covey::simulations {

/// Adds to a line of metrics.jsonl: `rejected` (updates that broke the plan), `silent` (nothing usable by the
/// deadline), `unneeded` (still at work when the goal was reached), and `refused_for`, an object of refusals by reason.
/// @errors corrupt_data, and what the store reports.
Status add_drop_reasons(formats::Json& line, RoundId round, store::Store& store);

}  // namespace covey::simulations

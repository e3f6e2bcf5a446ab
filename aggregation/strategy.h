/// Which rule turns a round's updates into one. A registry of one today: `mean`. This is where robust rules (median,
/// trimmed mean, Krum, ...) and secure aggregation enter; the round machine asks the traits, never the name.
/// Source: design.md sections 2 and 4.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aggregation/running_sum.h"
#include "core/base/result.h"
#include "core/wire/messages.h"

namespace covey::aggregation {

enum class Strategy : std::uint8_t {
  mean = 0,  ///< sum of w x / sum of w (FedAvg, McMahan et al. 2017)
};

struct StrategyTraits {
  const char* name;
  bool needs_only_sums;  ///< a RunningSum is enough; rules that look at single updates will have to keep them
};

[[nodiscard]] const StrategyTraits& traits(Strategy strategy);
/// The names, for Section::choice().
const std::vector<std::string>& strategy_names();
/// @errors invalid_argument: names the known ones.
Result<Strategy> strategy_of(std::string_view name);

/// Whether this version can aggregate so. @errors unsupported: `secure` and `grouped`, which are not built yet.
Status check_supported(Strategy strategy, wire::PrivacyMode mode);

/// The aggregate of a closed round, shape (P). @errors those of RunningSum::mean().
Result<std::vector<float>> aggregate(Strategy strategy, const RunningSum& sum);

}  // namespace covey::aggregation

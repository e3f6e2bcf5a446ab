#include "aggregation/strategy.h"

#include <array>

namespace covey::aggregation {
namespace {

constexpr std::array<StrategyTraits, 1> kTraits = {{{"mean", true}}};

}  // namespace

const StrategyTraits& traits(Strategy strategy) {
  return kTraits[static_cast<std::size_t>(strategy)];
}

const std::vector<std::string>& strategy_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const StrategyTraits& entry : kTraits) out.emplace_back(entry.name);
    return out;
  }();
  return names;
}

Result<Strategy> strategy_of(std::string_view name) {
  for (std::size_t i = 0; i < kTraits.size(); ++i) {
    if (name == kTraits[i].name) return static_cast<Strategy>(i);
  }
  return Error{ErrorCode::invalid_argument,
               "strategy: `" + std::string(name.substr(0, 32)) + "` is not known; this version has `mean`"};
}

Status check_supported(Strategy, wire::PrivacyMode mode) {
  if (mode == wire::PrivacyMode::robust) return {};
  return Error{ErrorCode::unsupported,
               "privacy mode: only `robust` is built in this version (the coordinator is trusted and sees updates)"};
}

Result<std::vector<float>> aggregate(Strategy strategy, const RunningSum& sum) {
  switch (strategy) {
    case Strategy::mean:
      return sum.mean();
  }
  return Error{ErrorCode::internal, "strategy: no such rule"};
}

}  // namespace covey::aggregation

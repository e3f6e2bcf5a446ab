#include "aggregation/strategy.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace covey::aggregation {
namespace {

constexpr std::array<StrategyTraits, 8> kTraits = {{{"mean", true},
                                                    {"median", false},
                                                    {"trimmed_mean", false},
                                                    {"krum", false},
                                                    {"multi_krum", false},
                                                    {"geometric_median", false},
                                                    {"norm_bound", false},
                                                    {"centred_clipping", false}}};

Error bad(const std::string& what) {
  return {ErrorCode::invalid_argument, "aggregation." + what};
}

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
  std::string known;
  for (const StrategyTraits& entry : kTraits) known += (known.empty() ? "" : ", ") + std::string(entry.name);
  return Error{ErrorCode::invalid_argument,
               "strategy: `" + std::string(name.substr(0, 32)) + "` is not known; write one of " + known};
}

std::size_t RuleConfig::bad_among(std::size_t n) const {
  return static_cast<std::size_t>(std::floor(byzantine * static_cast<double>(n) + 1e-9));
}

Status RuleConfig::check(std::size_t min_count, std::size_t max_count) const {
  if (!(byzantine >= 0 && byzantine < 0.5)) return bad("byzantine: write a share from 0 to below 0.5");
  if (!(bound >= 0) || !std::isfinite(bound)) return bad("bound: write a norm above 0, or 0 for the round's median");
  if (iterations < 1 || iterations > 100) return bad("iterations: write 1 to 100");
  if (rule != Strategy::krum && rule != Strategy::multi_krum) return {};
  for (std::size_t n = min_count; n <= max_count; ++n) {  // f grows in steps, so a larger n may be the one too small
    const std::size_t f = bad_among(n);
    if (n < 2 * f + 3) {
      return bad("rule: " + std::string(traits(rule).name) + " against " + std::to_string(f) + " bad among " +
                 std::to_string(n) + " updates needs at least " + std::to_string(2 * f + 3) +
                 "; raise `min` or lower `byzantine`");
    }
    if (rule == Strategy::multi_krum && select > n - f) {
      return bad("select: at most " + std::to_string(n - f) + " of " + std::to_string(n) + " updates can be kept");
    }
  }
  return {};
}

Status check_supported(Strategy strategy, wire::PrivacyMode mode) {
  // Single updates are seen, or the means of groups: every rule can work.
  if (mode != wire::PrivacyMode::secure) return {};
  if (traits(strategy).needs_only_sums) return {};
  return Error{ErrorCode::invalid_argument, std::string("aggregation.rule: `") + traits(strategy).name +
                                                "` looks at single updates, which mode secure never shows; write mean, "
                                                "or privacy.mode grouped or robust"};
}

std::string threat_model(wire::PrivacyMode mode, bool roster_key_apart, bool sortition) {
  const std::string cohort = sortition ? "; its devices are drawn by sortition, which each of them checks"
                                       : "; a stuffed cohort is not covered";
  switch (mode) {
    case wire::PrivacyMode::robust:
      return "robust: the coordinator is trusted and sees each update";
    case wire::PrivacyMode::grouped:
      return std::string("grouped (") + (roster_key_apart ? "malicious" : "curious") +
             " coordinator): the coordinator sees sums over the devices of each random group only, and a robust rule "
             "over the groups' means bears fewer bad groups than its share; one bad device makes a group bad" +
             (roster_key_apart ? cohort
                               : "; the coordinator holds the roster key, so invented devices are not covered");
    case wire::PrivacyMode::secure:
      if (roster_key_apart) {
        return "secure (malicious coordinator): the coordinator sees sums over a round's devices only, also if it lies "
               "once their list is closed" +
               cohort;
      }
      return "secure (curious coordinator): the coordinator sees sums over a round's devices only, as long as it "
             "follows "
             "the protocol; it holds the roster key, so invented devices are not covered";
  }
  return "unknown";
}

Result<std::vector<float>> aggregate(Strategy strategy, const RunningSum& sum) {
  if (traits(strategy).needs_only_sums) return sum.mean();
  return Error{ErrorCode::internal, std::string("strategy: ") + traits(strategy).name + " needs single updates"};
}

Result<std::vector<float>> aggregate(const RuleConfig& config, Rows rows) {
  const std::size_t n = rows.size();
  const std::size_t f = config.bad_among(n);
  switch (config.rule) {
    case Strategy::mean:
      break;
    case Strategy::median:
      return coordinate_median(rows);
    case Strategy::trimmed_mean:
      return trimmed_mean(rows,
                          std::min(static_cast<double>(f) / static_cast<double>(std::max<std::size_t>(n, 1)), 0.4999));
    case Strategy::krum:
      return multi_krum(rows, f, 1);
    case Strategy::multi_krum:
      return multi_krum(rows, f, config.select > 0 ? config.select : n - std::min(f, n));
    case Strategy::geometric_median:
      return geometric_median(rows);
    case Strategy::norm_bound:
      return norm_bounded_mean(rows, config.bound);
    case Strategy::centred_clipping:
      return centred_clipping(rows, config.bound, config.iterations);
  }
  return Error{ErrorCode::internal, "strategy: the mean needs sums, not single updates"};
}

}  // namespace covey::aggregation

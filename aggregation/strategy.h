/// Which rule turns a round's updates into one, and what each rule needs. The round machine asks the traits, never the
/// name. Source: design.md sections 2 and 4, security.md section 6.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "aggregation/robust_rules.h"
#include "aggregation/running_sum.h"
#include "core/base/result.h"
#include "core/wire/messages.h"

namespace covey::aggregation {

enum class Strategy : std::uint8_t {
  mean = 0,    ///< sum of w x / sum of w (FedAvg, McMahan et al. 2017)
  median = 1,  ///< the rules below: robust_rules.h
  trimmed_mean = 2,
  krum = 3,
  multi_krum = 4,
  geometric_median = 5,
  norm_bound = 6,
  centred_clipping = 7,
};

struct StrategyTraits {
  const char* name;
  bool needs_only_sums;  ///< a RunningSum is enough; the others look at single updates, which have to be kept
};

[[nodiscard]] const StrategyTraits& traits(Strategy strategy);
/// The names, for Section::choice().
const std::vector<std::string>& strategy_names();
/// @errors invalid_argument: names the known ones.
Result<Strategy> strategy_of(std::string_view name);

/// A rule with its settings. Which ones a rule reads is said beside them.
struct RuleConfig {
  Strategy rule = Strategy::mean;
  double byzantine = 0.2;    ///< share of bad devices: trimmed_mean cuts it at both ends, Krum's f = floor(share n)
  std::uint32_t select = 0;  ///< multi_krum: updates kept; 0 = n - f
  double bound = 0;          ///< norm_bound, centred_clipping: norm or radius; 0 = the round's median
  int iterations = 3;        ///< centred_clipping

  /// Krum's f for n updates.
  [[nodiscard]] std::size_t bad_among(std::size_t n) const;
  /// @param min_count, max_count  the fewest and the most updates a round may close with.
  /// @errors invalid_argument: names the key, what it is and what it may be.
  [[nodiscard]] Status check(std::size_t min_count, std::size_t max_count) const;
};

/// Whether this version can aggregate so. @errors unsupported: a mode that is not built, or a rule that needs single
/// updates in a mode that shows none.
Status check_supported(Strategy strategy, wire::PrivacyMode mode);

/// What a mode claims, in words, for status pages and reports; no document claims more.
/// @param roster_key_apart  secure, grouped: the coordinator's process does not hold the key that signs the roster.
/// @param sortition  likewise: devices are drawn by a lot that each checks.
[[nodiscard]] std::string threat_model(wire::PrivacyMode mode, bool roster_key_apart, bool sortition = false);

/// The aggregate of a closed round of the rule `mean`, shape (P). @errors those of RunningSum::mean().
Result<std::vector<float>> aggregate(Strategy strategy, const RunningSum& sum);
/// Of any other rule, from single updates. @errors invalid_argument: too few updates for the rule.
Result<std::vector<float>> aggregate(const RuleConfig& config, Rows rows);

}  // namespace covey::aggregation

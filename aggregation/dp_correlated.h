/// A task under DP-FTRL, as its plans state it: what it costs, and the noise between two rounds. The mechanisms are
/// dp_ftrl.h's; this is what coordinator and device do with them. Rounds are numbered from 1 and all count, aborted
/// ones too (they add nothing to the sum), so that a separation of round numbers is one of the mechanism's steps.
/// Protects from everyone but the coordinator. Unit: all updates of one device, set to zero.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "aggregation/dp_ftrl.h"
#include "aggregation/running_sum.h"
#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret.h"
#include "core/wire/messages.h"

namespace covey::aggregation::dp {

/// Rounds, aborted ones counted, that a task may try.
inline constexpr std::uint64_t kCorrelatedRoundsMax = 1'000'000;

/// @errors invalid_argument: names the key; a field that cannot be. For plans of strangers, too: bounds the cost of the
/// functions below.
Status check_correlated(const wire::CorrelatedPlan& plan);
/// The same, and noise whose deviation for this update is outside of 1 to 2^24 quantized units, or unequal weights.
Status check_correlated(const wire::CorrelatedPlan& plan, const UpdateSpec& spec);

/// Concentrated privacy of the first `rounds` rounds together, <= kCorrelatedRoundsMax. @cost O(rounds) for a BLT.
double correlated_rho(const wire::CorrelatedPlan& plan, std::uint64_t rounds);
/// What the rounds after `from` up to `to` add to it: divergences on the ledger's orders.
std::vector<double> correlated_charge(const wire::CorrelatedPlan& plan, std::uint64_t from, std::uint64_t to);

/// Noise of a whole task, out of one secret: the same after a restart. Not thread-safe; no two threads at once.
class CorrelatedNoise {
 public:
  /// @param plan  checked. @param seed  32 secret bytes for the whole task; whoever has them can take the noise off.
  CorrelatedNoise(const wire::CorrelatedPlan& plan, ByteSpan seed, const UpdateSpec& spec);

  /// shape (P), whole numbers: the noise of the sum over rounds 1 to `to`, minus that over rounds 1 to `from`.
  /// @cost tree: O(P log to) draws. BLT: O(P d) for each round after the newest one asked for, and for all from the
  /// first after a restart or where an earlier one is asked for.
  std::vector<std::int64_t> between(std::uint64_t from, std::uint64_t to);

 private:
  /// Adds this round's noise to out, and moves the buffers on.
  void advance(std::vector<double>& out, bool counts);

  wire::CorrelatedPlan plan_;
  SecretBytes seed_;
  double sigma_;
  std::size_t values_;
  std::optional<BltNoise> blt_;
  std::uint64_t at_ = 0;  ///< rounds that blt_ has seen
};

/// (sum + noise between the rounds) / (expected x S), shape (P): the mean delta of round `to`, where `from` was the
/// last one released. @errors invalid_argument: weights other than 1.
Result<std::vector<float>> correlated_release(CorrelatedNoise& noise, const RunningSum& sum, std::uint32_t expected,
                                              std::uint64_t from, std::uint64_t to);

}  // namespace covey::aggregation::dp

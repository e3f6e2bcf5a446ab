/// Correlated noise over rounds (DP-FTRL): the noise of prefix sums grows slowly, without any assumption on who takes
/// part when, as long as devices keep a minimum separation. Sources: Kairouz et al. 2021, "Practical and private (deep)
/// learning without sampling" (tree); McMahan, Xu, Zhang 2024, "A hassle-free algorithm for private learning in
/// practice: don't use tree aggregation, use BLTs"; Kalinin, Lampert 2024 (sensitivity of Toeplitz matrices). Protects
/// from everyone but the coordinator, which adds the noise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret.h"

namespace covey::aggregation::dp {

/// Who may take part how often: enforced by the devices.
struct Participation {
  std::size_t rounds = 1;      ///< n, of the whole run
  std::size_t separation = 1;  ///< b: a device's participations lie at least b rounds apart
  std::size_t times_max = 1;   ///< k
  /// What of k fits into n with separation b.
  [[nodiscard]] std::size_t times() const;
};

// ---- tree
// ------------------------------------------------------------------------------------------------------------

/// At most: root of the sum over levels of k x the participations one node can see.
double tree_sensitivity(const Participation& participation);

/// Integer noise of round t (0, 1, ...): the tree's noise of the prefix sum t minus that of t - 1. No state but the
/// secret: a node's noise is drawn anew from the secret and the node's place. Not thread-safe.
class TreeNoise {
 public:
  /// @param seed  32 secret bytes for the whole run. @param sigma  of one node, [2^-5, 2^24].
  TreeNoise(ByteSpan seed, double sigma, std::size_t values);
  /// shape (P). @cost O(P log t) draws.
  [[nodiscard]] std::vector<std::int64_t> of_round(std::uint64_t t) const { return between(t, t + 1); }
  /// shape (P): the noise of the first `to` rounds' sum minus that of the first `from` rounds', from <= to.
  [[nodiscard]] std::vector<std::int64_t> between(std::uint64_t from, std::uint64_t to) const;

 private:
  void add_node(std::vector<std::int64_t>& out, unsigned level, std::uint64_t index, std::int64_t sign) const;
  SecretBytes seed_;
  double sigma_;
  std::size_t values_;
};

// ---- BLT
// -------------------------------------------------------------------------------------------------------------

/// A buffered linear Toeplitz matrix C: 1 on the diagonal, sum_j omega_j theta_j^(i-1) on the i-th below it.
struct Blt {
  std::vector<double> theta;  ///< (d), in [0, 1)
  std::vector<double> omega;  ///< (d), >= 0

  /// d buffers fitted to the coefficients of 1 / sqrt(1 - x), which are optimal for prefix sums, over `rounds` rounds.
  static Blt fitted(std::size_t buffers, std::size_t rounds);
  /// @errors invalid_argument: theta, omega out of range, or coefficients that grow (the sensitivity below needs them
  /// to fall).
  [[nodiscard]] Status check() const;
  /// c_0 ... c_(n-1).
  [[nodiscard]] std::vector<double> coefficients(std::size_t rounds) const;
  /// || sum of the columns 0, b, 2 b, ..., (k-1) b ||: exact where the coefficients are >= 0 and fall.
  [[nodiscard]] double sensitivity(const Participation& participation) const;
  /// Root of the largest noise variance of a prefix sum, per unit of sigma: what independent noise has as sqrt(n).
  [[nodiscard]] double worst_prefix_deviation(std::size_t rounds) const;
};

/// z -> C^-1 z, one round after the other, with d buffers of P values. Not thread-safe; its state is durable state.
class BltNoise {
 public:
  BltNoise(Blt blt, std::size_t values);
  /// @param z  shape (P), independent normal noise of this round; becomes what is added to this round's sum.
  void correlate(std::span<double> z);
  [[nodiscard]] Bytes serialize() const;
  /// @errors corrupt_data: another length, or values that are not finite.
  Status restore(ByteSpan bytes);

 private:
  Blt blt_;
  std::vector<std::vector<double>> buffers_;  ///< (d, P)
};

}  // namespace covey::aggregation::dp

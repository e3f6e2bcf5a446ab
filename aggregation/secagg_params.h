/// How many neighbours k each device shares its secrets with, and how many shares t rebuild one.
/// Source: Bell et al., CCS 2020, section 3 and appendix; the failure bounds and rounding of federated-compute's Harary
/// parameter search, as security.md section 4 states them:
///   the smallest even k for which
///     P[the graph of honest survivors falls apart]     <  2^-41
///     P[more than t1 of k neighbours are corrupt]      <= 2^-41 / n
///     P[fewer than t of k neighbours survive]          <  2^-20 / n,   t = t1 + 1
///   semi-malicious: t1 <- ceil((t1 + k - 1.25) / 2), so that no two disjoint sets of honest neighbours both reach t.
/// Pure functions of their input, equal on device and coordinator. Thread-safe.
#pragma once

#include <cstdint>

#include "core/base/result.h"

namespace covey::aggregation {

/// Who is assumed to do what; part of the signed plan.
struct SecAggAssumptions {
  double corrupt_fraction = 0.1;  ///< gamma: devices of the cohort that work with the coordinator
  double dropout_fraction = 0.2;  ///< delta: devices of the cohort that may vanish
  bool operator==(const SecAggAssumptions&) const = default;
};

enum class SecAggRule : std::uint8_t {
  curious,         ///< the coordinator follows the protocol; for comparison with published rows only
  semi_malicious,  ///< it may send what it likes after the advertise phase; what `secure` uses
};

struct SecAggParams {
  std::uint32_t devices = 0;    ///< n
  bool complete = false;        ///< every device holds a share of every one, of itself too: k = n - 1 neighbours
  std::uint32_t degree = 0;     ///< k: neighbours of each device
  std::uint32_t threshold = 0;  ///< t: shares that rebuild a secret; signatures that a device asks for
  /// Shares made of each secret: k, and one more for the device itself in the complete graph.
  [[nodiscard]] std::uint32_t holders() const { return complete ? devices : degree; }
  bool operator==(const SecAggParams&) const = default;
};

inline constexpr std::uint32_t kCompleteDevicesMax = 64;
/// Bounded by the list of one frame (core/wire/limits.h).
inline constexpr std::uint32_t kSecAggDevicesMax = 1280;

/// The sparse search alone, for any n from 3.
/// @errors invalid_argument: fractions outside [0, 1), or n out of range. not_found: no k below n - 1 is enough.
/// @cost O(k^2) for the k it finds.
Result<SecAggParams> solve_sparse(std::uint32_t devices, const SecAggAssumptions& assumptions, SecAggRule rule);

/// What `secure` takes: the complete graph with t = floor((n + gamma n) / 2) + 1 for n <= 64 and where no sparse graph
/// is enough; above, the semi-malicious sparse one.
/// @errors invalid_argument: fractions outside [0, 1), n outside 2 ... kSecAggDevicesMax, or gamma so large that no
/// threshold within n is safe.
Result<SecAggParams> secagg_params(std::uint32_t devices, const SecAggAssumptions& assumptions);

}  // namespace covey::aggregation

/// From a device's delta to what leaves the device, and the check of what arrives. Source: design.md section 2 (step
/// "protect"), security.md section 4 (quantization). protect() is the only producer of what leaves a device.
///
///   delta (P floats) -> (rotate) -> clip to L2 norm C -> x S -> stochastic rounding -> P integers of m bits -> packed
///   with S = (2^(m-1) - 1) / C, the same for all devices of a round, so that the coordinator may add integers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/base/result.h"
#include "core/wire/messages.h"

namespace covey::aggregation {

/// What device and coordinator must agree on to add updates: taken from the round's plan.
struct UpdateSpec {
  std::size_t values = 0;              ///< P
  double clip_norm = 0;                ///< C, L2
  std::uint32_t value_bits = 0;        ///< m, sign included
  std::uint32_t weight_max = 1;        ///< w_max
  std::uint32_t contributors_max = 0;  ///< n of one sum: the cohort, in `grouped` mode its largest group
  double noise_room = 0;               ///< quantized units: how far devices' noise may bring a sum beyond its largest
  std::size_t kept = 0;                ///< k of a sparse update (compress_topk.h); 0: all values are sent

  /// @param values  P: update_values().
  static UpdateSpec of(const wire::RoundPlan& plan, std::size_t values);
  /// @errors invalid_argument: a field is out of range (the plan's noise, too), or the largest sum n w_max (2^(m-1) -
  /// 1) passes 62 bits.
  [[nodiscard]] Status check() const;
  /// The largest quantized magnitude: 2^(m-1) - 1.
  [[nodiscard]] std::int32_t magnitude_max() const;
  /// S: quantized units per unit of delta.
  [[nodiscard]] double scale() const;
  /// Bytes of one packed update.
  [[nodiscard]] std::size_t packed_bytes() const;
  bool operator==(const UpdateSpec&) const = default;
};

/// How many values a version has under this plan: K of a seeded task, else the adapter's P.
std::size_t version_values(const wire::RoundPlan& plan, std::size_t adapter_values);
/// How many an update has: as many, or where the plan rotates the next power of two.
std::size_t update_values(const wire::RoundPlan& plan, std::size_t adapter_values);
/// What of a delta is clipped and rounded, shape update_values(): itself, or rotated.
std::vector<float> update_of_delta(const wire::RoundPlan& plan, std::span<const float> delta);
/// The mean delta of a mean update, shape (version_values). @errors invalid_argument: another shape.
Result<std::vector<float>> delta_of_update(const wire::RoundPlan& plan, std::vector<float> mean,
                                           std::size_t version_values);

inline constexpr std::size_t kValuesMax = std::size_t{1} << 28;
inline constexpr std::uint32_t kValueBitsMin = 2;
inline constexpr std::uint32_t kValueBitsMax = 24;

/// Fills the span with uniform 32-bit words: what stochastic rounding draws from.
using RandomBits = std::function<void(std::span<std::uint32_t>)>;
/// The words of one seed, the same on every machine. The device's driver takes the seed from the system's entropy, the
/// simulator from its own. Philox is no cipher: these words round, they hide nothing.
RandomBits seeded_bits(const std::array<std::uint8_t, 32>& seed);

/// @param delta   shape (P), trained minus received.
/// @param weight  examples behind the delta; counts as min(weight, w_max), at least 1.
/// @errors invalid_argument: the plan is impossible (see UpdateSpec::check) or the delta is not finite. unsupported:
/// a mode other than `robust`, which must not send a ClearUpdate. Nothing leaves the device then.
/// @cost O(P) time; 5 bytes x P memory.
Result<wire::ClearUpdate> protect(const wire::RoundPlan& plan, const wire::Hash& plan_hash,
                                  std::span<const float> delta, std::uint64_t weight, const RandomBits& random);
/// The same where the plan keeps k values (plan.kept > 0): `residual`, shape (P) or empty for zero, is added to the
/// delta first and becomes what the update leaves out. @errors as protect(); the residual stays as it was then.
Result<wire::ClearUpdate> protect_sparse(const wire::RoundPlan& plan, const wire::Hash& plan_hash,
                                         std::span<const float> delta, std::uint64_t weight, const RandomBits& random,
                                         std::vector<float>& residual);

/// The largest L2 norm of a quantized update that open_update() lets pass: C S + sqrt(P), since rounding moves each
/// value of an honest vector by less than 1.
double update_norm_max(const UpdateSpec& spec);

/// Checks an update that came from a peer and unpacks it. @return shape (P), |q| <= magnitude_max().
/// @errors invalid_argument: not what the spec says: count, bits, weight, length, a word out of range, or an L2 norm
/// above C beyond what rounding may add.
Result<std::vector<std::int32_t>> open_update(const UpdateSpec& spec, const wire::ClearUpdate& update);

}  // namespace covey::aggregation

/// Who shares with whom. Complete, or a Harary graph: devices stand on a ring in an order that nobody chose, and each
/// is the neighbour of the k / 2 on either side. Source: Bell et al., CCS 2020 (random Harary graph). Pure, equal on
/// every device and the coordinator. Thread-safe once made.
#pragma once

#include <cstdint>
#include <vector>

#include "aggregation/secagg_params.h"
#include "core/crypto/types.h"

namespace covey::aggregation {

class SecAggGraph {
 public:
  /// @param order_seed  hash of the sorted advertise list: a coordinator that wants another order must change the list,
  ///                    which it can (grind), hence the claim "semi-malicious".
  SecAggGraph(const SecAggParams& params, const crypto::Hash256& order_seed);

  /// Indices into the list that hold a share of `device`, ascending. Neighbours, and in the complete graph itself too.
  /// Place x = 1, 2, ... of a secret's shares is the order of this list. Symmetric: i holds j's iff j holds i's.
  [[nodiscard]] std::vector<std::uint32_t> holders(std::uint32_t device) const;
  /// holders() without the device itself.
  [[nodiscard]] std::vector<std::uint32_t> neighbours(std::uint32_t device) const;
  [[nodiscard]] bool adjacent(std::uint32_t a, std::uint32_t b) const;
  [[nodiscard]] const SecAggParams& params() const { return params_; }

 private:
  SecAggParams params_;
  std::vector<std::uint32_t> ring_;   ///< place -> device
  std::vector<std::uint32_t> place_;  ///< device -> place
};

}  // namespace covey::aggregation

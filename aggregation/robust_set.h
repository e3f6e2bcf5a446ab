/// The single updates of a round, for rules that look at each. Source: security.md sections 6 and 7.
#pragma once

#include <cstdint>
#include <vector>

#include "aggregation/update.h"
#include "core/base/result.h"
#include "core/wire/messages.h"

namespace covey::aggregation {

/// A value: copyable, not thread-safe. Keeps the packed words: n x packed_bytes(). What the store keeps is each
/// update's encoded message; a set is rebuilt by adding them again, in any order.
class RobustSet {
 public:
  /// @errors those of UpdateSpec::check().
  static Result<RobustSet> create(const UpdateSpec& spec);

  /// @errors those of open_update(); resource_exhausted: n contributors are in already. Nothing changes then.
  Status add(const wire::ClearUpdate& update);
  /// n rows of P in units of the delta: q / S. 4 n P bytes, which with the set itself is memory_bytes().
  [[nodiscard]] std::vector<std::vector<float>> rows() const;

  /// Peak bytes of a full set while a rule works on it: n (packed + 4 P + 8 n).
  static std::uint64_t memory_bytes(const UpdateSpec& spec);

  [[nodiscard]] const UpdateSpec& spec() const { return spec_; }
  [[nodiscard]] std::uint32_t contributors() const { return static_cast<std::uint32_t>(words_.size()); }
  /// As claimed; no robust rule uses it.
  [[nodiscard]] std::uint64_t weight() const { return weight_; }

 private:
  explicit RobustSet(const UpdateSpec& spec) : spec_(spec) {}
  UpdateSpec spec_;
  std::vector<Bytes> words_;  ///< packed
  std::uint64_t weight_ = 0;
};

}  // namespace covey::aggregation

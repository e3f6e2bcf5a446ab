/// The merging step of byte-pair encoding. Source: Sennrich, Haddow, Birch, ACL 2016.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace covey::text {

/// Pairs of neighbouring ids that become one id. Immutable once filled; thread-safe.
class MergeTable {
 public:
  struct Merge {
    double priority;  ///< smaller goes first
    std::int32_t result;
  };
  void reserve(std::size_t n) { table_.reserve(n); }
  /// Keeps the better one where the pair is there already.
  void add(std::int32_t left, std::int32_t right, Merge merge);
  [[nodiscard]] const Merge* find(std::int32_t left, std::int32_t right) const;

  /// Applies the best merge, the leftmost of equals, until none applies. Negative ids never merge.
  /// @cost O(n log n), O(n) memory.
  void apply(std::vector<std::int32_t>& ids) const;

 private:
  std::unordered_map<std::uint64_t, Merge> table_;
};

}  // namespace covey::text

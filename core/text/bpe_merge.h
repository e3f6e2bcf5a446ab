/// The merging step of byte-pair encoding. Source: Sennrich, Haddow, Birch, ACL 2016.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace covey::text {

/// Pairs of neighbouring ids that become one id. Immutable once filled; thread-safe.
class MergeTable {
 public:
  struct Merge {
    double priority;  ///< smaller goes first
    std::int32_t result;
  };
  void reserve(std::size_t merges);
  /// Keeps the better one where the pair is there already. Ids are not negative.
  void add(std::int32_t left, std::int32_t right, Merge merge);
  /// SentencePiece's, llama2.c's and tiktoken's rule: two neighbours merge where both together are a token, the token
  /// of the highest score first. So every way to cut a token in two is a merge.
  /// @param hidden tokens that nothing merges into; may be shorter than `vocab`.
  /// @param id_of  id of a token or of a single character, -1: none.
  void add_scored(const std::vector<std::string>& vocab, const std::vector<double>& scores,
                  const std::vector<bool>& hidden, const std::function<std::int32_t(std::string_view)>& id_of);

  /// nullptr: no merge.
  [[nodiscard]] const Merge* find(std::int32_t left, std::int32_t right) const;

  /// Applies the best merge, the leftmost of equals, to the ids from `begin` on until none applies. Negative ids never
  /// merge. @cost O(n log n), O(n) memory.
  void apply(std::vector<std::int32_t>& ids, std::size_t begin = 0) const;

 private:
  struct Slot {
    std::uint64_t key;
    Merge merge;
  };
  void apply_short(std::vector<std::int32_t>& ids, std::size_t begin) const;
  void apply_long(std::vector<std::int32_t>& ids, std::size_t begin) const;
  [[nodiscard]] std::size_t slot_of(std::uint64_t key) const;

  std::vector<Slot> slots_;  // open addressing, a power of two of them, at most half in use
  std::size_t used_ = 0;
};

}  // namespace covey::text

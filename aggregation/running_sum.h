/// The sum of a round as it comes in: {sum of w q, sum of w, contributors}. Source: design.md section 2, security.md
/// sections 4 and 7 (group commits of {running sum, contributors}). All of it is integers, so the result is the same
/// bits in whatever order updates came, however they were grouped into commits, and with a restart in between.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "aggregation/update.h"
#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/wire/messages.h"

namespace covey::aggregation {

/// A value: copyable, not thread-safe. Memory 8 bytes x P. A word cannot overflow: UpdateSpec::check() bounds n w_max q
/// to 62 bits, and add() takes no more than n contributors.
class RunningSum {
 public:
  /// @errors those of UpdateSpec::check().
  static Result<RunningSum> create(const UpdateSpec& spec);

  /// Adds an update from a peer, wholly or not at all. Who sent it, and whether it came before, is the caller's part.
  /// @errors those of open_update(); resource_exhausted: n contributors are in already.
  Status add(const wire::ClearUpdate& update);
  /// Adds another sum of the same spec. @errors invalid_argument: another spec; resource_exhausted: over n together.
  Status merge(const RunningSum& other);

  /// shape (P): sum of w x / sum of w, in units of the delta. @errors invalid_argument: nobody contributed.
  [[nodiscard]] Result<std::vector<float>> mean() const;
  /// The same with a divisor > 0 that does not depend on who came: what differential privacy asks for.
  [[nodiscard]] Result<std::vector<float>> over(double count) const;

  /// For the store: 36 + 8 x P bytes.
  [[nodiscard]] Bytes serialize() const;
  /// @errors corrupt_data: not a sum of this spec, or one that no set of updates can give.
  static Result<RunningSum> restore(const UpdateSpec& spec, ByteSpan bytes);
  /// The sum whose words (P), weight and count are known already: what secure aggregation unmasks.
  /// @errors corrupt_data: one that no set of updates can give.
  static Result<RunningSum> from_parts(const UpdateSpec& spec, std::vector<std::int64_t> words, std::uint64_t weight,
                                       std::uint32_t contributors);

  [[nodiscard]] const UpdateSpec& spec() const { return spec_; }
  [[nodiscard]] std::uint32_t contributors() const { return contributors_; }
  [[nodiscard]] std::uint64_t weight() const { return weight_; }
  /// Contributors whose update is shorter than 0.999 C: those that clipping left alone, as far as norms tell. 0 where
  /// single updates were never seen (from_parts).
  [[nodiscard]] std::uint32_t unclipped() const { return unclipped_; }
  [[nodiscard]] std::span<const std::int64_t> words() const { return words_; }
  bool operator==(const RunningSum&) const = default;

 private:
  explicit RunningSum(const UpdateSpec& spec) : spec_(spec), words_(spec.values) {}
  /// What no set of updates can give, in words; nullptr: nothing.
  [[nodiscard]] const char* implausible() const;

  UpdateSpec spec_;
  std::vector<std::int64_t> words_;  ///< (P)
  std::uint64_t weight_ = 0;
  std::uint32_t contributors_ = 0;
  std::uint32_t unclipped_ = 0;
};

}  // namespace covey::aggregation

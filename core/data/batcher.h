/// Examples as token rows, and rows packed into right-padded batches in a seeded order that can be resumed. Rows with
/// labels, and of source and target: labelled.h.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/result.h"
#include "core/data/examples.h"
#include "core/data/masking.h"
#include "core/text/tokenizer.h"

namespace covey::data {

/// What a model reads, and what it should say. Of a text: `targets[t]` is what position t predicts, or kNoTarget (a
/// causal model's is the token after ids[0..t]). Of a class: one target. Of a source and its target text: one target
/// for each of `second_ids`.
struct TokenRow {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> targets;
  std::vector<std::int32_t> types = {};       ///< as many as ids, or none: all 0
  std::vector<std::int32_t> second_ids = {};  ///< what the second stack of an encoder-decoder reads
  bool is_class = false;                      ///< `targets` is the class of the whole row

  /// Whether the sizes fit each other.
  [[nodiscard]] bool consistent() const;
};

/// The example in the tokenizer's frame with the end token after it (where there is one), cut to `seq_max` positions.
/// Tokens of the prompt are not predicted; a token that joins the prompt's end and the text's start is. Of a
/// conversation the assistant's tokens are predicted and nothing else, and the frame is the chat template's own. May
/// have no target at all (empty text, or a prompt of seq_max tokens and more).
TokenRow tokenize(const text::Tokenizer& tokenizer, const Example& example, int seq_max);
/// All examples that have a target, in their order.
std::vector<TokenRow> tokenize_all(const text::Tokenizer& tokenizer, std::span<const Example> examples, int seq_max);

/// One batch; borrowed from its Batcher until the next call of next().
struct Batch {
  int B = 0;
  int T = 0;                              ///< the longest row of this batch
  std::span<const std::int32_t> ids;      ///< (B, T), 0 where padded
  std::span<const std::int32_t> targets;  ///< (B, T), kNoTarget where padded; classes: (B); with second_ids: (B, T2)
  std::span<const std::int32_t> lengths;  ///< (B)
  std::span<const std::int32_t> types;    ///< (B, T), or empty: all 0
  int T2 = 0;
  std::span<const std::int32_t> second_ids;  ///< (B, T2), 0 where padded; empty where the rows have none
};

struct BatcherOptions {
  int batch = 8;        ///< B; the last batch of an epoch may have fewer rows
  bool shuffle = true;  ///< another order in every epoch, from `seed`; false: the order of the rows
  std::uint64_t seed = 0;
  /// Masked language models: the rows' targets are what may be masked, and each epoch masks anew.
  std::optional<Masking> masking = {};
};

/// Goes through the rows again and again. The same options and position give the same batches on every machine.
/// Not thread-safe; borrows the rows, which must outlive it and must not be empty.
class Batcher {
 public:
  struct Position {
    std::uint64_t epoch = 0;
    std::uint64_t row = 0;  ///< rows of this epoch given out
    friend bool operator==(const Position&, const Position&) = default;
  };

  /// @errors invalid_argument: no rows, an empty or inconsistent row, rows of several kinds, batch < 1, masking.
  static Result<Batcher> create(std::span<const TokenRow> rows, const BatcherOptions& options);

  Batch next();
  [[nodiscard]] Position position() const { return position_; }
  /// @errors invalid_argument: beyond the rows of an epoch.
  [[nodiscard]] Status seek(Position position);

 private:
  Batcher(std::span<const TokenRow> rows, const BatcherOptions& options);
  void make_order();
  void put(std::size_t place, std::size_t row, std::size_t width, std::size_t target_width);

  std::span<const TokenRow> rows_;
  BatcherOptions options_;
  Position position_;
  std::vector<std::size_t> order_;
  bool typed_ = false;  ///< some row has types
  std::vector<std::int32_t> ids_, targets_, lengths_, types_, second_ids_;
};

}  // namespace covey::data

/// Rows of texts with a label, of texts to be masked, and of a source with its target.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/data/batcher.h"

namespace covey::data {

/// The classes of a classifier by name; class i is names()[i].
class Labels {
 public:
  Labels() = default;
  /// @errors invalid_argument: fewer than two, an empty name, a name twice.
  static Result<Labels> create(std::vector<std::string> names);
  /// The labels that occur, sorted. @errors as create; invalid_argument: an example without a label.
  static Result<Labels> of(std::span<const Example> examples);
  [[nodiscard]] std::span<const std::string> names() const { return names_; }
  [[nodiscard]] std::optional<std::int32_t> find(std::string_view name) const;

 private:
  std::vector<std::string> names_;
};

/// How a tokenizer frames a text: what it puts before and after it.
struct Frame {
  std::vector<std::int32_t> before;
  std::vector<std::int32_t> after;
};
Frame frame_of(const text::Tokenizer& tokenizer);

struct PairFrame {
  int seq_max = 128;              ///< tokens are taken off the longer of the two texts until both fit
  bool double_separator = false;  ///< RoBERTa: what stands between two texts is there twice
  bool types = false;             ///< the second text has token type 1
};

/// The example's text (and text_pair) as `class_index`'s row. The frame always stays whole.
/// @errors invalid_argument: seq_max leaves no room for a token.
Result<TokenRow> class_row(const text::Tokenizer& tokenizer, const Example& example, std::int32_t class_index,
                           const PairFrame& frame);

/// A text as rows of at most `seq_max` positions in the tokenizer's frame, each token its own target but for special
/// ones: what Batcher's masking wants. None where the text has no token.
/// @errors invalid_argument: seq_max leaves no room for a token.
Result<std::vector<TokenRow>> maskable_rows(const text::Tokenizer& tokenizer, const Example& example, int seq_max);

struct SourceOptions {
  int seq_max = 128;          ///< of the source
  int target_seq_max = 128;   ///< of the target, its end token included
  std::int32_t start_id = 0;  ///< what the decoder reads first
};

/// `prompt` is the source, `text` the target. The decoder reads the target moved by one, as Hugging Face does. Both
/// have the tokenizer's frame, and the end token where there is one.
/// @errors invalid_argument: seq_max leaves no room for a token.
Result<TokenRow> source_row(const text::Tokenizer& tokenizer, const Example& example, const SourceOptions& options);
/// The source alone, as source_row has it.
Result<std::vector<std::int32_t>> source_ids(const text::Tokenizer& tokenizer, std::string_view source, int seq_max);

}  // namespace covey::data

/// The pre-tokenizers of tokenizer.json, applied in order: a text becomes words. Source: huggingface/tokenizers,
/// pre_tokenizers.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/formats/tokenizer_spec.h"
#include "core/text/regex.h"
#include "core/text/split.h"

namespace covey::text {

/// Words, and the texts that some of them point into (others point into the text that was cut).
struct Words {
  Pieces pieces;
  std::deque<std::string> owned;
};

/// Immutable and thread-safe.
class PreTokenizer {
 public:
  /// @errors unsupported: an expression, by its construct.
  static Result<PreTokenizer> make(const std::vector<formats::TokenizerSpec::PreTokenizer>& steps);
  /// @param first whether `text` begins the whole text (Metaspace asks).
  void apply(std::string_view text, bool first, Words& out) const;

 private:
  struct Step {
    formats::TokenizerSpec::PreTokenizer what;
    std::optional<Regex> regex;
  };
  static void cut(const Step& step, std::string_view text, bool first, Words& out);
  std::vector<Step> steps_;
};

}  // namespace covey::text

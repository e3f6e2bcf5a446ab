/// The normalizers of tokenizer.json and sentencepiece, applied in order. Source: huggingface/tokenizers, normalizers;
/// google-research/bert, tokenization.py (BertNormalizer); sentencepiece, normalizer.cc (charsmap, spaces).
/// Deviations: Precompiled maps the longest prefix wherever it stands, as sentencepiece does; Hugging Face looks at
/// whole grapheme clusters first.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/formats/tokenizer_spec.h"
#include "core/text/regex.h"

namespace covey::text {

/// SentencePiece's map of normalized strings: a double-array trie (Darts) with its results.
class Charsmap {
 public:
  /// @errors corrupt_data. Empty bytes are a map that changes nothing.
  static Result<Charsmap> parse(std::string_view bytes);
  [[nodiscard]] std::string apply(std::string_view text) const;

 private:
  std::vector<std::uint32_t> units_;
  std::string results_;  // each ends with NUL
};

/// Immutable and thread-safe.
class Normalizer {
 public:
  /// @errors unsupported: an expression; corrupt_data: a charsmap.
  static Result<Normalizer> make(const std::vector<formats::TokenizerSpec::Normalizer>& steps);
  [[nodiscard]] bool empty() const { return steps_.empty(); }
  /// An empty text stays empty.
  [[nodiscard]] std::string apply(std::string_view text) const;

 private:
  struct Step {
    formats::TokenizerSpec::Normalizer what;
    std::optional<Regex> regex;
    std::optional<Charsmap> map;
  };
  std::vector<Step> steps_;
};

/// Punctuation as BERT understands it: category P, and ASCII's symbols.
bool is_bert_punctuation(std::uint32_t code);

}  // namespace covey::text

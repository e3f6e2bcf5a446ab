/// What turns one word (a piece that the pre-tokenizer left) into ids: BPE, Unigram and WordPiece.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/formats/tokenizer_spec.h"

namespace covey::text {

/// Immutable and thread-safe.
class WordModel {
 public:
  virtual ~WordModel() = default;
  /// Appends the ids of `word` to `out`; never fails.
  virtual void encode(std::string_view word, std::vector<std::int32_t>& out) const = 0;
};

/// Token -> id. Borrows the tokens.
class VocabIndex {
 public:
  /// Of two equal tokens the first counts; `hidden` ones are left out.
  VocabIndex(const std::vector<std::string>& vocab, const std::vector<bool>& hidden);
  /// -1: not there.
  [[nodiscard]] std::int32_t find(std::string_view token) const {
    const auto it = index_.find(token);
    return it == index_.end() ? -1 : it->second;
  }
  [[nodiscard]] std::size_t longest() const { return longest_; }  ///< in bytes
  void add(std::string_view token, std::int32_t id) { index_.emplace(token, id); }

 private:
  std::unordered_map<std::string_view, std::int32_t> index_;
  std::size_t longest_ = 0;
};

/// Ids of "<0x00>".."<0xFF>" of a vocabulary with byte fallback, -1 where there is none.
std::vector<std::int32_t> fallback_bytes(const formats::TokenizerSpec& spec);

/// `spec` must outlive the model.
std::unique_ptr<const WordModel> make_bpe_model(const formats::TokenizerSpec& spec);
std::unique_ptr<const WordModel> make_unigram_model(const formats::TokenizerSpec& spec);
std::unique_ptr<const WordModel> make_wordpiece_model(const formats::TokenizerSpec& spec);

}  // namespace covey::text

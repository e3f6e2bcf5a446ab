/// Finds added tokens in a text: the longest of those that begin at a place, from left to right. Source:
/// huggingface/tokenizers, added_vocabulary.rs.
#pragma once

#include <array>
#include <functional>
#include <string_view>
#include <vector>

#include "core/formats/tokenizer_spec.h"

namespace covey::text {

/// Immutable once filled; thread-safe.
class AddedTokens {
 public:
  using Token = formats::TokenizerSpec::AddedToken;

  void add(Token token);
  /// After the last add().
  void sort();

  /// Calls stretch(text, begins the text) for what lies between added tokens (never empty) and token(id), in order.
  template <typename Stretch, typename Found>
  void cut(std::string_view text, Stretch stretch, Found found) const {
    std::size_t start = 0;
    const auto put = [&](std::size_t end) {
      if (end > start) stretch(text.substr(start, end - start), start == 0);
    };
    for (std::size_t at = 0; !tokens_.empty() && at < text.size();) {
      const Token* token = by_first_[static_cast<unsigned char>(text[at])].empty() ? nullptr : find(text, at);
      if (token == nullptr) {
        ++at;
        continue;
      }
      put(token->lstrip ? spaces_before(text, start, at) : at);
      found(token->id);
      at += token->content.size();
      start = at = token->rstrip ? spaces_after(text, at) : at;
    }
    put(text.size());
  }

 private:
  [[nodiscard]] const Token* find(std::string_view text, std::size_t at) const;
  static std::size_t spaces_before(std::string_view text, std::size_t start, std::size_t at);
  static std::size_t spaces_after(std::string_view text, std::size_t at);

  std::vector<Token> tokens_;
  std::array<std::vector<std::size_t>, 256> by_first_;  // longest first
};

}  // namespace covey::text

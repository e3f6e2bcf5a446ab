#include "core/text/added_tokens.h"

#include <algorithm>

#include "core/text/unicode.h"

namespace covey::text {
namespace {

/// Start of the character that ends before `at`; at > start.
std::size_t character_before(std::string_view text, std::size_t start, std::size_t at) {
  for (std::size_t length = std::min<std::size_t>(4, at - start); length > 1; --length) {
    const Character c = character_at(text, at - length);
    if (c.valid && c.length == length) return at - length;
  }
  return at - 1;
}

bool is_word(std::string_view text, std::size_t at) {
  const Character c = character_at(text, at);
  return c.kind == CharClass::letter || c.kind == CharClass::number || text[at] == '_';
}

}  // namespace

void AddedTokens::add(Token token) {
  if (token.content.empty()) return;
  by_first_[static_cast<unsigned char>(token.content[0])].push_back(tokens_.size());
  tokens_.push_back(std::move(token));
}

void AddedTokens::sort() {
  for (auto& list : by_first_) {
    std::ranges::stable_sort(list, std::greater<>(), [&](std::size_t i) { return tokens_[i].content.size(); });
  }
}

const AddedTokens::Token* AddedTokens::find(std::string_view text, std::size_t at) const {
  for (const std::size_t i : by_first_[static_cast<unsigned char>(text[at])]) {
    const Token& token = tokens_[i];
    if (text.compare(at, token.content.size(), token.content) != 0) continue;
    if (token.single_word) {
      const std::size_t after = at + token.content.size();
      if (at > 0 && is_word(text, character_before(text, 0, at))) continue;
      if (after < text.size() && is_word(text, after)) continue;
    }
    return &token;
  }
  return nullptr;
}

std::size_t AddedTokens::spaces_before(std::string_view text, std::size_t start, std::size_t at) {
  while (at > start) {
    const std::size_t before = character_before(text, start, at);
    if (character_at(text, before).kind != CharClass::space) break;
    at = before;
  }
  return at;
}

std::size_t AddedTokens::spaces_after(std::string_view text, std::size_t at) {
  while (at < text.size() && character_at(text, at).kind == CharClass::space) at += character_at(text, at).length;
  return at;
}

}  // namespace covey::text

/// A template as tokens: texts, cut as trim_blocks, lstrip_blocks and the marks of the tags say, and what stands in
/// tags.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"

namespace covey::text::jinja {

enum class TokenKind : std::uint8_t { text, open_print, open_block, close, name, string, integer, real, op, end };

struct Token {
  TokenKind kind = TokenKind::end;
  std::string text;    ///< of a string its value
  std::size_t at = 0;  ///< byte in the template
};

/// corrupt_data, with the line that `at` lies in.
Error broken_at(std::string_view source, std::size_t at, const std::string& what);

/// Ends with a token of kind end. @errors corrupt_data.
Result<std::vector<Token>> lex(std::string_view source);

}  // namespace covey::text::jinja

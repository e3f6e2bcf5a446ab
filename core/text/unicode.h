/// Characters of UTF-8 text and their classes. Source: Unicode (through utf8proc), RFC 3629.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace covey::text {

enum class CharClass : std::uint8_t { letter, number, space, other };  ///< \p{L}, \p{N}, \s, everything else

struct Character {
  std::uint32_t code = 0;  ///< the byte itself where it is not valid UTF-8
  std::uint8_t length = 1;
  bool valid = false;
  CharClass kind = CharClass::other;  ///< an invalid byte is `other`
};

/// The character that starts at text[i]; i < text.size().
Character character_at(std::string_view text, std::size_t i);

/// Bytes at the end of `text` that begin a character whose rest may still come: 0..3.
std::size_t unfinished_suffix(std::string_view text);

enum class NormalForm { nfc, nfd, nfkc, nfkd };
/// The text itself where it is not valid UTF-8.
std::string normalize(std::string_view text, NormalForm form);

/// UTF-8 of a code point below 0x110000.
std::string to_utf8(std::uint32_t code);

/// General categories as sets of bits: of one character (0 where `code` is not below 0x110000), and of a name as
/// \p{...} takes it ("L", "Lu", "Letter"; 0: there is no such name).
std::uint32_t category_bit(std::uint32_t code);
std::uint32_t category_mask(std::string_view name);
bool is_white_space(std::uint32_t code);  ///< Unicode's White_Space

/// Simple case folding of one character: equal for characters that differ in case only (also U+017F and s).
std::uint32_t fold_case(std::uint32_t code);
/// Every character by itself in lower case, so that a final sigma is no special case. Invalid bytes stay.
std::string lowercase(std::string_view text);
/// Without the characters whose category is in `mask`.
std::string without_categories(std::string_view text, std::uint32_t mask);

}  // namespace covey::text

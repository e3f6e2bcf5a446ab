#include "core/text/unicode.h"

#include <utf8proc.h>

#include <array>
#include <cstdlib>
#include <utility>

namespace covey::text {
namespace {

bool is_space(std::uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

CharClass class_of(std::uint32_t c) {
  if (c < 0x80) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return CharClass::letter;
    if (c >= '0' && c <= '9') return CharClass::number;
    return is_space(c) ? CharClass::space : CharClass::other;
  }
  if (is_space(c)) return CharClass::space;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return CharClass::letter;
  if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return CharClass::number;
  return CharClass::other;
}

}  // namespace

Character character_at(std::string_view text, std::size_t i) {
  const auto first = static_cast<unsigned char>(text[i]);
  if (first < 0x80) return {first, 1, true, class_of(first)};
  utf8proc_int32_t code = 0;
  const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data() + i),
                                       static_cast<utf8proc_ssize_t>(text.size() - i), &code);
  if (length <= 0 || code < 0) return {first, 1, false, CharClass::other};
  const auto value = static_cast<std::uint32_t>(code);
  return {value, static_cast<std::uint8_t>(length), true, class_of(value)};
}

std::size_t unfinished_suffix(std::string_view text) {
  for (std::size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0) == 0x80) continue;
    const std::size_t needed = byte >= 0xF0 && byte <= 0xF4 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC2 ? 2 : 1;
    return byte <= 0xF4 && needed > back ? back : 0;
  }
  return 0;
}

std::string normalize(std::string_view text, NormalForm form) {
  bool ascii = true;
  for (const char c : text) ascii = ascii && static_cast<unsigned char>(c) < 0x80;
  if (ascii) return std::string(text);
  int options = UTF8PROC_STABLE;
  options |= form == NormalForm::nfc || form == NormalForm::nfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  if (form == NormalForm::nfkc || form == NormalForm::nfkd) options |= UTF8PROC_COMPAT;
  utf8proc_uint8_t* out = nullptr;
  const auto length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                   &out, static_cast<utf8proc_option_t>(options));
  if (length < 0) return std::string(text);
  std::string result(reinterpret_cast<const char*>(out), static_cast<std::size_t>(length));
  std::free(out);  // NOLINT: utf8proc allocates with malloc
  return result;
}

std::uint32_t category_bit(std::uint32_t code) {
  if (code >= 0x110000) return 0;
  return std::uint32_t{1} << utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

std::uint32_t category_mask(std::string_view name) {
  static constexpr std::string_view kNames[] = {"Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd",
                                                "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm",
                                                "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co"};
  static constexpr std::pair<std::string_view, std::string_view> kLong[] = {
      {"Letter", "L"}, {"Mark", "M"}, {"Number", "N"}, {"Punctuation", "P"}, {"Symbol", "S"}, {"Separator", "Z"}};
  for (const auto& [longer, shorter] : kLong) {
    if (name == longer) name = shorter;
  }
  std::uint32_t mask = 0;
  for (std::size_t i = 0; i < std::size(kNames) && !name.empty(); ++i) {
    if (kNames[i] == name || (name.size() == 1 && kNames[i][0] == name[0])) mask |= std::uint32_t{1} << i;
  }
  return mask;
}

bool is_white_space(std::uint32_t code) {
  return is_space(code);
}

std::uint32_t fold_case(std::uint32_t code) {
  if (code < 0x80) return code >= 'A' && code <= 'Z' ? code + ('a' - 'A') : code;
  if (code >= 0x110000) return code;
  return static_cast<std::uint32_t>(utf8proc_tolower(utf8proc_toupper(static_cast<utf8proc_int32_t>(code))));
}

std::string lowercase(std::string_view text) {
  constexpr std::uint32_t kDottedCapitalI = 0x130;  // the one character that becomes two
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    if (!c.valid) {
      out += text[i];
    } else if (c.code < 0x80) {
      out += static_cast<char>(fold_case(c.code));
    } else if (c.code == kDottedCapitalI) {
      out += "i\xCC\x87";
    } else {
      out += to_utf8(static_cast<std::uint32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c.code))));
    }
    i += c.length;
  }
  return out;
}

std::string without_categories(std::string_view text, std::uint32_t mask) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    if (!c.valid || (category_bit(c.code) & mask) == 0) out += text.substr(i, c.length);
    i += c.length;
  }
  return out;
}

std::string to_utf8(std::uint32_t code) {
  utf8proc_uint8_t buffer[4];
  const auto length = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), buffer);
  return {reinterpret_cast<const char*>(buffer), static_cast<std::size_t>(length)};
}

}  // namespace covey::text

#include "core/formats/byte_alphabet.h"

namespace covey::formats {
namespace {

bool is_plain_byte(std::uint32_t b) {
  return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
}

struct Alphabet {
  std::array<std::string, 256> text;
  std::array<std::int16_t, 512> byte;
  Alphabet() {
    byte.fill(-1);
    std::uint32_t next = 256;
    for (std::uint32_t b = 0; b < 256; ++b) {
      const std::uint32_t code = is_plain_byte(b) ? b : next++;
      if (code >= 0x80) text[b] += static_cast<char>(0xC0 | code >> 6);
      text[b] += static_cast<char>(code >= 0x80 ? 0x80 | (code & 0x3F) : code);
      byte[code] = static_cast<std::int16_t>(b);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet kAlphabet;
  return kAlphabet;
}

}  // namespace

const std::array<std::string, 256>& byte_alphabet() {
  return alphabet().text;
}

std::optional<std::uint8_t> byte_of(std::uint32_t code) {
  if (code >= 512 || alphabet().byte[code] < 0) return std::nullopt;
  return static_cast<std::uint8_t>(alphabet().byte[code]);
}

}  // namespace covey::formats

/// ByteLevel's alphabet: a printable character for each byte. Source: openai/gpt-2, encoder.py (formats.md).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace covey::formats {

/// byte -> the UTF-8 of the printable character that stands for it.
const std::array<std::string, 256>& byte_alphabet();
/// The byte that a character of that alphabet stands for.
std::optional<std::uint8_t> byte_of(std::uint32_t code);

}  // namespace covey::formats

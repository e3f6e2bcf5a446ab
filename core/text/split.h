/// How texts are cut into words before BPE: the regular expressions of GPT-2, Llama 3 and Qwen 2, matched by hand, and
/// ByteLevel's alphabet. Source: openai/gpt-2 encoder.py; the tokenizer.json files of Llama 3 and Qwen 2 (formats.md).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace covey::text {

using Pieces = std::vector<std::string_view>;  ///< borrowed from the text that was cut; together they are that text

/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
void split_gpt2(std::string_view text, Pieces& out);
/// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits_max}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
/// \s+(?!\S)|\s+ with 3 digits for Llama 3 and 1 for Qwen 2.
void split_llama3(std::string_view text, int digits_max, Pieces& out);
/// Runs of \p{N} apart from the rest; every one by itself with `individual`.
void split_digits(std::string_view text, bool individual, Pieces& out);

/// ByteLevel: byte -> the UTF-8 of the printable character that stands for it.
const std::array<std::string, 256>& byte_alphabet();
/// The byte that a character of that alphabet stands for.
std::optional<std::uint8_t> byte_of(std::uint32_t code);

}  // namespace covey::text

/// How texts are cut into words before BPE: the regular expressions of GPT-2, Llama 3 and Qwen 2, matched by hand (a
/// test compares them with class Regex; here because most texts go through them), and
/// ByteLevel's alphabet. Source: openai/gpt-2 encoder.py; the tokenizer.json files of Llama 3 and Qwen 2 (formats.md).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/formats/byte_alphabet.h"

namespace covey::text {

using Pieces = std::vector<std::string_view>;  ///< borrowed from the text that was cut; together they are that text

/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
void split_gpt2(std::string_view text, Pieces& out);
/// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits_max}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|
/// \s+(?!\S)|\s+ with 3 digits for Llama 3 and 1 for Qwen 2.
void split_llama3(std::string_view text, int digits_max, Pieces& out);
/// Runs of \p{N} apart from the rest; every one by itself with `individual`.
void split_digits(std::string_view text, bool individual, Pieces& out);

std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

using formats::byte_alphabet;
using formats::byte_of;

}  // namespace covey::text

/// The expressions that published byte-level vocabularies split texts with, by the names that GGUF's
/// tokenizer.ggml.pre gives them. Source: llama.cpp, llama-vocab.cpp; the models' own tokenizer.json files.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace covey::formats {

inline constexpr std::string_view kGpt2Split =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kLlama3Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kQwen2Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view kO200kSplit =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct NamedSplit {
  std::string_view name;                       ///< tokenizer.ggml.pre
  std::span<const std::string_view> patterns;  ///< one after the other
  bool ignore_merges = false;                  ///< a word that is a token needs no merges
};

/// nullptr: we do not know the name.
const NamedSplit* named_split(std::string_view name);
/// The first name of these expressions, with this treatment of merges if there is one. nullptr: they have none.
const NamedSplit* split_named_for(std::span<const std::string> expressions, bool ignore_merges);

}  // namespace covey::formats

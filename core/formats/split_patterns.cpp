#include "core/formats/split_patterns.h"

#include <algorithm>
#include <iterator>

namespace covey::formats {
namespace {

constexpr std::string_view kTekkenSplit =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kBloomSplit = R"( ?[^(\s|.,!?…。，、।۔،)]+)";

constexpr std::string_view kGpt2[] = {kGpt2Split};
constexpr std::string_view kLlama3[] = {kLlama3Split};
constexpr std::string_view kQwen2[] = {kQwen2Split};
constexpr std::string_view kO200k[] = {kO200kSplit};
constexpr std::string_view kTekken[] = {kTekkenSplit};
constexpr std::string_view kDigitsThenGpt2[] = {R"(\p{N})", kGpt2Split};
constexpr std::string_view kFalcon[] = {R"([\p{P}\$\+<=>\^~\|`]+)", kGpt2Split, R"([0-9][0-9][0-9])"};
constexpr std::string_view kDeepseekCoder[] = {R"([\r\n])", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
                                               R"([一-龥ࠀ-一가-퟿]+)", R"(\p{N})"};
constexpr std::string_view kBloom[] = {kBloomSplit};
constexpr std::string_view kViking[] = {kBloomSplit, R"(\p{N})"};

constexpr NamedSplit kNames[] = {
    {"gpt-2", kGpt2},
    {"phi-2", kGpt2},
    {"mpt", kGpt2},
    {"olmo", kGpt2},
    {"jais", kGpt2},
    {"roberta-bpe", kGpt2},
    {"jina-es", kGpt2},
    {"jina-de", kGpt2},
    {"jina-v2-es", kGpt2},
    {"jina-v2-de", kGpt2},
    {"jina-v2-code", kGpt2},
    {"llama-bpe", kLlama3, true},
    {"llama3", kLlama3, true},
    {"llama-v3", kLlama3, true},
    {"falcon3", kLlama3, true},
    {"dbrx", kLlama3},
    {"smaug-bpe", kLlama3},
    {"chatglm-bpe", kLlama3},
    {"qwen2", kQwen2},
    {"deepseek-r1-qwen", kQwen2},
    {"stablelm2", kQwen2},
    {"hunyuan", kQwen2},
    {"gpt-4o", kO200k},
    {"tekken", kTekken, true},
    {"starcoder", kDigitsThenGpt2},
    {"refact", kDigitsThenGpt2},
    {"command-r", kDigitsThenGpt2},
    {"smollm", kDigitsThenGpt2},
    {"codeshell", kDigitsThenGpt2},
    {"exaone", kDigitsThenGpt2},
    {"falcon", kFalcon},
    {"deepseek-coder", kDeepseekCoder},
    {"bloom", kBloom},
    {"poro-chat", kBloom},
    {"gpt3-finnish", kBloom},
    {"viking", kViking},
};

}  // namespace

const NamedSplit* named_split(std::string_view name) {
  const auto* const found = std::ranges::find(kNames, name, &NamedSplit::name);
  return found == std::end(kNames) ? nullptr : found;
}

const NamedSplit* split_named_for(std::span<const std::string> expressions, bool ignore_merges) {
  const NamedSplit* first = nullptr;
  for (const NamedSplit& known : kNames) {
    if (!std::ranges::equal(known.patterns, expressions)) continue;
    if (known.ignore_merges == ignore_merges) return &known;
    if (first == nullptr) first = &known;
  }
  return first;
}

}  // namespace covey::formats

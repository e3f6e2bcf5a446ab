#include "core/text/regex.h"

#include "core/base/rng.h"
#include "core/formats/split_patterns.h"
#include "core/text/split.h"
#include "core/text/unicode.h"
#include "support/support.h"

using namespace covey;  // NOLINT
using text::Regex;

namespace {

Regex compiled(std::string_view pattern) {
  auto regex = Regex::compile(pattern);
  REQUIRE_OK(regex);
  return *std::move(regex);
}

/// The text from the match's start to its end, or "-" for none.
std::string matched(std::string_view pattern, std::string_view text) {
  const std::size_t end = compiled(pattern).match(text, 0);
  return end == Regex::kNone ? "-" : std::string(text.substr(0, end));
}

text::Pieces cut(const Regex& regex, std::string_view text) {
  text::Pieces out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = regex.match(text, at);
    REQUIRE(end != Regex::kNone);
    REQUIRE(end > at);
    out.push_back(text.substr(at, end - at));
    at = end;
  }
  return out;
}

std::string random_text(Rng& rng) {
  static const std::string pieces[] = {"a",
                                       "B",
                                       "\xC3\xA9",
                                       "\xE4\xB8\xAD",
                                       "1",
                                       "22",
                                       " ",
                                       "  ",
                                       "\n",
                                       "\r\n",
                                       "\t",
                                       "'",
                                       "'s",
                                       "'RE",
                                       "'\xC5\xBF",
                                       ".",
                                       "-",
                                       "\xFF",
                                       "\xE2\x80\x83",
                                       "\xCC\x81",
                                       "\xF0\x9F\x99\x82",
                                       "\xD9\xA3"};
  std::string out;
  for (std::uint64_t n = rng.below(24); n > 0; --n) out += pieces[rng.below(std::size(pieces))];
  return out;
}

}  // namespace

TEST_CASE("expressions match as their syntax says") {
  CHECK(matched("a|ab", "ab") == "a");  // the first alternative that matches, not the longest
  CHECK(matched("(?:a|ab)c", "abc") == "abc");
  CHECK(matched("a{2,3}", "aaaa") == "aaa");
  CHECK(matched("a{2}", "a") == "-");
  CHECK(matched("a{,2}", "aaa") == "aa");
  CHECK(matched("a+?b", "aab") == "aab");
  CHECK(matched("a++ab", "aaab") == "-");
  CHECK(matched("(?>a|ab)c", "abc") == "-");
  CHECK(matched("\\s+(?!\\S)", "   x") == "  ");
  CHECK(matched("\\s+(?=x)", "   x") == "   ");
  CHECK(matched("[^\\s\\p{L}]+", "12-a") == "12-");
  CHECK(matched("[\\p{Lu}a-c-]+", "Ab-\xC3\x89x") == "Ab-\xC3\x89");
  CHECK(matched("(?i:re)x", "REx") == "REx");
  CHECK(matched("(?i:re)x", "REX") == "-");
  CHECK(matched("(?i)'s", "'\xC5\xBF") == "'\xC5\xBF");
  CHECK(matched("\\u00e9\\x41\\x{4e2d}",
                "\xC3\xA9"
                "A\xE4\xB8\xAD") ==
        "\xC3\xA9"
        "A\xE4\xB8\xAD");
  CHECK(matched(".", "\n") == "-");
  CHECK(matched("(a*)*b", "aab") == "aab");
}

TEST_CASE("what is no plain expression is refused by name") {
  for (const auto& [pattern, expected] :
       std::vector<std::pair<std::string, std::string>>{{"(?<=a)b", "this kind of group"},
                                                        {"(a", "unclosed group"},
                                                        {"a)", "unmatched"},
                                                        {"[a", "unclosed '['"},
                                                        {"a**", "repetition of a repetition"},
                                                        {"a{3,2}", "repetition"},
                                                        {"a{999}", "repetition"},
                                                        {"^a", "'^'"},
                                                        {"a$", "'$'"},
                                                        {"\\b", "\\b"},
                                                        {"\\1", "\\1"},
                                                        {"\\p{Greek}", "\\p{Greek}"},
                                                        {"[z-a]", "backwards"},
                                                        {"[a[b]]", "class inside a class"},
                                                        {"\xFF", "invalid UTF-8"},
                                                        {"a\\", "at the end"},
                                                        {"*", "'*'"},
                                                        {std::string(5000, 'a'), "4096 bytes"},
                                                        {"((((a{200}){200}){200}){200})", "size"},
                                                        {std::string(40, '(') + std::string(40, ')'), "deeper"}}) {
    CAPTURE(pattern.substr(0, 40));
    const auto regex = Regex::compile(pattern);
    REQUIRE_FALSE(regex.ok());
    CHECK(regex.error().code == ErrorCode::unsupported);
    CHECK(regex.error().message.find(expected) != std::string::npos);
  }
}

TEST_CASE("an expression that would take exponential time takes little") {
  const std::string text(300, 'a');
  CHECK(matched("(?:a+)+b", text) == "-");
  CHECK(matched("(?:a|a)*(?:a|aa)*(?:a?a?)*b", text) == "-");
  CHECK(matched("(?:(?:a*)*)*b", text) == "-");
}

TEST_CASE("the splits written by hand cut random texts as their expressions do") {
  const Regex gpt2 = compiled(formats::kGpt2Split);
  const Regex llama3 = compiled(formats::kLlama3Split);
  const Regex qwen2 = compiled(formats::kQwen2Split);
  Rng rng(5);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = random_text(rng);
    CAPTURE(text);
    text::Pieces pieces;
    text::split_gpt2(text, pieces);
    CHECK(pieces == cut(gpt2, text));
    pieces.clear();
    text::split_llama3(text, 3, pieces);
    CHECK(pieces == cut(llama3, text));
    pieces.clear();
    text::split_llama3(text, 1, pieces);
    CHECK(pieces == cut(qwen2, text));
  }
}

TEST_CASE("the expressions of every name in tokenizer.ggml.pre compile") {
  for (const char* name : {"gpt-2", "llama-bpe", "qwen2", "roberta-bpe", "gpt-4o", "tekken", "starcoder", "falcon",
                           "deepseek-coder", "bloom", "viking", "command-r", "stablelm2"}) {
    CAPTURE(name);
    const auto* split = formats::named_split(name);
    REQUIRE(split != nullptr);
    for (const auto pattern : split->patterns) REQUIRE_OK(Regex::compile(pattern));
  }
  CHECK(formats::named_split("nobody") == nullptr);
}

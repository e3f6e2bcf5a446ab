// Our tokenizers against npm's @huggingface/tokenizers: the same ids and the same decoded text on 10,000 generated
// strings for each tokenizer.json at hand, and for BERT's vocabulary written as one.
#include <iostream>

#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/formats/json.h"
#include "core/text/tokenizer.h"
#include "core/text/unicode.h"
#include "interop/hf_tokenizers.h"
#include "support/support.h"

using namespace covey;  // NOLINT
using formats::Json;

namespace {

constexpr int kStrings = 10000;

struct Range {
  std::uint32_t low, high;
};
/// Blocks of scripts, marks, symbols and controls that random characters come from.
constexpr Range kRanges[] = {
    {0x20, 0x7E},       {0x20, 0x7E},       {0x61, 0x7A},       {0x30, 0x39},       {0x00, 0x1F},
    {0x7F, 0xFF},       {0x100, 0x24F},     {0x250, 0x2FF},     {0x300, 0x36F},     {0x370, 0x3FF},
    {0x400, 0x52F},     {0x530, 0x5FF},     {0x600, 0x6FF},     {0x700, 0x8FF},     {0x900, 0xDFF},
    {0xE00, 0xEFF},     {0xF00, 0xFFF},     {0x1000, 0x13FF},   {0x1400, 0x17FF},   {0x1800, 0x1AFF},
    {0x1B00, 0x1CFF},   {0x1D00, 0x1DFF},   {0x1E00, 0x1FFF},   {0x2000, 0x206F},   {0x2070, 0x22FF},
    {0x2300, 0x27BF},   {0x2C00, 0x2DFF},   {0x3000, 0x30FF},   {0x3100, 0x33FF},   {0x3400, 0x4DBF},
    {0x4E00, 0x9FFF},   {0xA000, 0xABFF},   {0xAC00, 0xD7A3},   {0xE000, 0xE0FF},   {0xF900, 0xFAFF},
    {0xFB00, 0xFDFF},   {0xFE00, 0xFE6F},   {0xFF00, 0xFFFD},   {0x10000, 0x103FF}, {0x10400, 0x10FFF},
    {0x11000, 0x123FF}, {0x13000, 0x134FF}, {0x1D100, 0x1D7FF}, {0x1F1E6, 0x1F1FF}, {0x1F300, 0x1F9FF},
    {0x20000, 0x2A6DF}, {0xE0000, 0xE01EF}, {0xFFFD, 0xFFFD}};

/// U+0085 and U+FEFF: JavaScript's \s differs from Unicode's White_Space there, and the package's ByteLevel keeps it;
/// Hugging Face's own library follows Unicode, and so do we.
bool differs_in_javascript(std::uint32_t code) {
  return code == 0x85 || code == 0xFEFF;
}

/// The package's BertNormalizer looks at UTF-16 units, so that it misses the ideographs above U+FFFF, which BERT puts
/// between spaces; and JavaScript has a lower case of its own for a sigma that ends a word.
bool differs_for_bert(std::uint32_t code) {
  return (code >= 0x20000 && code < 0x30000) || code == 0x3A3;
}

std::string random_text(Rng& rng, bool bert) {
  static const std::string pieces[] = {
      "'s",        "'LL", "'re ",  "don't",  "\r\n",
      "\n\n",      "\t ", "Hello", " the",   "<|endoftext|>",
      "e\xCC\x81", "...", " ----", "[MASK]", "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x92\xBB"};
  std::string out;
  for (std::uint64_t n = 1 + rng.below(12); n > 0; --n) {
    const std::uint64_t kind = rng.below(10);
    if (kind == 0) {
      out.append(1 + rng.below(40), ' ');
    } else if (kind == 1) {
      for (std::uint64_t i = 1 + rng.below(30); i > 0; --i) out += static_cast<char>('0' + rng.below(10));
    } else if (kind < 5) {
      out += pieces[rng.below(std::size(pieces))];
    } else {
      const Range range = kRanges[rng.below(std::size(kRanges))];
      for (std::uint64_t i = 1 + rng.below(8); i > 0; --i) {
        const auto code = range.low + static_cast<std::uint32_t>(rng.below(range.high - range.low + 1));
        // Unassigned characters are left out: the two sides know different versions of Unicode.
        const bool assigned = (text::category_bit(code) & text::category_mask("Cn")) == 0;
        if (assigned && !differs_in_javascript(code) && !(bert && differs_for_bert(code))) out += text::to_utf8(code);
      }
    }
  }
  return out;
}

std::vector<std::string> random_texts(bool bert) {
  Rng rng(20261128);
  std::vector<std::string> texts;
  for (int i = 0; i < kStrings; ++i) texts.push_back(random_text(rng, bert));
  return texts;
}

/// @param bert without what the package does differently for BERT; its decoder loses spaces, so ids only.
void compare(const std::string& path, bool bert) {
  CAPTURE(path);
  const auto tokenizer = text::load_tokenizer(path);
  REQUIRE_OK(tokenizer);
  const auto texts = random_texts(bert);
  const auto theirs = interop::encode_with_hf(path, texts, 1);
  if (!theirs) return;
  std::size_t tokens = 0;
  int wrong = 0;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const auto ours = (*tokenizer)->encode(texts[i], false);
    tokens += ours.size();
    const bool same_text = bert || (*tokenizer)->decode(ours, false).value() == theirs->decoded[i];
    if ((ours != theirs->ids[i] || !same_text) && ++wrong <= 10) {
      FAIL_CHECK("text " << Json(texts[i]).dump() << ": ours " << Json(ours).dump() << ", theirs "
                         << Json(theirs->ids[i]).dump());
    }
  }
  CHECK(wrong == 0);
  std::cout << path << ": " << texts.size() << " strings, " << tokens << " tokens, " << wrong << " differ\n";
}

}  // namespace

TEST_CASE("every tokenizer.json at hand gives the ids and texts of @huggingface/tokenizers on 10,000 strings") {
  for (const char* file : {"tok-gpt2/tokenizer.json", "tok-gptneox/20B_tokenizer.json"}) {
    const auto path = test::data_path(file);
    if (path) compare(*path, false);
  }
}

TEST_CASE("BERT's vocabulary as tokenizer.json gives the ids of @huggingface/tokenizers on 10,000 strings") {
  const auto path = test::data_path("tok-golden-hf/bert-vocab.txt");
  if (!path) return;
  const auto lines = read_text_file(*path);
  REQUIRE_OK(lines);
  Json vocab = Json::object();
  std::int64_t id = 0;
  for (std::size_t at = 0; at < lines->size(); ++id) {
    const std::size_t end = lines->find('\n', at);
    vocab.set(lines->substr(at, end - at), id);
    at = end == std::string::npos ? lines->size() : end + 1;
  }
  Json added = Json::array({});
  for (const char* name : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) {
    added.push_back(Json::object({{"id", vocab.get_int(name).value()},
                                  {"content", name},
                                  {"single_word", false},
                                  {"lstrip", false},
                                  {"rstrip", false},
                                  {"normalized", false},
                                  {"special", true}}));
  }
  const Json root =
      Json::object({{"version", "1.0"},
                    {"added_tokens", added},
                    {"normalizer", Json::object({{"type", "BertNormalizer"},
                                                 {"clean_text", true},
                                                 {"handle_chinese_chars", true},
                                                 {"strip_accents", nullptr},
                                                 {"lowercase", true}})},
                    {"pre_tokenizer", Json::object({{"type", "BertPreTokenizer"}})},
                    {"post_processor", nullptr},
                    {"decoder", Json::object({{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}})},
                    {"model", Json::object({{"type", "WordPiece"},
                                            {"unk_token", "[UNK]"},
                                            {"continuing_subword_prefix", "##"},
                                            {"max_input_chars_per_word", 100},
                                            {"vocab", vocab}})}});
  const test::TempDir dir;
  REQUIRE_OK(root.save(dir.file("tokenizer.json")));
  compare(dir.file("tokenizer.json"), true);
}

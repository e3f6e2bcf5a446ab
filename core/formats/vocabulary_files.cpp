#include "core/formats/vocabulary_files.h"

#include <algorithm>
#include <charconv>

#include "core/formats/base64.h"
#include "core/formats/byte_alphabet.h"
#include "core/formats/json.h"
#include "core/formats/split_patterns.h"

namespace covey::formats {
namespace {

constexpr std::size_t kTokensMax = std::size_t{1} << 21;
constexpr std::size_t kRankBytesMax = 1024;  // all cuts of a token are looked at

/// Takes the next line off `text`, without its line end.
std::string_view next_line(std::string_view& text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

Error corrupt(const std::string& where, std::size_t line, const std::string& what) {
  return {ErrorCode::corrupt_data, where + ":" + std::to_string(line) + ": " + what};
}

void add_special(TokenizerSpec& spec, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const std::int32_t id = token_id(spec, name);
    if (id >= 0) spec.added_tokens.push_back({.id = id, .content = name, .special = true});
  }
}

struct KnownRanks {
  std::size_t count;
  std::string_view pattern;
};
constexpr KnownRanks kKnownRanks[] = {{50256, kGpt2Split},    {50280, kGpt2Split},   {100256, kLlama3Split},
                                      {128000, kLlama3Split}, {151643, kQwen2Split}, {199998, kO200kSplit}};

}  // namespace

void use_split(TokenizerSpec& spec, std::string_view expression) {
  TokenizerSpec::PreTokenizer step;
  const auto known = known_split(expression);
  step.kind = known ? *known : TokenizerSpec::PreTokenizer::Kind::regex;
  if (!known) step.pattern = expression;
  spec.pre_tokenizers.push_back(std::move(step));
}

void use_bert(TokenizerSpec& spec, bool lowercase) {
  spec.model = TokenizerSpec::Model::wordpiece;
  spec.continuing_prefix = "##";
  spec.normalizers = {
      {.kind = TokenizerSpec::Normalizer::Kind::bert, .strip_accents = lowercase, .lowercase = lowercase}};
  spec.pre_tokenizers = {{.kind = TokenizerSpec::PreTokenizer::Kind::bert}};
  spec.decode_words = true;
  spec.decode_prefix = "##";
  spec.decode_cleanup = true;
}

Result<TokenizerSpec> parse_vocab_txt(std::string_view text, const std::string& where) {
  TokenizerSpec spec;
  bool capitals = false;
  while (!text.empty()) {
    const std::string_view line = next_line(text);
    if (spec.vocab.size() >= kTokensMax || line.size() > kTokenBytesMax) {
      return corrupt(where, spec.vocab.size() + 1, "more than 2097152 lines, or one longer than 65536 bytes");
    }
    const bool bracketed = line.starts_with('[') && line.ends_with(']');
    capitals = capitals || (!bracketed && std::ranges::any_of(line, [](char c) { return c >= 'A' && c <= 'Z'; }));
    spec.vocab.emplace_back(line);
  }
  spec.unk_token = "[UNK]";
  if (token_id(spec, spec.unk_token) < 0)
    return corrupt(where, spec.vocab.size(), "no line is [UNK]: this is no tokenizer's vocab.txt");
  use_bert(spec, !capitals);
  add_special(spec, {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"});
  if (const auto id = token_id(spec, "[CLS]"); id >= 0) spec.prefix_ids = {id};
  if (const auto id = token_id(spec, "[SEP]"); id >= 0) spec.suffix_ids = {id};
  return spec;
}

Result<TokenizerSpec> parse_vocab_merges(std::string_view vocab, std::string_view merges, const std::string& where) {
  COVEY_ASSIGN(const Json root, Json::parse(vocab, where));
  if (!root.is_object() || root.empty()) return corrupt(where, 1, "must be an object of token: id");
  TokenizerSpec spec;
  for (const JsonMember& member : root.members()) {
    const auto id = root.get_int_between(member.key, 0, static_cast<std::int64_t>(kTokensMax) - 1);
    if (!id.ok()) return Error{ErrorCode::corrupt_data, id.error().message};
    const auto at = static_cast<std::size_t>(*id);
    if (at >= spec.vocab.size()) spec.vocab.resize(at + 1);
    if (!spec.vocab[at].empty()) return corrupt(where, 1, "two tokens have the id " + std::to_string(at));
    spec.vocab[at] = member.key;
  }
  const TokenIndex index = index_tokens(spec);
  for (std::size_t number = 1; !merges.empty(); ++number) {
    const std::string_view line = next_line(merges);
    if (line.empty() || (number == 1 && line.starts_with("#version"))) continue;
    const auto merge = merge_of(index, line);
    if (!merge) return corrupt("merges.txt beside " + where, number, "is not two tokens that make a third");
    spec.merges.push_back(*merge);
  }
  spec.byte_level = true;
  use_split(spec, kGpt2Split);
  add_special(spec, {"<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>"});
  guess_ends(spec);
  return spec;
}

bool looks_like_tiktoken(std::string_view text) {
  const std::string_view line = next_line(text);
  const std::size_t space = line.find(' ');
  return space != std::string_view::npos && space > 0 && line.substr(space + 1) == "0" &&
         decode_base64(line.substr(0, space)).has_value();
}

Result<TokenizerSpec> parse_tiktoken(std::string_view text, const std::string& where) {
  TokenizerSpec spec;
  spec.model = TokenizerSpec::Model::scored_bpe;
  spec.byte_level = true;
  spec.ignore_merges = true;  // tiktoken looks for the whole word first
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::string_view line = next_line(text);
    if (line.empty()) continue;
    const std::size_t space = std::min(line.find(' '), line.size());
    const auto bytes = decode_base64(line.substr(0, space));
    std::size_t rank = 0;
    const std::string_view digits = line.substr(std::min(space + 1, line.size()));
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), rank);
    if (!bytes || bytes->empty() || bytes->size() > kRankBytesMax || error != std::errc() ||
        end != digits.data() + digits.size() || rank >= kTokensMax) {
      return corrupt(where, number, "must be base64, a space, and a rank below 2097152");
    }
    if (rank >= spec.vocab.size()) spec.vocab.resize(rank + 1);
    std::string& token = spec.vocab[rank];
    if (!token.empty()) return corrupt(where, number, "has the rank of another line");
    for (const char b : *bytes) token += byte_alphabet()[static_cast<unsigned char>(b)];
    spec.scores.resize(spec.vocab.size());
    spec.scores[rank] = -static_cast<double>(rank);
  }
  const auto* const known = std::ranges::find(kKnownRanks, spec.vocab.size(), &KnownRanks::count);
  if (known == std::end(kKnownRanks)) {
    return Error{ErrorCode::unsupported, where + ": has " + std::to_string(spec.vocab.size()) +
                                             " ranks; which expression splits its texts is known for 50256, 50280, "
                                             "100256, 128000, 151643 and 199998 only"};
  }
  use_split(spec, known->pattern);
  return spec;
}

}  // namespace covey::formats

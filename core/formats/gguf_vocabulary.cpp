#include "core/formats/gguf_vocabulary.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_map>

#include "core/base/file.h"
#include "core/formats/gguf_tokenizer.h"
#include "core/formats/json.h"
#include "core/formats/split_patterns.h"

namespace covey::formats {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581
constexpr std::int32_t kUnknown = 0;
constexpr std::int32_t kBos = 1;
constexpr std::int32_t kEos = 2;

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const bool here = text.substr(at).starts_with(from);
    out += here ? to : text.substr(at, 1);
    at += here ? from.size() : 1;
  }
  return out;
}

bool is_byte_name(std::string_view text) {
  const auto digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return text.size() == 6 && text.starts_with("<0x") && digit(text[3]) && digit(text[4]) && text[5] == '>';
}

/// Tokens with kinds and scores, filled up to the model's rows with unused ones.
struct Table {
  std::vector<std::string> tokens;
  std::vector<float> scores;
  std::vector<std::int32_t> kinds;

  void add(std::string token, float score, TokenKind kind) {
    tokens.push_back(std::move(token));
    scores.push_back(score);
    kinds.push_back(static_cast<std::int32_t>(kind));
  }
  void fill(std::size_t rows) {
    while (tokens.size() < rows) add("[PAD" + std::to_string(tokens.size()) + "]", -1000, TokenKind::unused);
  }
};

void set_id(GgufWriter& to, const char* name, std::int32_t id) {
  if (id >= 0) to.set(std::string("tokenizer.ggml.") + name + "_token_id", static_cast<std::uint32_t>(id));
}

/// @errors unsupported: GGUF has no name for what this tokenizer does before BPE.
Result<std::string> pre_name(const TokenizerSpec& spec) {
  const auto expressions = split_expressions(spec);
  const NamedSplit* named = expressions ? split_named_for(*expressions, spec.ignore_merges) : nullptr;
  if (named != nullptr) return std::string(named->name);
  return Error{ErrorCode::unsupported, "GGUF has no name for this tokenizer's pre_tokenizer"};
}

}  // namespace

void copy_vocabulary(const GgufFile& from, GgufWriter& to) {
  for (const GgufEntry& entry : from.entries()) {
    if (entry.key.starts_with("tokenizer.")) to.copy(entry);
  }
}

void write_vocabulary(const std::vector<ScoredPiece>& pieces, std::size_t rows, GgufWriter& to) {
  Table table;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    const ScoredPiece& piece = pieces[i];
    if (id == kUnknown) {
      table.add("<unk>", piece.score, TokenKind::unknown);
    } else if (id == kBos || id == kEos) {
      table.add(id == kBos ? "<s>" : "</s>", piece.score, TokenKind::control);
    } else {
      table.add(replaced(piece.bytes, " ", kSpaceMark), piece.score,
                is_byte_name(piece.bytes) ? TokenKind::byte : TokenKind::normal);
    }
  }
  table.fill(rows);
  to.set("tokenizer.ggml.model", "llama");
  to.set("tokenizer.ggml.pre", "default");
  to.set("tokenizer.ggml.tokens", table.tokens);
  to.set("tokenizer.ggml.scores", table.scores);
  to.set("tokenizer.ggml.token_type", table.kinds);
  set_id(to, "bos", kBos);
  set_id(to, "eos", kEos);
  set_id(to, "unknown", kUnknown);
  to.set("tokenizer.ggml.add_bos_token", true);
  to.set("tokenizer.ggml.add_eos_token", false);
  to.set("tokenizer.ggml.add_space_prefix", true);
}

namespace {

/// SentencePiece's BPE as GGUF's "llama" model.
void write_scored_vocabulary(const TokenizerSpec& spec, std::size_t rows, GgufWriter& to,
                             std::vector<std::string>& not_held) {
  std::unordered_map<std::int32_t, TokenKind> added;
  for (const auto& token : spec.added_tokens) {
    added.emplace(token.id, token.special ? TokenKind::control : TokenKind::user_defined);
  }
  Table table;
  std::int32_t unknown = -1;
  for (std::size_t i = 0; i < spec.vocab.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    const std::string& token = spec.vocab[i];
    const bool hidden = i < spec.hidden.size() && spec.hidden[i];
    const auto kind = added.find(id);
    if (token.empty()) {
      table.fill(i + 1);
      continue;
    }
    const bool is_unknown = token == spec.unk_token;
    if (is_unknown) unknown = id;
    table.add(token, static_cast<float>(spec.scores[i]),
              is_unknown                      ? TokenKind::unknown
              : kind != added.end()           ? kind->second
              : hidden && is_byte_name(token) ? TokenKind::byte
              : hidden                        ? TokenKind::unused
                                              : TokenKind::normal);
  }
  table.fill(rows);
  bool prefix = false;
  bool collapse = false;
  for (const auto& step : spec.normalizers) {
    prefix = prefix || step.kind == TokenizerSpec::Normalizer::Kind::prepend;
    collapse = collapse || step.kind == TokenizerSpec::Normalizer::Kind::collapse_spaces;
    if (step.kind == TokenizerSpec::Normalizer::Kind::charsmap) not_held.emplace_back("SentencePiece's character map");
  }
  to.set("tokenizer.ggml.model", "llama");
  to.set("tokenizer.ggml.pre", "default");
  to.set("tokenizer.ggml.tokens", table.tokens);
  to.set("tokenizer.ggml.scores", table.scores);
  to.set("tokenizer.ggml.token_type", table.kinds);
  set_id(to, "bos", spec.bos_id);
  set_id(to, "eos", spec.eos_id);
  set_id(to, "unknown", unknown);
  to.set("tokenizer.ggml.add_bos_token", !spec.prefix_ids.empty());
  to.set("tokenizer.ggml.add_eos_token", !spec.suffix_ids.empty());
  to.set("tokenizer.ggml.add_space_prefix", prefix);
  to.set("tokenizer.ggml.remove_extra_whitespaces", collapse);
}

}  // namespace

Status write_vocabulary(const TokenizerSpec& spec, std::size_t rows, GgufWriter& to,
                        std::vector<std::string>& not_held) {
  if (spec.model == TokenizerSpec::Model::scored_bpe && !spec.byte_level && spec.scores.size() == spec.vocab.size()) {
    write_scored_vocabulary(spec, rows, to, not_held);
    return {};
  }
  if (spec.model != TokenizerSpec::Model::bpe || !spec.byte_level)
    return Error{ErrorCode::unsupported, "only byte-level BPE and SentencePiece's BPE are written into GGUF"};
  COVEY_ASSIGN(const std::string pre, pre_name(spec));
  if (!spec.normalizers.empty()) not_held.emplace_back("the tokenizer's normalizer");
  const bool bos = !spec.prefix_ids.empty();
  const bool eos = !spec.suffix_ids.empty();
  if (spec.prefix_ids.size() > 1 || spec.suffix_ids.size() > 1 || (bos && spec.prefix_ids[0] != spec.bos_id) ||
      (eos && spec.suffix_ids[0] != spec.eos_id)) {
    not_held.emplace_back("the tokenizer's frame (post_processor), which is more than bos and eos");
  }
  std::unordered_map<std::int32_t, TokenKind> added;
  for (const auto& token : spec.added_tokens) {
    added.emplace(token.id, token.special ? TokenKind::control : TokenKind::user_defined);
    if (token.lstrip || token.rstrip || token.single_word) {
      not_held.push_back("lstrip, rstrip or single_word of added token " + std::to_string(token.id));
    }
  }
  Table table;
  for (std::size_t i = 0; i < spec.vocab.size(); ++i) {
    const auto kind = added.find(static_cast<std::int32_t>(i));
    if (spec.vocab[i].empty()) {
      table.fill(i + 1);
    } else {
      table.add(spec.vocab[i], 0, kind == added.end() ? TokenKind::normal : kind->second);
    }
  }
  table.fill(rows);
  const auto name = [&](std::int32_t id) -> const std::string& { return spec.vocab[static_cast<std::size_t>(id)]; };
  std::vector<std::string> merges;
  merges.reserve(spec.merges.size());
  for (const auto& merge : spec.merges) merges.push_back(name(merge.left) + " " + name(merge.right));
  to.set("tokenizer.ggml.model", "gpt2");
  to.set("tokenizer.ggml.pre", pre);
  to.set("tokenizer.ggml.tokens", table.tokens);
  to.set("tokenizer.ggml.token_type", table.kinds);
  to.set("tokenizer.ggml.merges", merges);
  set_id(to, "bos", spec.bos_id);
  set_id(to, "eos", spec.eos_id);
  to.set("tokenizer.ggml.add_bos_token", bos);
  to.set("tokenizer.ggml.add_eos_token", eos);
  return {};
}

namespace {

/// tokens, scores and kinds of a "llama" vocabulary, of one length.
struct SentencePieces {
  std::span<const std::string_view> tokens;
  std::vector<double> scores;
  std::vector<std::int64_t> kinds;
};

Result<SentencePieces> sentence_pieces(const GgufFile& from) {
  COVEY_ASSIGN(const std::string model, from.get_string("tokenizer.ggml.model"));
  if (model != "llama") {
    return Error{ErrorCode::unsupported,
                 from.path() + ": its vocabulary is of model \"" + model.substr(0, 20) + "\", not \"llama\""};
  }
  SentencePieces out;
  COVEY_ASSIGN(out.tokens, from.get_strings("tokenizer.ggml.tokens"));
  COVEY_ASSIGN(out.scores, from.get_doubles("tokenizer.ggml.scores"));
  COVEY_ASSIGN(out.kinds, from.get_ints("tokenizer.ggml.token_type"));
  if (out.scores.size() != out.tokens.size() || out.kinds.size() != out.tokens.size()) {
    return from.error_at("tokenizer.ggml.scores", "and token_type have not one item for each token");
  }
  for (const std::int64_t kind : out.kinds) {
    if (kind < 1 || kind > 6) return from.error_at("tokenizer.ggml.token_type", "holds a number outside 1..6");
  }
  return out;
}

}  // namespace

Result<std::vector<ScoredPiece>> llama2c_vocabulary(const GgufFile& from, std::vector<std::string>& not_held) {
  COVEY_ASSIGN(const SentencePieces vocabulary, sentence_pieces(from));
  COVEY_ASSIGN(const std::int64_t bos, from.get_int("tokenizer.ggml.bos_token_id", kBos));
  COVEY_ASSIGN(const std::int64_t eos, from.get_int("tokenizer.ggml.eos_token_id", kEos));
  const auto kind_at = [&](std::size_t i) { return static_cast<TokenKind>(vocabulary.kinds[i]); };
  if (vocabulary.tokens.size() < 3 || kind_at(0) != TokenKind::unknown || bos != kBos || eos != kEos) {
    return Error{ErrorCode::unsupported,
                 from.path() + ": llama2.c counts on tokens 0, 1, 2 being unknown, bos and eos"};
  }
  std::vector<ScoredPiece> out;
  std::size_t lost = 0;
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    const TokenKind kind = kind_at(i);
    const std::string_view token = vocabulary.tokens[i];
    if (i > 2 && kind != TokenKind::normal && kind != TokenKind::byte) ++lost;
    std::string bytes = replaced(token, kSpaceMark, " ");
    if (i == kBos || i == kEos) bytes = "\n" + bytes + "\n";  // as llama2.c's exporter does
    out.push_back({std::move(bytes), static_cast<float>(vocabulary.scores[i])});
  }
  if (lost > 0) not_held.push_back("that " + std::to_string(lost) + " tokens are control, user-defined or unused");
  return out;
}

Status write_llama2c_tokenizer(const std::string& path, const std::vector<ScoredPiece>& pieces) {
  std::uint32_t longest = 1;
  for (const ScoredPiece& piece : pieces) {
    longest = std::max(longest, static_cast<std::uint32_t>(piece.bytes.size()));
  }
  Bytes out;
  const auto put = [&](const void* data, std::size_t size) {
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    out.insert(out.end(), bytes, bytes + size);
  };
  put(&longest, sizeof longest);
  for (const ScoredPiece& piece : pieces) {
    const auto length = static_cast<std::uint32_t>(piece.bytes.size());
    put(&piece.score, sizeof piece.score);
    put(&length, sizeof length);
    put(piece.bytes.data(), length);
  }
  return write_file_durably(path, ByteSpan(out));
}

namespace {

/// Protocol-buffer fields, as sentencepiece_model.proto numbers them.
class Proto {
 public:
  Proto& varint(int field, std::uint64_t value) {
    key(field, 0);
    put_varint(value);
    return *this;
  }
  Proto& number(int field, float value) {
    key(field, 5);
    char bytes[sizeof value];
    std::memcpy(bytes, &value, sizeof value);
    out_.append(bytes, sizeof value);
    return *this;
  }
  Proto& bytes(int field, std::string_view value) {
    key(field, 2);
    put_varint(value.size());
    out_ += value;
    return *this;
  }
  [[nodiscard]] const std::string& text() const { return out_; }

 private:
  void key(int field, int wire) { put_varint(static_cast<std::uint64_t>(field * 8 + wire)); }
  void put_varint(std::uint64_t value) {
    for (; value >= 128; value >>= 7) out_ += static_cast<char>((value & 127) | 128);
    out_ += static_cast<char>(value);
  }
  std::string out_;
};

Status write_sentencepiece(const GgufFile& from, const std::string& directory, Json& config) {
  COVEY_ASSIGN(const SentencePieces vocabulary, sentence_pieces(from));
  Proto model;
  bool byte_fallback = false;
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    byte_fallback = byte_fallback || vocabulary.kinds[i] == static_cast<std::int64_t>(TokenKind::byte);
    Proto piece;
    piece.bytes(1, vocabulary.tokens[i]).number(2, static_cast<float>(vocabulary.scores[i]));
    piece.varint(3, static_cast<std::uint64_t>(vocabulary.kinds[i]));
    model.bytes(1, piece.text());
  }
  Proto trainer;
  constexpr std::uint64_t kBpe = 2;
  trainer.varint(3, kBpe).varint(4, vocabulary.tokens.size()).varint(35, byte_fallback ? 1 : 0);
  const struct {
    const char* key;
    int field;
    std::int64_t fallback;
  } ids[] = {{"unknown", 40, kUnknown}, {"bos", 41, kBos}, {"eos", 42, kEos}, {"padding", 43, -1}};
  for (const auto& id : ids) {
    const std::string key = std::string("tokenizer.ggml.") + id.key + "_token_id";
    COVEY_ASSIGN(const std::int64_t value, from.get_int(key, id.fallback));
    const bool known = value >= 0 && static_cast<std::size_t>(value) < vocabulary.tokens.size();
    trainer.varint(id.field, known ? static_cast<std::uint64_t>(value) : ~std::uint64_t{0});  // -1: none
  }
  COVEY_ASSIGN(const bool prefix, from.get_bool("tokenizer.ggml.add_space_prefix", true));
  Proto normalizer;  // name, add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces
  normalizer.bytes(1, "identity").varint(3, prefix ? 1 : 0).varint(4, 0).varint(5, 1);
  model.bytes(2, trainer.text()).bytes(3, normalizer.text());
  config.set("tokenizer_class", "LlamaTokenizer").set("legacy", true);
  return write_file_durably(directory + "/tokenizer.model", std::string_view(model.text()));
}

}  // namespace

Status write_hf_tokenizer(const GgufFile& from, const std::string& directory) {
  COVEY_ASSIGN(const std::string model, from.get_string("tokenizer.ggml.model"));
  if (model == "gpt2") {
    COVEY_ASSIGN(const TokenizerSpec spec, gguf_tokenizer(from));
    COVEY_TRY(write_byte_level_tokenizer(directory, spec));
    COVEY_ASSIGN(const std::string jinja, from.get_string("tokenizer.chat_template", ""));
    if (jinja.empty()) return {};
    const std::string path = directory + "/tokenizer_config.json";
    COVEY_ASSIGN(Json stated, Json::load(path));
    stated.set("chat_template", jinja);
    return stated.save(path);
  }
  Json config = Json::object();
  COVEY_TRY(write_sentencepiece(from, directory, config));
  COVEY_ASSIGN(const bool bos, from.get_bool("tokenizer.ggml.add_bos_token", true));
  COVEY_ASSIGN(const bool eos, from.get_bool("tokenizer.ggml.add_eos_token", false));
  config.set("add_bos_token", bos).set("add_eos_token", eos);
  COVEY_ASSIGN(const std::string chat, from.get_string("tokenizer.chat_template", ""));
  if (!chat.empty()) config.set("chat_template", chat);
  const auto tokens = from.get_strings("tokenizer.ggml.tokens").value();
  for (const char* name : {"bos", "eos", "unknown"}) {
    COVEY_ASSIGN(const std::int64_t id, from.get_int(std::string("tokenizer.ggml.") + name + "_token_id", -1));
    if (id < 0 || static_cast<std::size_t>(id) >= tokens.size()) continue;
    const std::string field = std::string_view(name) == "unknown" ? "unk" : name;
    config.set(field + "_token", std::string(tokens[static_cast<std::size_t>(id)]));
  }
  return config.save(directory + "/tokenizer_config.json");
}

}  // namespace covey::formats

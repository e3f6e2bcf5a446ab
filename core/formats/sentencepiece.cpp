#include "core/formats/sentencepiece.h"

#include <cstring>
#include <string_view>

namespace covey::formats {
namespace {

constexpr std::size_t kPiecesMax = std::size_t{1} << 21;

/// One field of a message.
struct Field {
  std::uint64_t number = 0;
  int wire = 0;
  std::uint64_t value = 0;  // varint and fixed
  std::string_view bytes;   // length-delimited
};

/// Reads fields one after the other; every length is checked against what is left.
class Message {
 public:
  Message(std::string_view bytes, const std::string& where) : rest_(bytes), where_(where) {}
  [[nodiscard]] bool done() const { return rest_.empty(); }
  Result<Field> next() {
    Field field;
    COVEY_ASSIGN(const std::uint64_t key, varint());
    field.number = key >> 3;
    field.wire = static_cast<int>(key & 7);
    switch (field.wire) {
      case 0: {
        COVEY_ASSIGN(field.value, varint());
        return field;
      }
      case 1:
      case 5: {
        const std::size_t size = field.wire == 1 ? 8 : 4;
        if (rest_.size() < size) return broken("ends inside a number");
        std::memcpy(&field.value, rest_.data(), size);
        rest_.remove_prefix(size);
        return field;
      }
      case 2: {
        COVEY_ASSIGN(const std::uint64_t size, varint());
        if (size > rest_.size()) return broken("a field is longer than what is left of the file");
        field.bytes = rest_.substr(0, static_cast<std::size_t>(size));
        rest_.remove_prefix(static_cast<std::size_t>(size));
        return field;
      }
      default:
        return broken("is no protocol-buffer message");
    }
  }
  [[nodiscard]] Error broken(const std::string& what) const { return {ErrorCode::corrupt_data, where_ + ": " + what}; }

 private:
  Result<std::uint64_t> varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return broken("ends inside a number");
      const auto byte = static_cast<unsigned char>(rest_[0]);
      rest_.remove_prefix(1);
      value |= static_cast<std::uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
    return broken("holds a number longer than 64 bits");
  }

  std::string_view rest_;
  const std::string& where_;
};

float as_float(const Field& field) {
  float value = 0;
  const auto bits = static_cast<std::uint32_t>(field.value);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

struct Trainer {
  std::int64_t model_type = 1;  // unigram
  bool byte_fallback = false;
  bool suffix_spaces = false;
  std::int64_t unk_id = 0, bos_id = 1, eos_id = 2;
};

Status read_piece(std::string_view bytes, const std::string& where, TokenizerSpec& spec) {
  if (spec.vocab.size() >= kPiecesMax) return Error{ErrorCode::corrupt_data, where + ": has more than 2097152 pieces"};
  Message message(bytes, where);
  std::string text;
  float score = 0;
  std::uint64_t kind = 1;
  while (!message.done()) {
    COVEY_ASSIGN(const Field field, message.next());
    if (field.number == 1 && field.wire == 2) text = field.bytes;
    if (field.number == 2 && field.wire == 5) score = as_float(field);
    if (field.number == 3 && field.wire == 0) kind = field.value;
  }
  if (text.empty() || text.size() > kPieceBytesMax || kind < 1 || kind > 6 || !(score - score == 0)) {
    return message.broken("piece " + std::to_string(spec.vocab.size()) +
                          " is empty, longer than 1024 bytes, of an unknown kind, or its score is not finite");
  }
  spec.vocab.push_back(std::move(text));
  spec.scores.push_back(static_cast<double>(score));
  use_piece(static_cast<std::int32_t>(spec.vocab.size() - 1), static_cast<TokenKind>(kind), spec);
  return {};
}

Result<Trainer> read_trainer(std::string_view bytes, const std::string& where) {
  Message message(bytes, where);
  Trainer out;
  while (!message.done()) {
    COVEY_ASSIGN(const Field field, message.next());
    if (field.wire != 0) continue;
    const auto number = static_cast<std::int32_t>(field.value);  // negative ones are written with 64 bits
    if (field.number == 3) out.model_type = number;
    if (field.number == 24) out.suffix_spaces = field.value != 0;
    if (field.number == 35) out.byte_fallback = field.value != 0;
    if (field.number == 40) out.unk_id = number;
    if (field.number == 41) out.bos_id = number;
    if (field.number == 42) out.eos_id = number;
  }
  return out;
}

struct NormalizerFields {
  SentencePieceOptions text;
  bool escape = true;
};

Result<NormalizerFields> read_normalizer(std::string_view bytes, const std::string& where) {
  Message message(bytes, where);
  NormalizerFields out;
  out.text.collapse_spaces = true;
  while (!message.done()) {
    COVEY_ASSIGN(const Field field, message.next());
    if (field.number == 2 && field.wire == 2) out.text.charsmap = field.bytes;
    if (field.wire != 0) continue;
    if (field.number == 3) out.text.add_prefix = field.value != 0;
    if (field.number == 4) out.text.collapse_spaces = field.value != 0;
    if (field.number == 5) out.escape = field.value != 0;
  }
  return out;
}

}  // namespace

void use_piece(std::int32_t id, TokenKind kind, TokenizerSpec& spec) {
  const auto at = static_cast<std::size_t>(id);
  if (spec.hidden.size() <= at) spec.hidden.resize(at + 1, false);
  spec.hidden[at] = kind != TokenKind::normal && kind != TokenKind::user_defined;
  if (kind == TokenKind::byte) spec.byte_fallback = true;
  if (kind == TokenKind::unknown && spec.unk_token.empty()) spec.unk_token = spec.vocab[at];
  if ((kind == TokenKind::control || kind == TokenKind::user_defined) && !spec.vocab[at].empty()) {
    spec.added_tokens.push_back({.id = id, .content = spec.vocab[at], .special = kind == TokenKind::control});
  }
}

void use_sentencepiece_text(const SentencePieceOptions& options, TokenizerSpec& spec) {
  using Kind = TokenizerSpec::Normalizer::Kind;
  const std::string mark = "\xE2\x96\x81";
  spec.normalizers.clear();
  if (!options.charsmap.empty()) spec.normalizers.push_back({.kind = Kind::charsmap, .content = options.charsmap});
  if (options.collapse_spaces) spec.normalizers.push_back({.kind = Kind::collapse_spaces});
  if (options.add_prefix) spec.normalizers.push_back({.kind = Kind::prepend, .content = mark});
  spec.normalizers.push_back({.kind = Kind::replace, .pattern = " ", .content = mark});
  spec.pre_tokenizers.clear();
  spec.decode_space = mark;
  spec.decode_strip_space = options.add_prefix;
}

Result<TokenizerSpec> parse_sentencepiece(ByteSpan file, const std::string& where) {
  Message message({reinterpret_cast<const char*>(file.data()), file.size()}, where);
  TokenizerSpec spec;
  Trainer trainer;
  NormalizerFields normalizer;
  normalizer.text.collapse_spaces = true;
  while (!message.done()) {
    COVEY_ASSIGN(const Field field, message.next());
    if (field.wire != 2) continue;
    if (field.number == 1) COVEY_TRY(read_piece(field.bytes, where, spec));
    if (field.number == 2) {
      COVEY_ASSIGN(trainer, read_trainer(field.bytes, where));
    }
    if (field.number == 3) {
      COVEY_ASSIGN(normalizer, read_normalizer(field.bytes, where));
    }
  }
  if (spec.vocab.empty()) return message.broken("is no SentencePiece model: it has no pieces");
  const auto refuse = [&](const char* what) { return Error{ErrorCode::unsupported, where + ": " + what}; };
  if (trainer.model_type != 1 && trainer.model_type != 2) return refuse("word and char models are not supported");
  if (trainer.suffix_spaces) return refuse("treat_whitespace_as_suffix is not supported");
  if (!normalizer.escape) return refuse("spaces that are not escaped are not supported");
  spec.model = trainer.model_type == 1 ? TokenizerSpec::Model::unigram : TokenizerSpec::Model::scored_bpe;
  spec.fuse_unk = true;
  spec.byte_fallback = spec.byte_fallback && trainer.byte_fallback;
  use_sentencepiece_text(normalizer.text, spec);
  const auto known = [&](std::int64_t id) {
    return id >= 0 && id < static_cast<std::int64_t>(spec.vocab.size()) ? static_cast<std::int32_t>(id) : -1;
  };
  spec.bos_id = known(trainer.bos_id);
  spec.eos_id = known(trainer.eos_id);
  if (spec.model == TokenizerSpec::Model::scored_bpe && spec.bos_id >= 0) spec.prefix_ids = {spec.bos_id};
  if (spec.model == TokenizerSpec::Model::unigram && spec.eos_id >= 0) spec.suffix_ids = {spec.eos_id};
  return spec;
}

}  // namespace covey::formats

#include "core/text/bpe_tokenizer.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <unordered_map>

#include "core/text/bpe_merge.h"
#include "core/text/split.h"
#include "core/text/unicode.h"

namespace covey::text {
namespace {

using Spec = formats::TokenizerSpec;

struct TextHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    if (text.compare(i, from.size(), from) == 0) {
      out += to;
      i += from.size();
    } else {
      out += text[i++];
    }
  }
  return out;
}

class BpeTokenizer final : public Tokenizer {
 public:
  explicit BpeTokenizer(Spec spec);

  std::vector<std::int32_t> encode(std::string_view text, bool add_special) const override;
  std::string piece(std::int32_t id, bool at_start) const override;
  bool is_special(std::int32_t id) const override {
    return id >= 0 && id < vocab_size_ && kinds_[static_cast<std::size_t>(id)] == Kind::special;
  }

 private:
  enum class Kind : std::uint8_t { plain, added, special };

  const Spec::AddedToken* added_at(std::string_view text, std::size_t at) const;
  void encode_segment(std::string_view segment, bool first, std::vector<std::int32_t>& out) const;
  void encode_word(std::string_view word, std::vector<std::int32_t>& out) const;
  void add_symbols(std::string_view word, std::vector<std::int32_t>& ids) const;
  std::string normalized(std::string_view segment) const;
  static std::vector<std::string> pre_split(const Spec::PreTokenizer& step, std::string_view text, bool first);
  std::int32_t id_of(std::string_view token) const {
    const auto it = index_.find(token);
    return it == index_.end() ? -1 : it->second;
  }

  Spec spec_;
  std::unordered_map<std::string, std::int32_t, TextHash, std::equal_to<>> index_;
  MergeTable merges_;
  std::array<std::int32_t, 256> byte_ids_{};  // byte-level symbols, or <0xXX> tokens; -1: none
  std::int32_t unk_id_ = -1;
  std::vector<Kind> kinds_;
  std::array<std::vector<const Spec::AddedToken*>, 256> added_;  // by first byte, longest first
};

BpeTokenizer::BpeTokenizer(Spec spec) : spec_(std::move(spec)), kinds_(spec_.vocab.size(), Kind::plain) {
  vocab_size_ = static_cast<std::int32_t>(spec_.vocab.size());
  bos_id_ = spec_.bos_id;
  eos_id_ = spec_.eos_id;
  index_.reserve(spec_.vocab.size());
  for (std::size_t id = 0; id < spec_.vocab.size(); ++id) {
    if (!spec_.vocab[id].empty()) index_.emplace(spec_.vocab[id], static_cast<std::int32_t>(id));
  }
  merges_.reserve(spec_.merges.size());
  for (std::size_t rank = 0; rank < spec_.merges.size(); ++rank) {
    const auto& merge = spec_.merges[rank];
    merges_.add(merge.left, merge.right, {static_cast<double>(rank), merge.result});
  }
  for (int b = 0; b < 256; ++b) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", b);
    const auto i = static_cast<std::size_t>(b);
    byte_ids_[i] = spec_.byte_level ? id_of(byte_alphabet()[i]) : spec_.byte_fallback ? id_of(name) : -1;
  }
  if (!spec_.unk_token.empty()) unk_id_ = id_of(spec_.unk_token);
  for (const Spec::AddedToken& token : spec_.added_tokens) {
    kinds_[static_cast<std::size_t>(token.id)] = token.special ? Kind::special : Kind::added;
    added_[static_cast<unsigned char>(token.content[0])].push_back(&token);
  }
  for (auto& list : added_) {
    std::ranges::stable_sort(list, [](const auto* a, const auto* b) { return a->content.size() > b->content.size(); });
  }
}

const Spec::AddedToken* BpeTokenizer::added_at(std::string_view text, std::size_t at) const {
  const auto is_word = [&](std::size_t i) {
    const CharClass kind = character_at(text, i).kind;
    return kind == CharClass::letter || kind == CharClass::number || text[i] == '_';
  };
  for (const Spec::AddedToken* token : added_[static_cast<unsigned char>(text[at])]) {
    if (text.compare(at, token->content.size(), token->content) != 0) continue;
    if (token->single_word) {
      std::size_t before = at;
      while (before > 0 && (static_cast<unsigned char>(text[before - 1]) & 0xC0) == 0x80) --before;
      if (before > 0 && is_word(before - 1)) continue;
      const std::size_t after = at + token->content.size();
      if (after < text.size() && is_word(after)) continue;
    }
    return token;
  }
  return nullptr;
}

std::vector<std::int32_t> BpeTokenizer::encode(std::string_view text, bool add_special) const {
  std::vector<std::int32_t> out;
  if (add_special) out = spec_.prefix_ids;
  std::size_t start = 0;  // of the stretch without added tokens
  for (std::size_t at = 0; at < text.size();) {
    const Spec::AddedToken* token = added_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    std::size_t end = at;
    while (token->lstrip && end > start && character_at(text, end - 1).kind == CharClass::space) --end;
    encode_segment(text.substr(start, end - start), start == 0, out);
    out.push_back(token->id);
    at += token->content.size();
    while (token->rstrip && at < text.size() && character_at(text, at).kind == CharClass::space) {
      at += character_at(text, at).length;
    }
    start = at;
  }
  encode_segment(text.substr(start), start == 0, out);
  if (add_special) out.insert(out.end(), spec_.suffix_ids.begin(), spec_.suffix_ids.end());
  return out;
}

std::string BpeTokenizer::normalized(std::string_view segment) const {
  using Step = Spec::Normalizer::Kind;
  std::string text(segment);
  for (const Spec::Normalizer& step : spec_.normalizers) {
    switch (step.kind) {
      case Step::nfc:
        text = normalize(text, NormalForm::nfc);
        break;
      case Step::nfd:
        text = normalize(text, NormalForm::nfd);
        break;
      case Step::nfkc:
        text = normalize(text, NormalForm::nfkc);
        break;
      case Step::nfkd:
        text = normalize(text, NormalForm::nfkd);
        break;
      case Step::prepend:
        if (!text.empty()) text = step.content + text;
        break;
      case Step::replace:
        text = replace_all(text, step.pattern, step.content);
        break;
    }
  }
  return text;
}

/// One pre-tokenizer applied to one piece. Strings, not views: some steps change the text.
std::vector<std::string> BpeTokenizer::pre_split(const Spec::PreTokenizer& step, std::string_view text, bool first) {
  using Step = Spec::PreTokenizer::Kind;
  using Prepend = Spec::PreTokenizer::Prepend;
  Pieces pieces;
  std::string changed;
  switch (step.kind) {
    case Step::gpt2_split:
    case Step::byte_level:
      if (step.add_prefix_space && !text.empty() && character_at(text, 0).kind != CharClass::space) {
        changed = " " + std::string(text);
        text = changed;
      }
      if (step.kind == Step::gpt2_split) {
        split_gpt2(text, pieces);
      } else {
        pieces.push_back(text);
      }
      break;
    case Step::llama3_split:
      split_llama3(text, 3, pieces);
      break;
    case Step::qwen2_split:
      split_llama3(text, 1, pieces);
      break;
    case Step::digits:
      split_digits(text, step.individual, pieces);
      break;
    case Step::metaspace: {
      changed = replace_all(text, " ", step.replacement);
      const bool wanted = step.prepend == Prepend::always || (step.prepend == Prepend::first && first);
      if (wanted && !changed.starts_with(step.replacement)) changed = step.replacement + changed;
      const std::string_view all = changed;
      std::size_t start = 0;
      for (std::size_t at = all.find(step.replacement, 1); step.split && at != std::string_view::npos;
           at = all.find(step.replacement, at + 1)) {
        pieces.push_back(all.substr(start, at - start));
        start = at;
      }
      pieces.push_back(all.substr(start));
      break;
    }
  }
  return {pieces.begin(), pieces.end()};
}

void BpeTokenizer::encode_segment(std::string_view segment, bool first, std::vector<std::int32_t>& out) const {
  if (segment.empty()) return;
  std::vector<std::string> pieces = {normalized(segment)};
  for (const Spec::PreTokenizer& step : spec_.pre_tokenizers) {
    std::vector<std::string> next;
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      auto parts = pre_split(step, pieces[i], first && i == 0);
      next.insert(next.end(), std::make_move_iterator(parts.begin()), std::make_move_iterator(parts.end()));
    }
    pieces = std::move(next);
  }
  for (const std::string& word : pieces) encode_word(word, out);
}

void BpeTokenizer::add_symbols(std::string_view word, std::vector<std::int32_t>& ids) const {
  const auto unknown = [&] {
    if (unk_id_ >= 0 && !(spec_.fuse_unk && !ids.empty() && ids.back() == unk_id_)) ids.push_back(unk_id_);
  };
  for (std::size_t i = 0; i < word.size();) {
    const Character c = character_at(word, i);
    const std::string_view bytes = word.substr(i, c.length);
    i += c.length;
    if (spec_.byte_level) {
      for (const char b : bytes) {
        const std::int32_t id = byte_ids_[static_cast<unsigned char>(b)];
        if (id >= 0) {
          ids.push_back(id);
        } else {
          unknown();
        }
      }
      continue;
    }
    const std::int32_t id = c.valid ? id_of(bytes) : -1;
    const bool all_bytes =
        std::ranges::all_of(bytes, [&](char b) { return byte_ids_[static_cast<unsigned char>(b)] >= 0; });
    if (id >= 0) {
      ids.push_back(id);
    } else if (all_bytes) {
      for (const char b : bytes) ids.push_back(byte_ids_[static_cast<unsigned char>(b)]);
    } else {
      unknown();
    }
  }
}

void BpeTokenizer::encode_word(std::string_view word, std::vector<std::int32_t>& out) const {
  if (spec_.ignore_merges) {
    std::string spelled;
    if (spec_.byte_level) {
      for (const char b : word) spelled += byte_alphabet()[static_cast<unsigned char>(b)];
    } else {
      spelled = word;
    }
    if (const std::int32_t id = id_of(spelled); id >= 0) {
      out.push_back(id);
      return;
    }
  }
  std::vector<std::int32_t> ids;
  ids.reserve(word.size());
  add_symbols(word, ids);
  merges_.apply(ids);
  out.insert(out.end(), ids.begin(), ids.end());
}

std::string BpeTokenizer::piece(std::int32_t id, bool at_start) const {
  if (id < 0 || id >= vocab_size_) return {};
  const std::string& token = spec_.vocab[static_cast<std::size_t>(id)];
  if (kinds_[static_cast<std::size_t>(id)] != Kind::plain) return token;
  std::string text;
  if (spec_.byte_level) {
    for (std::size_t i = 0; i < token.size();) {
      const Character c = character_at(token, i);
      const auto byte = byte_of(c.code);
      if (byte) {
        text += static_cast<char>(*byte);
      } else {
        text += token.substr(i, c.length);
      }
      i += c.length;
    }
    return text;
  }
  if (spec_.byte_fallback && token.size() == 6 && token.starts_with("<0x")) {
    for (int b = 0; b < 256; ++b) {
      if (byte_ids_[static_cast<std::size_t>(b)] == id) return {static_cast<char>(b)};
    }
  }
  text = spec_.decode_space.empty() ? token : replace_all(token, spec_.decode_space, " ");
  if (at_start && spec_.decode_strip_space && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

}  // namespace

std::shared_ptr<const Tokenizer> make_bpe_tokenizer(formats::TokenizerSpec spec) {
  return std::make_shared<const BpeTokenizer>(std::move(spec));
}

Result<std::shared_ptr<const Tokenizer>> load_tokenizer_json(const std::string& path) {
  COVEY_ASSIGN(auto spec, formats::read_tokenizer_json(path));
  return make_bpe_tokenizer(std::move(spec));
}

}  // namespace covey::text

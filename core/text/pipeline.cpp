#include "core/text/pipeline.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/text/added_tokens.h"
#include "core/text/normalizer.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/split.h"
#include "core/text/unicode.h"
#include "core/text/word_cache.h"
#include "core/text/word_model.h"

namespace covey::text {
namespace {

using Spec = formats::TokenizerSpec;

constexpr std::size_t kTextWorthCache = 4096;

std::unique_ptr<const WordModel> make_model(const Spec& spec) {
  switch (spec.model) {
    case Spec::Model::unigram:
      return make_unigram_model(spec);
    case Spec::Model::wordpiece:
      return make_wordpiece_model(spec);
    default:
      return make_bpe_model(spec);
  }
}

class Pipeline final : public Tokenizer {
 public:
  Pipeline(Spec spec, Normalizer normalizer, PreTokenizer pre_tokenizer)
      : spec_(std::move(spec)),
        normalizer_(std::move(normalizer)),
        pre_tokenizer_(std::move(pre_tokenizer)),
        model_(make_model(spec_)),
        kinds_(spec_.vocab.size(), Kind::plain),
        byte_ids_(256, -1) {
    vocab_size_ = static_cast<std::int32_t>(spec_.vocab.size());
    bos_id_ = spec_.bos_id;
    eos_id_ = spec_.eos_id;
    byte_ids_ = fallback_bytes(spec_);
    for (std::size_t b = 0; b < 256; ++b) {
      if (byte_ids_[b] >= 0) kinds_[static_cast<std::size_t>(byte_ids_[b])] = Kind::byte;
    }
    for (const Spec::AddedToken& token : spec_.added_tokens) {
      kinds_[static_cast<std::size_t>(token.id)] = token.special ? Kind::special : Kind::added;
      if (token.normalized && !normalizer_.empty()) {
        Spec::AddedToken changed = token;
        changed.content = normalizer_.apply(token.content);
        added_normalized_.add(std::move(changed));
      } else {
        (token.normalized ? added_normalized_ : added_).add(token);
      }
    }
    added_.sort();
    added_normalized_.sort();
  }

  std::vector<std::int32_t> encode(std::string_view text, bool add_special) const override {
    std::vector<std::int32_t> out;
    if (add_special) out = spec_.prefix_ids;
    out.reserve(out.size() + text.size() / 3 + spec_.suffix_ids.size());
    std::optional<WordCache> cache;
    if (text.size() >= kTextWorthCache) cache.emplace(*model_);
    Words words;
    const auto put = [&](std::int32_t id) { out.push_back(id); };
    const auto to_words = [&](std::string_view stretch, bool first) {
      pre_tokenizer_.apply(stretch, first, words);
      for (const std::string_view word : words.pieces) {
        cache ? cache->encode(word, out) : model_->encode(word, out);
      }
      words.owned.clear();
    };
    added_.cut(
        text,
        [&](std::string_view raw, bool first) {
          std::string changed;
          if (!normalizer_.empty()) raw = changed = normalizer_.apply(raw);
          added_normalized_.cut(
              raw, [&](std::string_view stretch, bool begins) { to_words(stretch, first && begins); }, put);
        },
        put);
    if (add_special) out.insert(out.end(), spec_.suffix_ids.begin(), spec_.suffix_ids.end());
    return out;
  }

  std::string piece(std::int32_t id, bool at_start) const override {
    if (id < 0 || id >= vocab_size_) return {};
    const std::string& token = spec_.vocab[static_cast<std::size_t>(id)];
    if (spec_.decode_words) return spaced(token, at_start);
    switch (kinds_[static_cast<std::size_t>(id)]) {
      case Kind::added:
      case Kind::special:
        return token;
      case Kind::byte:
        return {static_cast<char>(std::ranges::find(byte_ids_, id) - byte_ids_.begin())};
      case Kind::plain:
        break;
    }
    if (spec_.byte_level) return spelled(token);
    std::string text = spec_.decode_space.empty() ? token : replace_all(token, spec_.decode_space, " ");
    if (at_start && spec_.decode_strip_space && text.starts_with(' ')) text.erase(0, 1);
    return text;
  }

  bool is_special(std::int32_t id) const override {
    return id >= 0 && id < vocab_size_ && kinds_[static_cast<std::size_t>(id)] == Kind::special;
  }

 private:
  enum class Kind : std::uint8_t { plain, added, special, byte };

  /// ByteLevel's alphabet back to bytes.
  static std::string spelled(const std::string& token) {
    std::string text;
    for (std::size_t i = 0; i < token.size();) {
      const Character c = character_at(token, i);
      const auto byte = byte_of(c.code);
      if (c.valid && byte) {
        text += static_cast<char>(*byte);
      } else {
        text += token.substr(i, c.length);
      }
      i += c.length;
    }
    return text;
  }

  /// WordPiece's decoder.
  std::string spaced(const std::string& token, bool at_start) const {
    const bool inside = !spec_.decode_prefix.empty() && token.starts_with(spec_.decode_prefix);
    std::string text = at_start ? token : inside ? token.substr(spec_.decode_prefix.size()) : " " + token;
    if (!spec_.decode_cleanup) return text;
    static constexpr std::pair<std::string_view, std::string_view> kTight[] = {
        {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
        {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [loose, tight] : kTight) text = replace_all(text, loose, tight);
    return text;
  }

  Spec spec_;
  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<const WordModel> model_;  // borrows spec_
  std::vector<Kind> kinds_;
  std::vector<std::int32_t> byte_ids_;
  AddedTokens added_;
  AddedTokens added_normalized_;
};

}  // namespace

Result<std::shared_ptr<const Tokenizer>> make_tokenizer(formats::TokenizerSpec spec) {
  COVEY_ASSIGN(auto normalizer, Normalizer::make(spec.normalizers));
  COVEY_ASSIGN(auto pre_tokenizer, PreTokenizer::make(spec.pre_tokenizers));
  return std::shared_ptr<const Tokenizer>(
      std::make_shared<const Pipeline>(std::move(spec), std::move(normalizer), std::move(pre_tokenizer)));
}

}  // namespace covey::text

#include <algorithm>
#include <array>
#include <deque>

#include "core/text/bpe_merge.h"
#include "core/text/split.h"
#include "core/text/unicode.h"
#include "core/text/word_model.h"

namespace covey::text {
namespace {

using Spec = formats::TokenizerSpec;

class BpeModel final : public WordModel {
 public:
  explicit BpeModel(const Spec& spec) : spec_(spec), index_(spec.vocab, spec.hidden), bytes_(fallback_bytes(spec)) {
    for (std::size_t b = 0; spec.byte_level && b < 256; ++b) bytes_[b] = index_.find(byte_alphabet()[b]);
    if (!spec.unk_token.empty()) unknown_ = formats::token_id(spec, spec.unk_token);
    if (spec.model == Spec::Model::scored_bpe) {
      add_lone_characters();
      merges_.add_scored(spec.vocab, spec.scores, spec.hidden,
                         [this](std::string_view token) { return index_.find(token); });
    } else {
      merges_.reserve(spec.merges.size());
      for (std::size_t rank = 0; rank < spec.merges.size(); ++rank) {
        const auto& merge = spec.merges[rank];
        merges_.add(merge.left, merge.right, {static_cast<double>(rank), merge.result});
      }
    }
  }

  void encode(std::string_view word, std::vector<std::int32_t>& out) const override {
    if (spec_.ignore_merges) {
      std::string spelled;
      for (const char b : word) {
        spec_.byte_level ? spelled += byte_alphabet()[static_cast<unsigned char>(b)] : spelled += b;
      }
      if (const std::int32_t id = index_.find(spelled); id >= 0 && id < vocab_size()) {
        out.push_back(id);
        return;
      }
    }
    const std::size_t begin = out.size();
    add_symbols(word, out);
    merges_.apply(out, begin);
    if (!lone_.empty()) spell_lone(begin, out);
  }

 private:
  [[nodiscard]] std::int32_t vocab_size() const { return static_cast<std::int32_t>(spec_.vocab.size()); }

  /// SentencePiece merges characters that are no tokens themselves where a token holds them: they get ids above the
  /// vocabulary for the time of merging.
  void add_lone_characters() {
    if (spec_.byte_level) return;
    for (std::size_t id = 0; id < spec_.vocab.size(); ++id) {
      const std::string& token = spec_.vocab[id];
      if (id < spec_.hidden.size() && spec_.hidden[id]) continue;
      for (std::size_t i = 0; i < token.size();) {
        const std::size_t length = character_at(token, i).length;
        const std::string_view character = std::string_view(token).substr(i, length);
        if (index_.find(character) < 0) {
          lone_.emplace_back(character);
          index_.add(lone_.back(), vocab_size() + static_cast<std::int32_t>(lone_.size()) - 1);
        }
        i += length;
      }
    }
  }

  void add_unknown(std::size_t begin, std::vector<std::int32_t>& ids) const {
    if (unknown_ < 0 || (spec_.fuse_unk && ids.size() > begin && ids.back() == unknown_)) return;
    ids.push_back(unknown_);
  }

  void add_bytes(std::string_view bytes, std::size_t begin, std::vector<std::int32_t>& ids) const {
    const auto known = [&](char b) { return bytes_[static_cast<unsigned char>(b)] >= 0; };
    if (!std::ranges::all_of(bytes, known)) return add_unknown(begin, ids);
    for (const char b : bytes) ids.push_back(bytes_[static_cast<unsigned char>(b)]);
  }

  void add_symbols(std::string_view word, std::vector<std::int32_t>& ids) const {
    const std::size_t begin = ids.size();
    if (spec_.byte_level) {
      for (std::size_t i = 0; i < word.size(); ++i) add_bytes(word.substr(i, 1), begin, ids);
      return;
    }
    for (std::size_t i = 0; i < word.size();) {
      const Character c = character_at(word, i);
      const std::string_view bytes = word.substr(i, c.length);
      i += c.length;
      const std::int32_t id = c.valid ? index_.find(bytes) : -1;
      if (id >= 0) {
        ids.push_back(id);
      } else {
        add_bytes(bytes, begin, ids);
      }
    }
  }

  /// Lone characters that found no partner become bytes or the unknown token.
  void spell_lone(std::size_t begin, std::vector<std::int32_t>& ids) const {
    const auto is_lone = [&](std::int32_t id) { return id >= vocab_size(); };
    if (std::none_of(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end(), is_lone)) return;
    const std::vector<std::int32_t> merged(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end());
    ids.resize(begin);
    for (const std::int32_t id : merged) {
      if (is_lone(id)) {
        add_bytes(lone_[static_cast<std::size_t>(id - vocab_size())], begin, ids);
      } else {
        ids.push_back(id);
      }
    }
  }

  const Spec& spec_;
  VocabIndex index_;
  std::deque<std::string> lone_;
  std::vector<std::int32_t> bytes_;
  MergeTable merges_;
  std::int32_t unknown_ = -1;
};

}  // namespace

std::unique_ptr<const WordModel> make_bpe_model(const formats::TokenizerSpec& spec) {
  return std::make_unique<const BpeModel>(spec);
}

}  // namespace covey::text

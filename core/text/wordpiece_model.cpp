// The longest token that a word begins with, again and again; a word with a gap is unknown as a whole. Source:
// google-research/bert, tokenization.py (WordpieceTokenizer).
#include <algorithm>

#include "core/text/unicode.h"
#include "core/text/word_model.h"

namespace covey::text {
namespace {

class WordPieceModel final : public WordModel {
 public:
  explicit WordPieceModel(const formats::TokenizerSpec& spec)
      : spec_(spec), index_(spec.vocab, spec.hidden), unknown_(index_.find(spec.unk_token)) {}

  void encode(std::string_view word, std::vector<std::int32_t>& out) const override {
    const std::size_t before = out.size();
    std::vector<std::size_t> bounds = {0};  // of characters
    for (std::size_t at = 0; at < word.size(); bounds.push_back(at)) at += character_at(word, at).length;
    if (static_cast<std::int64_t>(bounds.size()) - 1 > spec_.word_characters_max) return fail(before, out);
    std::string token;
    for (std::size_t begin = 0; begin + 1 < bounds.size();) {
      std::int32_t found = -1;
      std::size_t end = bounds.size() - 1;
      // No token is longer than the longest one: without this a long word costs its square.
      while (end > begin + 1 && bounds[end] - bounds[begin] > index_.longest()) --end;
      for (; end > begin; --end) {
        token = begin > 0 ? spec_.continuing_prefix : "";
        token += word.substr(bounds[begin], bounds[end] - bounds[begin]);
        found = index_.find(token);
        if (found >= 0) break;
      }
      if (found < 0) return fail(before, out);
      out.push_back(found);
      begin = end;
    }
  }

 private:
  void fail(std::size_t before, std::vector<std::int32_t>& out) const {
    out.resize(before);
    if (unknown_ >= 0) out.push_back(unknown_);
  }

  const formats::TokenizerSpec& spec_;
  VocabIndex index_;
  std::int32_t unknown_;
};

}  // namespace

std::unique_ptr<const WordModel> make_wordpiece_model(const formats::TokenizerSpec& spec) {
  return std::make_unique<const WordPieceModel>(spec);
}

}  // namespace covey::text

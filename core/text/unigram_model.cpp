// The cut of a word into tokens with the highest sum of scores. Source: Kudo, ACL 2018; sentencepiece's and
// huggingface/tokenizers' treatment of unknown characters.
#include <algorithm>
#include <limits>

#include "core/text/unicode.h"
#include "core/text/word_model.h"

namespace covey::text {
namespace {

constexpr double kUnknownPenalty = 10.0;  // below the lowest score, in both libraries

class UnigramModel final : public WordModel {
 public:
  explicit UnigramModel(const formats::TokenizerSpec& spec)
      : spec_(spec), index_(spec.vocab, spec.hidden), bytes_(fallback_bytes(spec)) {
    double lowest = std::numeric_limits<double>::max();
    for (std::size_t id = 0; id < spec.scores.size(); ++id) {
      if (!spec.hidden[id]) lowest = std::min(lowest, spec.scores[id]);
    }
    unknown_score_ = lowest - kUnknownPenalty;
    unknown_ = spec.unk_token.empty() ? -1 : formats::token_id(spec, spec.unk_token);
    const auto has_byte = [](std::int32_t id) { return id >= 0; };
    all_bytes_ = std::ranges::all_of(bytes_, has_byte);
  }

  void encode(std::string_view word, std::vector<std::int32_t>& out) const override {
    struct Node {
      double score = 0;
      std::size_t from = kNone;
      std::int32_t id = -1;  // -1: unknown
    };
    std::vector<Node> best(word.size() + 1);
    best[0].from = 0;
    const auto offer = [&](std::size_t from, std::size_t to, std::int32_t id, double score) {
      const double sum = best[from].score + score;
      if (best[to].from == kNone || sum > best[to].score) best[to] = {sum, from, id};
    };
    for (std::size_t at = 0; at < word.size();) {
      const std::size_t first = character_at(word, at).length;
      bool covered = false;
      for (std::size_t end = at + first; end <= word.size() && end - at <= index_.longest();) {
        if (const auto id = index_.find(word.substr(at, end - at)); id >= 0) {
          offer(at, end, id, spec_.scores[static_cast<std::size_t>(id)]);
          covered = covered || end == at + first;
        }
        if (end == word.size()) break;
        end += character_at(word, end).length;
      }
      if (!covered) offer(at, at + first, -1, unknown_score_);
      at += first;
    }
    std::vector<std::size_t> cuts;  // ends of tokens, backwards
    for (std::size_t end = word.size(); end > 0; end = best[end].from) cuts.push_back(end);
    bool after_unknown = false;
    for (auto cut = cuts.rbegin(); cut != cuts.rend(); ++cut) {
      const Node& node = best[*cut];
      const bool unknown = node.id < 0;
      if (!unknown) {
        out.push_back(node.id);
      } else if (all_bytes_) {
        for (const char b : word.substr(node.from, *cut - node.from))
          out.push_back(bytes_[static_cast<unsigned char>(b)]);
      } else if (unknown_ >= 0 && !after_unknown) {
        out.push_back(unknown_);
      }
      after_unknown = unknown;
    }
  }

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};
  const formats::TokenizerSpec& spec_;
  VocabIndex index_;
  std::vector<std::int32_t> bytes_;
  bool all_bytes_ = false;
  double unknown_score_ = 0;
  std::int32_t unknown_ = -1;
};

}  // namespace

std::unique_ptr<const WordModel> make_unigram_model(const formats::TokenizerSpec& spec) {
  return std::make_unique<const UnigramModel>(spec);
}

}  // namespace covey::text

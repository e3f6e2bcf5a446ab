#include "core/text/bpe_train.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <queue>
#include <unordered_map>

#include "core/text/split.h"
#include "core/text/unicode.h"

namespace covey::text {
namespace {

constexpr int kVocabMin = 258;
constexpr int kVocabMax = 1 << 20;

using Id = std::int32_t;
using Pair = std::pair<Id, Id>;

struct PairHash {
  std::size_t operator()(const Pair& p) const {
    return std::hash<std::uint64_t>()(static_cast<std::uint64_t>(static_cast<std::uint32_t>(p.first)) << 32 |
                                      static_cast<std::uint32_t>(p.second));
  }
};

struct Word {
  std::vector<Id> ids;
  std::int64_t count;
};

/// Counts of neighbouring pairs over all words, and in which words they occur.
class PairTable {
 public:
  explicit PairTable(std::vector<Word> words) : words_(std::move(words)) {
    for (std::size_t w = 0; w < words_.size(); ++w) count(w, +1);
    for (const auto& [pair, entry] : pairs_) queue_.push({entry.count, pair});
  }

  /// The most frequent pair, or a count of 0.
  std::pair<std::int64_t, Pair> best() {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const std::int64_t now = pairs_[top.pair].count;
      if (now == top.count) return {now, top.pair};
      if (now > 0) queue_.push({now, top.pair});  // the count fell since it was put there
    }
    return {0, {}};
  }

  void merge(const Pair& pair, Id result) {
    const std::vector<std::size_t> where = std::move(pairs_[pair].words);
    for (const std::size_t w : where) {
      count(w, -1);
      auto& ids = words_[w].ids;
      std::size_t kept = 0;
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const bool hit = i + 1 < ids.size() && ids[i] == pair.first && ids[i + 1] == pair.second;
        ids[kept++] = hit ? result : ids[i];
        if (hit) ++i;
      }
      ids.resize(kept);
      count(w, +1);
      for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
        if (ids[i] == result || ids[i + 1] == result) touched_.push_back({ids[i], ids[i + 1]});
      }
    }
    std::ranges::sort(touched_);
    touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
    for (const Pair& p : touched_) queue_.push({pairs_[p].count, p});
    touched_.clear();
    pairs_.erase(pair);
  }

 private:
  struct Entry {
    std::int64_t count = 0;
    std::vector<std::size_t> words;  // may name a word twice, or one that has lost the pair
  };
  struct Candidate {
    std::int64_t count;
    Pair pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  void count(std::size_t w, std::int64_t sign) {
    const Word& word = words_[w];
    for (std::size_t i = 0; i + 1 < word.ids.size(); ++i) {
      Entry& entry = pairs_[{word.ids[i], word.ids[i + 1]}];
      entry.count += sign * word.count;
      if (sign > 0 && (entry.words.empty() || entry.words.back() != w)) entry.words.push_back(w);
    }
  }

  std::vector<Word> words_;
  std::unordered_map<Pair, Entry, PairHash> pairs_;
  std::priority_queue<Candidate> queue_;
  std::vector<Pair> touched_;
};

}  // namespace

Result<formats::TokenizerSpec> train_bpe(std::string_view text, int vocab_size) {
  if (vocab_size < kVocabMin || vocab_size > kVocabMax) {
    return Error{ErrorCode::invalid_argument, "vocab_size is " + std::to_string(vocab_size) +
                                                  "; a byte-level vocabulary has between 258 and 1048576 tokens"};
  }
  formats::TokenizerSpec spec;
  for (const char* name : {"<s>", "</s>"}) {
    formats::TokenizerSpec::AddedToken token;
    token.id = static_cast<Id>(spec.vocab.size());
    token.content = name;
    token.special = true;
    spec.added_tokens.push_back(std::move(token));
    spec.vocab.emplace_back(name);
  }
  spec.bos_id = 0;
  spec.eos_id = 1;
  spec.prefix_ids = {0};
  spec.byte_level = true;
  spec.pre_tokenizers.emplace_back();

  std::array<Id, 256> byte_id{};
  std::vector<std::size_t> order(256);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, {}, [](std::size_t b) { return byte_alphabet()[b]; });
  for (const std::size_t b : order) {
    byte_id[b] = static_cast<Id>(spec.vocab.size());
    spec.vocab.push_back(byte_alphabet()[b]);
  }

  Pieces pieces;
  split_gpt2(text, pieces);
  std::map<std::string_view, std::int64_t> counts;
  for (const std::string_view piece : pieces) ++counts[piece];
  std::vector<Word> words;
  for (const auto& [piece, count] : counts) {
    Word word{{}, count};
    for (const char c : piece) word.ids.push_back(byte_id[static_cast<unsigned char>(c)]);
    words.push_back(std::move(word));
  }
  PairTable table(std::move(words));
  std::unordered_map<std::string, Id> index;
  for (std::size_t id = 0; id < spec.vocab.size(); ++id) index.emplace(spec.vocab[id], static_cast<Id>(id));
  while (static_cast<int>(spec.vocab.size()) < vocab_size) {
    const auto [count, pair] = table.best();
    if (count < 2) break;
    const std::string token =
        spec.vocab[static_cast<std::size_t>(pair.first)] + spec.vocab[static_cast<std::size_t>(pair.second)];
    // Two pairs may spell the same token ("a"+"bc", "ab"+"c"): then the second is one more merge into it.
    const auto [it, is_new] = index.emplace(token, static_cast<Id>(spec.vocab.size()));
    if (is_new) spec.vocab.push_back(token);
    spec.merges.push_back({pair.first, pair.second, it->second});
    table.merge(pair, it->second);
  }
  return spec;
}

}  // namespace covey::text

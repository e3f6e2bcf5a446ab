#include "core/text/bpe_merge.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <queue>
#include <utility>

namespace covey::text {
namespace {

std::uint64_t key_of(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

struct Candidate {
  double priority;
  std::size_t position;  // of the left symbol
  std::int32_t left, right, result;
  bool operator<(const Candidate& other) const {  // the queue gives out its largest
    return priority != other.priority ? priority > other.priority : position > other.position;
  }
};

constexpr std::size_t kNone = ~std::size_t{0};
constexpr std::uint64_t kFree = ~std::uint64_t{0};  // no pair of ids: they are not negative
constexpr std::size_t kShort = 48;

}  // namespace

std::size_t MergeTable::slot_of(std::uint64_t key) const {
  std::size_t at = static_cast<std::size_t>(key * 0x9E3779B97F4A7C15ULL >> 20) & (slots_.size() - 1);
  while (slots_[at].key != key && slots_[at].key != kFree) at = (at + 1) & (slots_.size() - 1);
  return at;
}

void MergeTable::reserve(std::size_t merges) {
  const std::size_t wanted = std::bit_ceil(std::max<std::size_t>(merges * 2, 16));
  if (wanted <= slots_.size()) return;
  const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(wanted, Slot{kFree, {}}));
  for (const Slot& slot : old) {
    if (slot.key != kFree) slots_[slot_of(slot.key)] = slot;
  }
}

void MergeTable::add(std::int32_t left, std::int32_t right, Merge merge) {
  reserve(used_ + 1);
  Slot& slot = slots_[slot_of(key_of(left, right))];
  if (slot.key == kFree) {
    slot = {key_of(left, right), merge};
    ++used_;
  } else if (merge.priority < slot.merge.priority) {
    slot.merge = merge;
  }
}

void MergeTable::add_scored(const std::vector<std::string>& vocab, const std::vector<double>& scores,
                            const std::vector<bool>& hidden,
                            const std::function<std::int32_t(std::string_view)>& id_of) {
  for (std::size_t id = 0; id < vocab.size(); ++id) {
    const std::string_view token = vocab[id];
    if ((id < hidden.size() && hidden[id]) || id_of(token) != static_cast<std::int32_t>(id)) continue;
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      if ((static_cast<unsigned char>(token[cut]) & 0xC0) == 0x80) continue;  // inside a character
      const std::int32_t left = id_of(token.substr(0, cut));
      const std::int32_t right = left < 0 ? -1 : id_of(token.substr(cut));
      if (right >= 0) add(left, right, {-scores[id], static_cast<std::int32_t>(id)});
    }
  }
}

const MergeTable::Merge* MergeTable::find(std::int32_t left, std::int32_t right) const {
  if (left < 0 || right < 0 || slots_.empty()) return nullptr;
  const Slot& slot = slots_[slot_of(key_of(left, right))];
  return slot.key == kFree ? nullptr : &slot.merge;
}

void MergeTable::apply(std::vector<std::int32_t>& ids, std::size_t begin) const {
  const std::size_t n = ids.size() - begin;
  if (n < 2) return;
  // Words are short: then looking at all pairs again is faster than a queue.
  n <= kShort ? apply_short(ids, begin) : apply_long(ids, begin);
}

void MergeTable::apply_short(std::vector<std::int32_t>& ids, std::size_t begin) const {
  constexpr double kNever = std::numeric_limits<double>::infinity();
  std::int32_t symbol[kShort];
  Merge merge[kShort];  // of a symbol and its right neighbour
  std::size_t n = ids.size() - begin;
  const auto look = [&](std::size_t i) {
    const Merge* found = i + 1 < n ? find(symbol[i], symbol[i + 1]) : nullptr;
    merge[i] = found != nullptr ? *found : Merge{kNever, -1};
  };
  std::copy(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end(), symbol);
  for (std::size_t i = 0; i < n; ++i) look(i);
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; ++i) {
      if (merge[i].priority < merge[best].priority) best = i;
    }
    if (merge[best].result < 0) break;
    symbol[best] = merge[best].result;
    --n;
    for (std::size_t i = best + 1; i < n; ++i) {
      symbol[i] = symbol[i + 1];
      merge[i] = merge[i + 1];
    }
    look(best);
    if (best > 0) look(best - 1);
  }
  std::copy(symbol, symbol + n, ids.begin() + static_cast<std::ptrdiff_t>(begin));
  ids.resize(begin + n);
}

void MergeTable::apply_long(std::vector<std::int32_t>& all, std::size_t begin) const {
  std::vector<std::int32_t> ids(all.begin() + static_cast<std::ptrdiff_t>(begin), all.end());
  const std::size_t n = ids.size();
  std::vector<std::size_t> previous(n);
  std::vector<std::size_t> next(n);
  std::vector<bool> gone(n, false);
  std::priority_queue<Candidate> queue;
  const auto offer = [&](std::size_t position) {
    if (position == kNone || next[position] == kNone) return;
    const std::int32_t left = ids[position];
    const std::int32_t right = ids[next[position]];
    if (const Merge* merge = find(left, right)) queue.push({merge->priority, position, left, right, merge->result});
  };
  for (std::size_t i = 0; i < n; ++i) {
    previous[i] = i == 0 ? kNone : i - 1;
    next[i] = i + 1 == n ? kNone : i + 1;
  }
  for (std::size_t i = 0; i + 1 < n; ++i) offer(i);
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const std::size_t at = best.position;
    // A candidate is stale where one of its two symbols was merged since.
    if (gone[at] || next[at] == kNone || ids[at] != best.left || ids[next[at]] != best.right) continue;
    const std::size_t eaten = next[at];
    ids[at] = best.result;
    gone[eaten] = true;
    next[at] = next[eaten];
    if (next[at] != kNone) previous[next[at]] = at;
    offer(previous[at]);
    offer(at);
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i != kNone; i = next[i]) ids[kept++] = ids[i];
  std::copy(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(kept),
            all.begin() + static_cast<std::ptrdiff_t>(begin));
  all.resize(begin + kept);
}

}  // namespace covey::text

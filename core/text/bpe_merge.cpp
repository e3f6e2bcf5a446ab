#include "core/text/bpe_merge.h"

#include <queue>

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

}  // namespace

void MergeTable::add(std::int32_t left, std::int32_t right, Merge merge) {
  const auto [it, inserted] = table_.emplace(key_of(left, right), merge);
  if (!inserted && merge.priority < it->second.priority) it->second = merge;
}

const MergeTable::Merge* MergeTable::find(std::int32_t left, std::int32_t right) const {
  if (left < 0 || right < 0) return nullptr;
  const auto it = table_.find(key_of(left, right));
  return it == table_.end() ? nullptr : &it->second;
}

void MergeTable::apply(std::vector<std::int32_t>& ids) const {
  const std::size_t n = ids.size();
  if (n < 2) return;
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
  ids.resize(kept);
}

}  // namespace covey::text

#include "adapters/sampler.h"

#include <algorithm>
#include <cmath>

#include "core/base/assert.h"

namespace covey::adapters {

std::int32_t Sampler::choose(std::span<const float> logits) {
  COVEY_ASSERT(!logits.empty());
  candidates_.clear();
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (!std::isnan(logits[i])) candidates_.push_back({static_cast<std::int32_t>(i), static_cast<double>(logits[i])});
  }
  if (candidates_.empty()) return 0;
  const auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.id < b.id;
  };
  // `likelier` orders from the best on, so the best is the smallest.
  const Candidate best = *std::min_element(candidates_.begin(), candidates_.end(), likelier);
  if (options_.temperature <= 0 || std::isinf(best.weight)) return best.id;

  const auto k = static_cast<std::size_t>(std::max(options_.top_k, 0));
  if (k > 0 && k < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(k), candidates_.end(),
                     likelier);
    candidates_.resize(k);
  }
  double total = 0;
  if (options_.top_p < 1) std::sort(candidates_.begin(), candidates_.end(), likelier);
  for (Candidate& candidate : candidates_) {
    candidate.weight = std::exp((candidate.weight - best.weight) / options_.temperature);
    total += candidate.weight;
  }
  if (options_.top_p < 1) {
    double sum = 0;
    std::size_t keep = 0;
    while (keep < candidates_.size() && (keep == 0 || sum < options_.top_p * total)) sum += candidates_[keep++].weight;
    candidates_.resize(keep);
    total = sum;
  }
  double at = rng_.uniform() * total;
  for (const Candidate& candidate : candidates_) {
    at -= candidate.weight;
    if (at < 0) return candidate.id;
  }
  return best.id;  // rounding left nothing over
}

}  // namespace covey::adapters

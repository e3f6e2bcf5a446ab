/// The next token out of a model's logits: greedy, or drawn after temperature, top-k and top-p, in the order in which
/// Hugging Face's generate applies them. Source: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/rng.h"

namespace covey::adapters {

struct SamplerOptions {
  double temperature = 0;  ///< 0: the likeliest token
  int top_k = 0;           ///< only the k likeliest; 0: all
  double top_p = 1;        ///< only the fewest likeliest that hold this much probability together; 1: all
};

/// One draw per token; the same seed and logits give the same tokens. Among equal logits the lower id counts as
/// likelier. Not thread-safe.
class Sampler {
 public:
  Sampler(const SamplerOptions& options, std::uint64_t seed) : options_(options), rng_(seed) {}
  /// @param logits (V), V >= 1; NaN counts as impossible. @cost O(V), and O(V log V) with top_p alone.
  std::int32_t choose(std::span<const float> logits);

 private:
  struct Candidate {
    std::int32_t id;
    double weight;  ///< the logit, then exp((logit - best) / temperature)
  };
  SamplerOptions options_;
  Rng rng_;
  std::vector<Candidate> candidates_;
};

}  // namespace covey::adapters

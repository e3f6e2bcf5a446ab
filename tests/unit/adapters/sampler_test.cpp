#include "adapters/sampler.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <map>

using namespace covey;  // NOLINT
using adapters::Sampler;
using adapters::SamplerOptions;

namespace {

const std::vector<float> kLogits = {1, 3, 2, 0, 3, -1};  // 1 and 4 are likeliest

/// How often each token comes in `draws` draws.
std::map<int, int> counts(const SamplerOptions& options, int draws, std::uint64_t seed = 3) {
  Sampler sampler(options, seed);
  std::map<int, int> out;
  for (int i = 0; i < draws; ++i) ++out[sampler.choose(kLogits)];
  return out;
}

}  // namespace

TEST_CASE("without a temperature the likeliest token is taken, the lower id among equals") {
  CHECK(counts({}, 5) == std::map<int, int>{{1, 5}});
  CHECK(counts({.temperature = 1, .top_k = 1}, 5) == std::map<int, int>{{1, 5}});
  CHECK(counts({.temperature = 1, .top_p = 0}, 5) == std::map<int, int>{{1, 5}});
}

TEST_CASE("draws follow softmax of the logits over the temperature") {
  for (const double temperature : {0.5, 1.0, 2.0}) {
    const int draws = 40000;
    const auto seen = counts({.temperature = temperature}, draws);
    double total = 0;
    for (const float logit : kLogits) total += std::exp(logit / temperature);
    for (std::size_t i = 0; i < kLogits.size(); ++i) {
      const double p = std::exp(kLogits[i] / temperature) / total;
      const auto found = seen.find(static_cast<int>(i));
      const double share = (found == seen.end() ? 0 : found->second) / static_cast<double>(draws);
      CHECK(std::abs(share - p) < 5 * std::sqrt(p * (1 - p) / draws) + 1e-4);  // five standard deviations
    }
  }
}

TEST_CASE("top-k keeps the k likeliest and top-p the fewest that hold the probability") {
  const auto two = counts({.temperature = 5, .top_k = 2}, 2000);
  CHECK(two.size() == 2);
  CHECK(two.contains(1));
  CHECK(two.contains(4));
  CHECK(counts({.temperature = 5, .top_k = 3}, 2000).contains(2));
  CHECK(counts({.temperature = 5, .top_k = 100}, 20000).size() == kLogits.size());
  // At temperature 1 the shares are .37, .37, .14, .05, .02, .007: .7 needs two tokens, .8 three.
  CHECK(counts({.temperature = 1, .top_p = 0.3}, 500).size() == 1);
  CHECK(counts({.temperature = 1, .top_p = 0.7}, 500).size() == 2);
  CHECK(counts({.temperature = 1, .top_p = 0.8}, 500).size() == 3);
  CHECK(counts({.temperature = 1, .top_k = 2, .top_p = 0.99}, 500).size() == 2);
}

TEST_CASE("the same seed draws the same tokens, and broken logits draw something") {
  const auto draw = [](std::uint64_t seed) {
    Sampler sampler({.temperature = 1}, seed);
    std::vector<std::int32_t> out;
    for (int i = 0; i < 50; ++i) out.push_back(sampler.choose(kLogits));
    return out;
  };
  CHECK(draw(7) == draw(7));
  CHECK(draw(7) != draw(8));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  Sampler sampler({.temperature = 1, .top_p = 0.9}, 1);
  CHECK(sampler.choose(std::vector<float>{nan, 2, nan}) == 1);
  CHECK(sampler.choose(std::vector<float>{nan, nan}) == 0);
  CHECK(sampler.choose(std::vector<float>{1, inf, 2}) == 1);
  CHECK(sampler.choose(std::vector<float>{-inf, -inf}) == 0);
  CHECK(sampler.choose(std::vector<float>{-inf, 5}) == 1);
}

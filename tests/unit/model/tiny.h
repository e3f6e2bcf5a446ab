/// Tiny random models and batches for the tests of this folder.
#pragma once

#include <memory>
#include <vector>

#include "core/base/rng.h"
#include "core/model/engine.h"
#include "core/model/model.h"
#include "tests/support/support.h"

namespace covey::model::tiny {

inline ModelConfig config() {
  ModelConfig c;
  c.vocab_size = 19;
  c.hidden_size = 12;
  c.intermediate_size = 20;
  c.layers = 2;
  c.heads = 3;
  c.kv_heads = 1;
  c.head_dim = 6;
  c.context_max = 64;
  return c;
}

/// Weights ten times the usual: every part of the model then matters to the loss.
inline std::shared_ptr<Model> model(const ModelConfig& config, std::uint64_t seed = 1) {
  auto made = Model::create(config, seed);
  REQUIRE_OK(made);
  for (auto& tensor : made.value()->parameters()) {
    if (tensor.shape.size() == 2) {
      for (float& value : tensor.values) value *= 10;
    } else {
      Rng rng(seed, static_cast<std::uint64_t>(tensor.values.size()));
      for (float& value : tensor.values) value += static_cast<float>(0.2 * rng.normal());
    }
  }
  return made.value();
}

struct Batch {
  int B;
  int T;
  std::vector<std::int32_t> ids, targets, lengths;
  [[nodiscard]] TokenBatch view() const { return {B, T, ids, targets, lengths}; }
};

/// Next-token targets; row b is b tokens shorter than T.
inline Batch batch(int B, int T, int V, std::uint64_t seed = 5) {
  Batch batch{B, T, {}, {}, {}};
  Rng rng(seed);
  for (int i = 0; i < B * T; ++i) {
    batch.ids.push_back(static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(V))));
  }
  for (int b = 0; b < B; ++b) {
    batch.lengths.push_back(T - b);
    for (int t = 0; t < T; ++t) {
      batch.targets.push_back(t + 1 < T - b ? batch.ids[static_cast<std::size_t>(b * T + t + 1)] : kNoTarget);
    }
  }
  return batch;
}

struct Adapter {
  AdapterSpec spec;
  std::vector<std::vector<float>> a, b;
  std::vector<float> prompt;

  [[nodiscard]] AdapterView view() const {
    AdapterView v;
    for (std::size_t i = 0; i < a.size(); ++i) v.lora.push_back({a[i], b[i]});
    v.prompt = prompt;
    return v;
  }
  [[nodiscard]] AdapterGradView gradient_view() {
    AdapterGradView v;
    for (std::size_t i = 0; i < a.size(); ++i) v.lora.push_back({a[i], b[i]});
    v.prompt = prompt;
    return v;
  }
  [[nodiscard]] Adapter zeros() const {
    Adapter z = *this;
    for (auto& values : z.a) std::fill(values.begin(), values.end(), 0.0F);
    for (auto& values : z.b) std::fill(values.begin(), values.end(), 0.0F);
    std::fill(z.prompt.begin(), z.prompt.end(), 0.0F);
    return z;
  }
};

/// Random A and B at the given sites.
inline Adapter lora(const Model& model, const std::vector<int>& sites, int rank, float scale = 0.7F) {
  Adapter adapter;
  for (const int site : sites) {
    const LinearSite& s = model.linear_sites()[static_cast<std::size_t>(site)];
    adapter.spec.lora.push_back({site, rank, scale});
    const auto fill = [&](int width, std::uint64_t stream) {
      std::vector<float> values(static_cast<std::size_t>(width * rank));
      CounterRng(11, stream).fill_normal(values);
      for (float& value : values) value *= 0.3F;
      return values;
    };
    adapter.a.push_back(fill(s.in, static_cast<std::uint64_t>(2 * site)));
    adapter.b.push_back(fill(s.out, static_cast<std::uint64_t>(2 * site + 1)));
  }
  return adapter;
}

inline std::vector<int> all_sites(const Model& model) {
  std::vector<int> sites(model.linear_sites().size());
  for (std::size_t i = 0; i < sites.size(); ++i) sites[i] = static_cast<int>(i);
  return sites;
}

inline std::unique_ptr<Engine> engine(const Model& model, ThreadPool& pool, EngineOptions options = {}) {
  if (options.batch_max == 1 && options.seq_max == 1) {
    options.batch_max = 3;
    options.seq_max = 20;
  }
  auto made = Engine::create(model, options, pool);
  REQUIRE_OK(made);
  return std::move(made).value();
}

inline EngineOptions training(bool checkpoint = false, int prompt_tokens = 0) {
  EngineOptions options;
  options.batch_max = 3;
  options.seq_max = 20;
  options.training = true;
  options.checkpoint = checkpoint;
  options.prompt_tokens_max = prompt_tokens;
  return options;
}

}  // namespace covey::model::tiny

/// A model of a few thousand parameters with something to learn, for the tests of training.
#pragma once

#include <memory>
#include <vector>

#include "core/base/rng.h"
#include "core/train/flat_view.h"
#include "core/train/local_trainer.h"
#include "support/support.h"

namespace covey::train::tiny {

inline const SystemClock kClock;

inline model::ModelConfig model_config() {
  model::ModelConfig config;
  config.vocab_size = 32;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.layers = 2;
  config.heads = 2;
  config.kv_heads = 1;
  config.head_dim = 8;
  config.context_max = 32;
  return config;
}

/// Texts with a rule to learn: the next token is the last one plus a step that the row keeps.
inline std::vector<TokenRow> counting_rows(int count) {
  Rng rng(7);
  std::vector<TokenRow> rows;
  for (int i = 0; i < count; ++i) {
    std::vector<std::int32_t> tokens;
    const auto step = static_cast<std::int32_t>(1 + rng.below(3));
    auto at = static_cast<std::int32_t>(rng.below(32));
    const auto length = 6 + rng.below(10);
    for (std::uint64_t t = 0; t < length; ++t, at = (at + step) % 32) tokens.push_back(at);
    rows.push_back({.ids = {tokens.begin(), tokens.end() - 1}, .targets = {tokens.begin() + 1, tokens.end()}});
  }
  return rows;
}

struct Setup {
  std::shared_ptr<model::Model> model;
  model::AdapterSpec spec;
  std::vector<float> start;
};

inline Setup lora_setup() {
  auto model = model::Model::create(model_config(), 3);
  REQUIRE_OK(model);
  for (auto& tensor : (*model)->parameters()) {  // at its first values a model says almost nothing, whatever is added
    if (tensor.name.find("embed_tokens") == std::string::npos) continue;
    for (float& x : tensor.values) x *= 40;
  }
  Setup out{.model = *model, .spec = {}, .start = {}};
  const auto& sites = out.model->linear_sites();
  for (std::size_t i = 0; i < sites.size(); ++i) {
    if (sites[i].layer >= 0) out.spec.lora.push_back({.site = static_cast<int>(i), .rank = 4, .scale = 2});
  }
  out.start.resize(static_cast<std::size_t>(flat_size(out.spec, sites, 16)));
  CounterRng(5).fill_normal(out.start);
  for (float& x : out.start) x *= 0.05F;
  return out;
}

inline TrainConfig config_of(std::int64_t steps) {
  TrainConfig config;
  config.lr = 0.02;
  config.batch = 6;
  config.seq = 16;
  config.steps = steps;
  config.clip_norm = 1;
  config.seed = 11;
  return config;
}

}  // namespace covey::train::tiny

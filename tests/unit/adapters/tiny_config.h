/// The model that tests of adapters make: two llama layers, wide enough for groups of heads.
#pragma once

#include "core/model/config.h"

namespace covey::test {

inline model::ModelConfig tiny_config() {
  model::ModelConfig config;
  config.vocab_size = 40;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 4;
  config.context_max = 16;
  return config;
}

}  // namespace covey::test

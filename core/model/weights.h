/// Where a model's weights lie. Internal to core/model.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/model/model.h"

namespace covey::model {

/// One linear layer: y = W x + b. Borrowed from the model's storage; `*_at` are offsets in the flat parameter order.
struct Linear {
  const float* w = nullptr;  ///< (out, in)
  const float* b = nullptr;  ///< (out), or nullptr
  std::int64_t w_at = -1;
  std::int64_t b_at = -1;
  int in = 0;
  int out = 0;
  int site = -1;  ///< index into linear_sites(); -1: no adapter may attach (a tied head)
};

struct Norm {
  const float* w = nullptr;  ///< (H)
  std::int64_t at = -1;
};

struct BlockWeights {
  Norm attention_norm;
  Linear q, k, v, o;
  Norm mlp_norm;
  Linear gate, up, down;
};

/// Its place in the fixed order: embedding, blocks, final norm, head.
struct Parameter {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t at = 0;
  std::int64_t count = 0;
  const float* values = nullptr;  ///< writable where Impl::writable
};

struct Model::Impl {
  ModelConfig config;
  std::vector<LinearSite> sites;
  std::vector<Parameter> parameters;
  std::int64_t parameter_count = 0;
  bool writable = false;

  const float* embedding = nullptr;  ///< (V,H)
  std::int64_t embedding_at = 0;
  std::vector<BlockWeights> blocks;
  Norm final_norm;
  Linear head;  ///< w is the embedding where tied

  std::unique_ptr<float[]> memory;              ///< all parameters in order, or only those that could not be mapped
  std::vector<std::shared_ptr<void>> borrowed;  ///< mapped files
};

/// Sites and parameters (names, shapes, places) that the configuration implies; values are still null.
void list_parameters(Model::Impl& model);
/// After every Parameter::values is set: the pointers of the blocks.
void bind_weights(Model::Impl& model);

}  // namespace covey::model

/// Where a model's weights lie. Internal to core/model.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "core/kernels/int8.h"
#include "core/model/model.h"
#include "core/model/program.h"

namespace covey::model {

/// Input columns that W8A8 computes in f32, apart from the rest (Dettmers et al., NeurIPS 2022).
struct OutlierColumns {
  std::vector<int> columns;   ///< (K), ascending
  std::vector<float> values;  ///< (out, K): what the matrix has there
};

/// One linear layer: y = W x + b. Borrowed from the model's storage; `*_at` are offsets in the flat parameter order.
struct Linear {
  const float* w = nullptr;                    ///< (out, in), or (in, out) where `in_out`
  const float* b = nullptr;                    ///< (out), or nullptr
  const kernels::Int8Weights* int8 = nullptr;  ///< used instead of w, where it is there
  const OutlierColumns* outliers = nullptr;    ///< beside int8
  bool int8_backward = true;                   ///< false, in tests alone: its input's gradient comes from w
  bool word_head = false;                      ///< in int8 by parts going back, in f32 in a file
  std::int64_t w_at = -1;
  std::int64_t b_at = -1;
  int in = 0;
  int out = 0;
  int site = -1;  ///< index into linear_sites(); -1: no adapter may attach (a tied head)
  int bias = -1;  ///< index into Impl::biases; -1: none, or one of a classification head
  bool in_out = false;
  std::int64_t head_w_at = -1;  ///< offset in the head's own parameters (AdapterSpec::head); -1: not one of them
  std::int64_t head_b_at = -1;
};

struct NormWeights {
  const float* w = nullptr;
  const float* b = nullptr;
  std::int64_t w_at = -1;
  std::int64_t b_at = -1;
  int bias = -1;  ///< index into Impl::biases
  kernels::NormKind kind = kernels::NormKind::rms;
  float offset = 0;
  float eps = 0;
  bool own = false;       ///< weights of each head
  bool together = false;  ///< those of all heads are one tensor
  int heads = 1;          ///< groups that are normalized on their own
  int H = 0;              ///< width of one
};

/// A table of rows (token, position, type, relative bias) or one vector (RWKV's mixes and decays).
struct Table {
  const float* values = nullptr;
  std::int64_t at = -1;
  int rows = 0;
  int width = 0;
};

/// Its place in the fixed order: embedding, blocks, final norm, head.
struct Parameter {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t at = 0;
  std::int64_t count = 0;
  int layer = -1;
  const float* values = nullptr;  ///< writable where Impl::writable; nullptr: only in int8
};

/// A matrix that lies in the file as int8, with a scale per output channel.
struct Int8Source {
  const std::int8_t* rows = nullptr;  ///< (out, in), mapped
  std::vector<float> scales;          ///< (out)
};

struct Model::Impl {
  ModelConfig config;
  std::vector<LinearSite> sites;
  std::vector<AdapterPlace> biases, attentions, blocks;
  std::vector<Parameter> parameters;
  std::int64_t parameter_count = 0;
  std::int64_t head_count = 0;  ///< values of the classification head (AdapterSpec::head)
  bool writable = false;

  Program program;
  std::vector<Linear> linears;
  std::vector<NormWeights> norms;
  std::vector<Table> tables;
  int token_table = -1;  ///< index into tables

  bool from_int8 = false;           ///< the file's matrices are int8, widened or not
  std::unique_ptr<float[]> memory;  ///< all parameters in order, or only those that could not be mapped
  std::vector<std::unique_ptr<kernels::Int8Weights>> int8;  ///< of linear layers; see Model::use_int8
  std::map<std::int64_t, Int8Source> int8_sources;          ///< by Parameter::at
  std::map<std::int64_t, OutlierColumns> outliers;          ///< by Parameter::at; see Model::keep_outliers
  std::vector<std::vector<float>> gathered;     ///< tensors that the file keeps apart and a kernel wants together
  std::vector<std::shared_ptr<void>> borrowed;  ///< mapped files
};

/// Program, sites and parameters (names, shapes, places) that the configuration implies; values are still null.
void list_parameters(Model::Impl& model);
/// Parameter::at of the matrices that use_int8() would pack. quantize.cpp
std::set<std::int64_t> block_matrices(const Model::Impl& model);
/// Indices of linears that the blocks use, in ascending order. quantize.cpp
std::set<std::size_t> block_linears(const Model::Impl& model);

/// After every Parameter::values is set: the pointers of linears, norms and tables.
void bind_weights(Model::Impl& model);

}  // namespace covey::model

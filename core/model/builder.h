/// Declares a model's tensors and lists its steps. Internal to core/model.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/model/families.h"
#include "core/model/weights.h"

namespace covey::model {

/// Declaring a name twice gives the same tensor: that is how layers share weights.
class Builder {
 public:
  explicit Builder(Model::Impl& model) : m(model), c(model.config) {}

  // Tensors; each returns an index.
  int table(const std::string& name, std::vector<std::int64_t> shape);
  int norm_weights(const std::string& path, int width, int heads = 1);
  int linear_weights(const std::string& path, int in, int out, bool bias, bool in_out = false);
  std::int64_t parameter(const std::string& name, std::vector<std::int64_t> shape);

  // The segment being built.
  void begin(Stream stream, int layer);
  Segment take() { return std::move(s); }
  int slot(int width) { return slot_in(s.stream, width); }
  int slot_in(Stream stream, int width);
  int view(int base, int offset, int width);
  int width(int slot) const { return s.slots[static_cast<std::size_t>(slot)].width; }

  // Steps; each returns the slot it writes.
  int linear(int in, const std::string& path, int out, bool bias, int base = -1, bool in_out = false);
  int linear_with(int in, int weights, int base = -1);
  /// `cheap`: may be made again in the backward pass (nothing changes it afterwards).
  int norm(int in, const std::string& path, bool cheap, int heads = 1);
  int norm_with(int in, int weights, bool cheap);
  /// Says what the linear layer is for whose step was just added. @return its slot.
  int as(SiteRole role, int slot);
  int activation(int in, kernels::Activation kind, int up = -1, float limit = 0);
  int add(int in, int base);
  /// Makes it an attention that a prefix may join. @param module a layer inside it: its path without the last name.
  void prefixable(Step& attention, const std::string& module);
  /// Makes the segment a block behind which a bottleneck may stand. @param path ends with a dot.
  void as_block(const std::string& path);
  Step& step(StepKind kind) {
    Step next;
    next.kind = kind;
    s.steps.push_back(next);
    return s.steps.back();
  }

  Model::Impl& m;
  const ModelConfig& c;
  Segment s;
  int layer = -1;        ///< of linear sites that are declared
  bool in_head = false;  ///< declared tensors are the classification head's own

 private:
  std::unordered_map<std::string, std::int64_t> at_of_name_;
  std::unordered_map<std::string, int> linear_of_path_;
};

/// Segments of one stack: embedding, blocks, final norm where an encoder has one. Appends to Program::body.
void build_stack(Builder& b, const Names& names, bool second);
void build_head(Builder& b, const Names& names);
/// Blocks that are no transformers. build_block_mobilebert.cpp, build_block_rwkv.cpp, build_block_rwkv7.cpp
void build_mobilebert_block(Builder& b, const std::string& path);
void build_rwkv_block(Builder& b, const std::string& path, int x);
/// Declares the segment's input too: from the second block on it is the stream and the first block's values side by
/// side.
void build_rwkv7_block(Builder& b, const std::string& path, int layer);

}  // namespace covey::model

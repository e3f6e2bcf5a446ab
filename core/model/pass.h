/// What one forward or backward pass works on, and the linear layer with its adapter. Internal to core/model.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/kernels/attention.h"
#include "core/kernels/int8.h"
#include "core/model/engine.h"
#include "core/model/weights.h"

namespace covey::model {

struct Buffers;

/// One stack's rows of a batch, packed.
struct StackRows {
  int N = 0;                                ///< positions of all rows, padding left out
  std::vector<kernels::AttentionRow> rows;  ///< (B)
  std::vector<std::int32_t> position;       ///< (N) within its row
  std::vector<std::int32_t> angle;          ///< (N) row of the rotary tables
  std::vector<std::int32_t> ids;            ///< (N); -1 for virtual tokens
  std::vector<std::int32_t> types;          ///< (N)
  std::vector<std::uint8_t> padded;         ///< (N): 1 at the last token of a row that padding follows

  void clear();
  void reserve(std::size_t batch, std::size_t positions);
};

/// A decoder's memory of the positions before: per Step::cache, keys and values, or whatever a step carries on.
struct DecodeState {
  std::vector<std::vector<float>> keys;
  std::vector<std::vector<float>> values;
  int used = 0;
};

/// What is attached to one linear layer beside LoRA: indices into AdapterSpec::parts, -1 for nothing.
struct SiteParts {
  int scale_in = -1, scale_out = -1, bottleneck = -1;
  [[nodiscard]] bool any() const { return scale_in >= 0 || scale_out >= 0 || bottleneck >= 0; }
};

/// Lives as long as the engine; set up anew for each call, without allocation once the vectors have grown.
struct Pass {
  const Model::Impl* model = nullptr;
  ThreadPool* pool = nullptr;
  const AdapterSpec* spec = nullptr;
  const AdapterView* adapter = nullptr;
  const AdapterGradView* gradient = nullptr;  ///< nullptr: none wanted
  const AdapterView* direction = nullptr;     ///< of a forward-mode derivative
  bool full = false;                          ///< the model's own tensors train, not an adapter
  float* full_gradient = nullptr;             ///< theirs, one after the other
  std::vector<std::int64_t> tensor_at;        ///< per Model::parameters(): where in full_gradient, or -1; empty: all
  std::vector<int> lora_of_site;              ///< index into spec->lora, or -1

  // Of AdapterSpec::parts; all empty without any.
  std::vector<SiteParts> parts_of_site;
  std::vector<int> part_of_bias, part_of_attention, part_of_block;  ///< -1: none
  std::vector<float> biases;                                        ///< the model's plus their change
  std::vector<const float*> bias_values;                            ///< per bias; nullptr: the model's own
  std::vector<float> wide[4];                                       ///< rows as wide as a layer with parts
  std::vector<float> excess;                                        ///< a scale's l - 1
  std::vector<float> third;                                         ///< as u
  std::vector<std::vector<float>> before;                           ///< per block: what its bottleneck read, (N, H)
  std::vector<float> prefixed[4];                                   ///< keys, values, their gradients (or tangents)
  std::vector<kernels::AttentionRow> prefixed_rows;
  int prefix_tokens = 0;

  StackRows stack[2];
  std::vector<kernels::AttentionRow> cross;  ///< (B): the second stack's queries, the first one's keys
  std::vector<std::int32_t> target_row;      ///< packed positions of the last stack that have a target, ascending
  std::vector<std::int32_t> target;          ///< their tokens
  int chunk_rows = 0;                        ///< rows that the head works on

  std::vector<float> u;                         ///< LoRA: x A^T, (N, R)
  std::vector<float> du;                        ///< its gradient
  kernels::Int8Scratch int8;                    ///< activations of the W8A8 layer at hand
  std::vector<float> without, outliers;         ///< its input without outlier columns, (N, in), and they, (N, K)
  InputPeaks* peaks = nullptr;                  ///< raised by linear layers; nullptr: nobody asks
  bool stochastic = false;                      ///< W8A8: how gradients are rounded
  std::uint64_t rounding_seed = 0;              ///< of this gradient's stochastic rounding
  std::vector<float> relative_gradient;         ///< full gradient of T5's biases, part by part
  std::vector<std::uint8_t> need, ready, made;  ///< per slot of the segment at hand
  const Buffers* buffers = nullptr;
  const float* cosine = nullptr;
  const float* sine = nullptr;
  DecodeState* decode = nullptr;

  /// -1 where nothing is attached.
  [[nodiscard]] int lora(const Linear& linear) const {
    return linear.site < 0 ? -1 : lora_of_site[static_cast<std::size_t>(linear.site)];
  }
  [[nodiscard]] SiteParts parts(const Linear& linear) const {
    return linear.site < 0 || parts_of_site.empty() ? SiteParts{}
                                                    : parts_of_site[static_cast<std::size_t>(linear.site)];
  }
  /// The part at a place of one kind, -1 for none. @param list part_of_bias, part_of_attention or part_of_block
  [[nodiscard]] static int part_at(const std::vector<int>& list, int place) {
    return place < 0 || list.empty() ? -1 : list[static_cast<std::size_t>(place)];
  }
  /// The bias in use where the model has `own`.
  [[nodiscard]] const float* bias(int place, const float* own) const {
    const float* changed = place < 0 || bias_values.empty() ? nullptr : bias_values[static_cast<std::size_t>(place)];
    return changed != nullptr ? changed : own;
  }
  [[nodiscard]] const AdapterPart& part(int index) const { return spec->parts[static_cast<std::size_t>(index)]; }
  [[nodiscard]] const float* values_of(int part) const { return adapter->parts[static_cast<std::size_t>(part)].data(); }
  [[nodiscard]] const float* direction_of(int part) const {
    return direction->parts[static_cast<std::size_t>(part)].data();
  }
  /// nullptr where no gradient is wanted.
  [[nodiscard]] float* gradient_of(int part) const {
    return gradient == nullptr ? nullptr : gradient->parts[static_cast<std::size_t>(part)].data();
  }
  [[nodiscard]] bool own_head(const Linear& linear) const { return spec->head_values > 0 && linear.head_w_at >= 0; }
  /// Where the gradient of the tensor at `at` lies in full_gradient; -1: it does not train.
  [[nodiscard]] std::int64_t place_of(std::int64_t at) const;
  [[nodiscard]] bool trains(std::int64_t at) const { return place_of(at) >= 0; }
  /// nullptr: it does not train.
  [[nodiscard]] float* tensor_gradient(std::int64_t at) const {
    const std::int64_t place = place_of(at);
    return place < 0 ? nullptr : full_gradient + place;
  }
  /// Whether the backward pass must have this layer's input.
  [[nodiscard]] bool trained(const Linear& linear) const {
    const int index = lora(linear);
    const bool by_lora = index >= 0 && spec->lora[static_cast<std::size_t>(index)].trains();
    return by_lora || parts(linear).any() || own_head(linear) || trains(linear.w_at);
  }
  [[nodiscard]] int rows(Stream stream) const {
    return stream == Stream::chunk ? chunk_rows : stack[static_cast<std::size_t>(stream)].N;
  }
  /// The stack whose rows the head reads.
  [[nodiscard]] const StackRows& last() const { return stack[model->config.two_stacks() ? 1 : 0]; }
};

/// Makes the spec the pass's. @errors invalid_argument: it does not fit the model.
[[nodiscard]] Status set_spec(Pass& pass, const AdapterSpec& spec);
/// The model's own tensors train, those that are chosen. @return how many values. @errors invalid_argument: not one
/// flag per tensor; some heads of a norm that has a tensor for each.
[[nodiscard]] Result<std::int64_t> set_tensors(Pass& pass, const TensorChoice& choice);
/// Checks that adapter (and gradient, where given) have the spec's shapes, and makes them the pass's.
/// @errors invalid_argument.
[[nodiscard]] Status set_adapter(Pass& pass, const AdapterSpec& spec, const AdapterView& adapter,
                                 const AdapterGradView* gradient);
/// @errors invalid_argument: not the shapes of the spec that was set.
[[nodiscard]] Status set_direction(Pass& pass, const AdapterView& direction);
/// Checks a batch against the options and packs it. @errors invalid_argument.
[[nodiscard]] Status set_batch(Pass& pass, const TokenBatch& batch, const EngineOptions& options, bool want_targets);
/// The packed position that a classifier reads: the row's first, or its last.
int pooled_row(const ModelConfig& config, const kernels::AttentionRow& row);
/// Room for the inner activations of LoRA and bottlenecks, N rows.
void reserve_lora(Pass& pass, int N);

/// Rows of x that are not contiguous, and what is in y already.
struct LinearOptions {
  bool accumulate = false;
  long x_row = 0;  ///< floats from one row of x (of dx, x_t) to the next; 0: contiguous
};
/// y (N, out) = W x + b + scale B A x; `accumulate`: y += that.
void linear_forward(Pass& pass, const Linear& linear, int N, const float* x, float* y, LinearOptions options = {});
/// Adds the gradients of what is trained here; x is read only where Pass::trained(). Writes dx (N, in) unless it is
/// nullptr; `accumulate`: adds to it.
void linear_backward(Pass& pass, const Linear& linear, int N, const float* x, const float* dy, float* dx,
                     LinearOptions options = {});
/// y_t: the derivative of y along x_t and pass.direction; `accumulate`: adds to it. x is read only where an adapter is.
void linear_jvp(Pass& pass, const Linear& linear, int N, const float* x, const float* x_t, float* y_t,
                LinearOptions options = {});

}  // namespace covey::model

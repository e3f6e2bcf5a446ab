/// Runs the steps of a segment: forward, backward, along a direction. Internal to core/model.
#pragma once

#include "core/kernels/activation.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/norm.h"
#include "core/kernels/rope.h"
#include "core/kernels/wkv.h"
#include "core/model/buffers.h"
#include "core/model/pass.h"
#include "core/model/trained.h"

namespace covey::model {

/// What a pass needs of the segment at hand.
struct Work {
  Pass& pass;
  const Segment& segment;
  const SegmentMemory& memory;

  [[nodiscard]] const Slot& slot(int i) const { return segment.slots[static_cast<std::size_t>(i)]; }
  [[nodiscard]] float* value(int i) const { return i < 0 ? nullptr : memory.value[static_cast<std::size_t>(i)]; }
  [[nodiscard]] float* again(int i) const { return i < 0 ? nullptr : memory.again[static_cast<std::size_t>(i)]; }
  [[nodiscard]] float* gradient(int i) const { return i < 0 ? nullptr : memory.gradient[static_cast<std::size_t>(i)]; }
  [[nodiscard]] float* tangent(int i) const { return i < 0 ? nullptr : memory.tangent[static_cast<std::size_t>(i)]; }
  [[nodiscard]] int rows(int i) const { return pass.rows(slot(i).stream); }
  /// Floats from one row to the next.
  [[nodiscard]] long row(int i) const { return slot(segment.root(i)).width; }
  [[nodiscard]] std::size_t floats(int i) const {
    return static_cast<std::size_t>(rows(i)) * static_cast<std::size_t>(slot(i).width);
  }
  [[nodiscard]] const StackRows& stack() const { return pass.stack[static_cast<std::size_t>(segment.stream)]; }
};

/// All steps in order.
void run_forward(const Work& work);
/// Those of them that the backward pass needs, where a checkpointed segment's slots were overwritten.
void run_again(const Work& work);
/// All steps, each followed by its tangent along pass.direction. `flowing`: the input's, the memory's tangents are not
/// zero; what does not move gets a tangent of zero.
void run_forward_jvp(const Work& work, const Flowing& flowing);
/// From the output's gradient: adds the gradients of what is trained, and leaves the input's (and adds the memory's)
/// where those flow.
void run_backward(const Work& work, const Flowing& flowing);
/// Fills Pass::need: which slots' gradients (or tangents) are there to be had; clears the other flags.
void find_needs(const Work& work, const Flowing& flowing);
/// T5's bucket of a distance (key - query).
int relative_bucket(const ModelConfig& config, int distance, bool both_ways);
/// What depends on weights that may have changed, before a forward pass: T5's biases by distance.
void fill_distance_bias(const Model::Impl& model, const Buffers& buffers);

/// One step each; see above.
void step_forward(const Work& work, const Step& step);
void step_backward(const Work& work, const Step& step);
void step_jvp(const Work& work, const Step& step);

/// The steps that only RWKV 7 has. steps_rwkv7.cpp
void rwkv7_forward(const Work& work, const Step& step);
void rwkv7_backward(const Work& work, const Step& step);
void rwkv7_jvp(const Work& work, const Step& step);

/// In the backward pass: a slot's value (cheap ones are made again); where to put a slot's gradient, nullptr where
/// nobody wants it, and whether something is there already.
const float* backward_value(const Work& work, int slot);
float* backward_into(const Work& work, int slot, bool& accumulate);

kernels::NormArgs norm_args(const Work& work, const Step& step);
kernels::NormStats norm_stats(const Work& work, const Step& step);
kernels::AttentionShape attention_shape(const Work& work, const Step& step);
kernels::ActivationArgs activation_args(const Work& work, const Step& step);
kernels::RopeArgs rope_args(const Work& work, const Step& step);
kernels::WkvArgs wkv_args(const Work& work, const Step& step);
kernels::ShiftArgs shift_args(const Work& work, const Step& step);
kernels::TrigramArgs trigram_args(const Work& work, const Step& step);

}  // namespace covey::model

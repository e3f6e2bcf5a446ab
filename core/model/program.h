/// A model as a list of steps. The configuration is compiled once into segments (embedding, blocks, head); each segment
/// is a list of steps over slots, which are arrays of one row per position. A step knows how to run forward, backward
/// and along a direction (steps.cpp); where slots lie in memory is planned from the same list (plan.cpp). So a family
/// adds no code to the passes: only build.cpp says which steps a block has. Internal to core/model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/kernels/activation.h"
#include "core/kernels/norm.h"

namespace covey::model {

/// Whose rows a slot has: the (first) stack's positions, the second stack's, or the chunk of rows in the head.
enum class Stream : std::uint8_t { first = 0, second = 1, chunk = 2 };
constexpr int kStreams = 3;

enum class StepKind : std::uint8_t {
  tokens,      ///< out = table row of each id, or the soft prompt's
  positions,   ///< out += table row of each position, in place
  types,       ///< out += table row of each token type, in place
  linear,      ///< out = (base +) W in + b
  norm,        ///< out = norm(in)
  rope,        ///< out turned in place
  scale,       ///< out *= value in place
  attention,   ///< out = attention(q: in, k: in2, v: in3)
  activation,  ///< out = f(in), or f(in) * in2
  add,         ///< out = base + in
  shift,       ///< RWKV's token shift: out = mix of in and the row above
  wkv,         ///< out = average over the past of v (in2) weighted by k (in)
  trigram,     ///< out = rows below, at and above, of in
  wkv7,        ///< out = RWKV 7's memory, read by in, written by w (in2), k (in3), v (in4) at rates in5
  bonus,       ///< out = base + RWKV 7's (sum of in k) v, k (in2), v (in3) at rates in4
  lerp,        ///< out = in + (in2 - in) in3
  join,        ///< out = in and in2 side by side
};

/// An array (rows, width), or columns [offset, offset + width) of another one.
struct Slot {
  int width = 0;
  Stream stream = Stream::first;
  int base = -1;
  int offset = 0;
  bool cheap = false;  ///< the backward pass makes it again instead of keeping it
};

struct Step {
  StepKind kind = StepKind::linear;
  int in = -1, in2 = -1, in3 = -1;  ///< slots that are read
  int in4 = -1, in5 = -1;           ///< RWKV 7 alone
  int base = -1;                    ///< residual slot that the result is added to
  int out = -1;                     ///< slot that is written
  int stats = -1;                   ///< slot of what the backward pass needs besides: norms, attention, wkv
  int weight = -1;                  ///< index into linears, norms, tables or vectors, by kind
  int weight2 = -1;                 ///< wkv: first; wkv7, bonus: the second of two vectors
  int cache = -1;                   ///< a decoder's state: key/value cache, or the rows a shift and wkv remember

  kernels::Activation activation = kernels::Activation::identity;
  float value = 0;     ///< scale, limit of an activation, attention's soft cap
  int row_offset = 0;  ///< positions: table row of position 0
  int heads = 1;
  int kv_heads = 1;
  int head_dim = 0;
  long head_row[3] = {0, 0, 0};  ///< floats from one head to the next in q, k, v (rope: [0])
  int window = 0;
  float scale = 1;
  bool causal = true;
  bool cross = false;     ///< keys come from the other stream
  bool slopes = false;    ///< ALiBi
  bool relative = false;  ///< T5's biases; weight: its table
  bool of_above = false;  ///< shift: the mix is the row above's share
  int attention = -1;     ///< attentions: index into Model::attentions()
};

/// One recomputable piece. Slot `input` (-1: none) holds what the segment before left in its `output`.
struct Segment {
  Stream stream = Stream::first;
  int layer = -1;  ///< block index, -1 outside the blocks
  int block = -1;  ///< index into Model::blocks(), -1 outside the blocks
  std::vector<Slot> slots;
  std::vector<Step> steps;
  int input = -1;
  int output = -1;
  int memory = -1;  ///< slot that stands for the first stack's result, in the second stack
  [[nodiscard]] int root(int slot) const {
    const int base = slots[static_cast<std::size_t>(slot)].base;
    return base >= 0 ? base : slot;
  }
};

struct Program {
  std::vector<Segment> body;  ///< embedding and blocks of the first stack, then of the second
  Segment head;               ///< from gathered rows to logits, in the chunk's stream
  int first_segments = 0;     ///< how many of `body` are the first stack's
  int caches = 0;
  bool slopes = false;  ///< ALiBi is used
  bool relative = false;
};

}  // namespace covey::model

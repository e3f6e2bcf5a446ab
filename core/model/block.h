/// One transformer block, forward and backward. Internal to core/model.
#pragma once

#include "core/model/buffers.h"
#include "core/model/pass.h"

namespace covey::model {

/// b.x_in -> x_out (N,H), which may be b.x_in itself where no backward pass follows.
/// nullptr: only refills what the backward pass needs.
void block_forward(Pass& pass, int layer, const BlockBuffers& b, const Buffers& scratch, float* x_out);
/// The rest of block_forward after it was called with nullptr.
void block_finish(Pass& pass, int layer, const BlockBuffers& b, const Buffers& scratch, float* x_out);
/// After block_forward with nullptr: scratch.tangent.x, the derivative of the block's input along pass.direction,
/// becomes that of its output.
void block_jvp(Pass& pass, int layer, const BlockBuffers& b, const Buffers& scratch);

/// How far down gradients are wanted.
struct BackwardDepth {
  bool below = false;       ///< of the block's input
  bool inside_qkv = false;  ///< of q, k, v: an adapter sits there, or `below`
  bool middle = false;      ///< of the block's middle: o_proj is trained, or `inside_qkv`
};
BackwardDepth backward_depth(const Pass& pass, int layer, bool below);

/// scratch.dx: gradient of the block's output in, of its input out (where depth.below). Overwrites b.gate and b.up.
void block_backward(Pass& pass, int layer, const BlockBuffers& b, const Buffers& scratch, const BackwardDepth& depth);

}  // namespace covey::model

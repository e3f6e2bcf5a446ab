/// Final norm, output head and loss, in chunks of rows. Internal to core/model.
#pragma once

#include "core/model/buffers.h"
#include "core/model/pass.h"

namespace covey::model {

/// Loss over pass.target_row; with `backward`, adds to scratch.dx (zeroed by the caller) the gradient of the sum of
/// losses times grad_scale, and to what is trained in norm and head. scratch.dx may be left alone: `want_dx` false.
LossResult head_loss(Pass& pass, const Buffers& scratch, bool backward, bool want_dx, float grad_scale);

/// Loss, and the derivative of its mean along pass.direction, from scratch.x_out and scratch.tangent.x.
JvpResult head_jvp(Pass& pass, const Buffers& scratch);

/// logits of packed rows [begin, begin + count), count <= scratch.chunk, into `out` (count, V).
void head_logits(Pass& pass, const Buffers& scratch, const float* x, int count, float* out);

}  // namespace covey::model

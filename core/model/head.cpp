#include "core/model/head.h"

#include <algorithm>
#include <cstring>

#include "core/kernels/cross_entropy.h"
#include "core/kernels/norm.h"

namespace covey::model {
namespace {

void chunk_backward(Pass& pass, const Buffers& s, int count, const std::int32_t* rows, bool want_dx) {
  const Model::Impl& model = *pass.model;
  const int H = model.config.hidden_size;
  const bool norm_trained = pass.full_gradient != nullptr;
  linear_backward(pass, model.head, count, s.head_normed, s.head_logits,
                  want_dx || norm_trained ? s.head_dnormed : nullptr);
  if (norm_trained) {
    kernels::rmsnorm_backward_weight(*pass.pool, count, H, s.head_dnormed, s.head_x, s.head_inverse,
                                     pass.full_gradient + model.final_norm.at);
  }
  if (!want_dx) return;
  const std::size_t bytes = sizeof(float) * static_cast<std::size_t>(H);
  std::memset(s.head_dx, 0, bytes * static_cast<std::size_t>(count));
  kernels::rmsnorm_backward(*pass.pool, count, H, s.head_dnormed, s.head_x, model.final_norm.w, s.head_inverse,
                            s.head_dx);
  for (int i = 0; i < count; ++i) {
    std::memcpy(s.dx + static_cast<std::ptrdiff_t>(rows[i]) * H, s.head_dx + static_cast<std::ptrdiff_t>(i) * H, bytes);
  }
}

void gather(const float* x, const std::int32_t* rows, int count, int H, float* to) {
  for (int i = 0; i < count; ++i) {
    std::memcpy(to + static_cast<std::ptrdiff_t>(i) * H, x + static_cast<std::ptrdiff_t>(rows[i]) * H,
                sizeof(float) * static_cast<std::size_t>(H));
  }
}

}  // namespace

LossResult head_loss(Pass& pass, const Buffers& s, bool backward, bool want_dx, float grad_scale) {
  const Model::Impl& model = *pass.model;
  const int H = model.config.hidden_size;
  const int total = static_cast<int>(pass.target.size());
  LossResult result;
  result.targets = total;
  for (int begin = 0; begin < total; begin += s.chunk) {
    const int count = std::min(s.chunk, total - begin);
    const std::int32_t* rows = pass.target_row.data() + begin;
    gather(s.x_out, rows, count, H, s.head_x);
    head_logits(pass, s, s.head_x, count, s.head_logits);
    const kernels::CrossEntropyArgs args{
        count, model.config.vocab_size, pass.target.data() + begin, s.head_logits, s.head_loss, s.head_correct};
    if (backward) {
      kernels::cross_entropy_backward(*pass.pool, args, grad_scale);
    } else {
      kernels::cross_entropy_forward(*pass.pool, args);
    }
    for (int i = 0; i < count; ++i) {
      result.loss_sum += s.head_loss[i];
      result.correct += s.head_correct[i];
    }
    if (backward) chunk_backward(pass, s, count, rows, want_dx);
  }
  return result;
}

JvpResult head_jvp(Pass& pass, const Buffers& s) {
  const Model::Impl& model = *pass.model;
  const Tangents& t = s.tangent;
  const int H = model.config.hidden_size;
  const int total = static_cast<int>(pass.target.size());
  JvpResult result;
  result.loss.targets = total;
  for (int begin = 0; begin < total; begin += s.chunk) {
    const int count = std::min(s.chunk, total - begin);
    const std::int32_t* rows = pass.target_row.data() + begin;
    gather(s.x_out, rows, count, H, s.head_x);
    gather(t.x, rows, count, H, t.head_x);
    head_logits(pass, s, s.head_x, count, s.head_logits);
    kernels::rmsnorm_jvp(*pass.pool, count, H, s.head_x, model.final_norm.w, s.head_inverse, t.head_x, t.head_normed);
    linear_jvp(pass, model.head, count, s.head_normed, t.head_normed, t.head_logits);
    const kernels::CrossEntropyArgs args{
        count, model.config.vocab_size, pass.target.data() + begin, s.head_logits, s.head_loss, s.head_correct};
    kernels::cross_entropy_forward(*pass.pool, args);
    kernels::cross_entropy_jvp(*pass.pool, args, t.head_logits, t.head_loss);
    for (int i = 0; i < count; ++i) {
      result.loss.loss_sum += s.head_loss[i];
      result.loss.correct += s.head_correct[i];
      result.derivative += t.head_loss[i];
    }
  }
  if (total > 0) result.derivative /= static_cast<double>(total);
  return result;
}

void head_logits(Pass& pass, const Buffers& s, const float* x, int count, float* out) {
  const Model::Impl& model = *pass.model;
  kernels::rmsnorm_forward(*pass.pool, count, model.config.hidden_size, x, model.final_norm.w,
                           static_cast<float>(model.config.norm_eps), s.head_normed, s.head_inverse);
  linear_forward(pass, model.head, count, s.head_normed, out);
}

}  // namespace covey::model

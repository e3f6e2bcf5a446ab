#include "core/model/block.h"

#include <cmath>
#include <cstring>

#include "core/kernels/attention.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/norm.h"
#include "core/kernels/rope.h"

namespace covey::model {
namespace {

std::size_t floats(int rows, int width) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(width);
}

void copy(float* to, const float* from, std::size_t count) {
  if (to != from) std::memcpy(to, from, count * sizeof(float));
}

kernels::RopeArgs rope_args(const Pass& pass, int heads) {
  return {pass.N, heads, pass.model->config.head_dim, pass.position.data(), pass.cosine, pass.sine};
}

kernels::AttentionShape attention_shape(const Pass& pass, int layer) {
  const ModelConfig& c = pass.model->config;
  return {pass.rows,          c.heads,
          c.kv_heads,         c.head_dim,
          c.window_of(layer), static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.head_dim)))};
}

void attention_backward_part(Pass& pass, int layer, const BlockBuffers& b, const Buffers& s,
                             const BackwardDepth& depth) {
  const ModelConfig& c = pass.model->config;
  const BlockWeights& w = pass.model->blocks[static_cast<std::size_t>(layer)];
  ThreadPool& pool = *pass.pool;
  const int N = pass.N;
  linear_backward(pass, w.o, N, b.attended, s.dx, depth.inside_qkv ? s.dattended : nullptr);
  if (!depth.inside_qkv) return;
  kernels::attention_backward(pool, attention_shape(pass, layer),
                              {b.q, b.k_all, b.v_all, b.attended, b.lse, s.dattended, s.dq, s.dk, s.dv});
  kernels::rope_backward(pool, rope_args(pass, c.heads), s.dq);
  kernels::rope_backward(pool, rope_args(pass, c.kv_heads), s.dk);
  if (pass.trained(w.q) || pass.trained(w.k) || pass.trained(w.v)) {
    kernels::rmsnorm_recompute(pool, N, c.hidden_size, b.x_in, w.attention_norm.w, b.inverse1, s.normed);
  }
  float* dnormed = depth.below ? s.dnormed : nullptr;
  linear_backward(pass, w.q, N, s.normed, s.dq, dnormed);
  linear_backward(pass, w.k, N, s.normed, s.dk, dnormed, true);
  linear_backward(pass, w.v, N, s.normed, s.dv, dnormed, true);
  if (!depth.below) return;
  if (pass.full_gradient != nullptr) {
    kernels::rmsnorm_backward_weight(pool, N, c.hidden_size, s.dnormed, b.x_in, b.inverse1,
                                     pass.full_gradient + w.attention_norm.at);
  }
  kernels::rmsnorm_backward(pool, N, c.hidden_size, s.dnormed, b.x_in, w.attention_norm.w, b.inverse1, s.dx);
}

}  // namespace

void block_forward(Pass& pass, int layer, const BlockBuffers& b, const Buffers& s, float* x_out) {
  const ModelConfig& c = pass.model->config;
  const BlockWeights& w = pass.model->blocks[static_cast<std::size_t>(layer)];
  ThreadPool& pool = *pass.pool;
  const int N = pass.N;
  const int H = c.hidden_size;
  const auto eps = static_cast<float>(c.norm_eps);

  kernels::rmsnorm_forward(pool, N, H, b.x_in, w.attention_norm.w, eps, s.normed, b.inverse1);
  linear_forward(pass, w.q, N, s.normed, b.q);
  linear_forward(pass, w.k, N, s.normed, b.k);
  linear_forward(pass, w.v, N, s.normed, b.v);
  kernels::rope_forward(pool, rope_args(pass, c.heads), b.q);
  kernels::rope_forward(pool, rope_args(pass, c.kv_heads), b.k);
  kernels::attention_forward(pool, attention_shape(pass, layer), b.q, b.k_all, b.v_all, b.attended, b.lse);
  copy(b.x_mid, b.x_in, floats(N, H));
  linear_forward(pass, w.o, N, b.attended, b.x_mid, true);

  kernels::rmsnorm_forward(pool, N, H, b.x_mid, w.mlp_norm.w, eps, s.normed, b.inverse2);
  linear_forward(pass, w.gate, N, s.normed, b.gate);
  linear_forward(pass, w.up, N, s.normed, b.up);
  if (x_out != nullptr) block_finish(pass, layer, b, s, x_out);
}

void block_finish(Pass& pass, int layer, const BlockBuffers& b, const Buffers& s, float* x_out) {
  const ModelConfig& c = pass.model->config;
  kernels::swiglu_forward(*pass.pool, floats(pass.N, c.intermediate_size), b.gate, b.up, s.inner);
  copy(x_out, b.x_mid, floats(pass.N, c.hidden_size));
  linear_forward(pass, pass.model->blocks[static_cast<std::size_t>(layer)].down, pass.N, s.inner, x_out, true);
}

void block_jvp(Pass& pass, int layer, const BlockBuffers& b, const Buffers& s) {
  const ModelConfig& c = pass.model->config;
  const BlockWeights& w = pass.model->blocks[static_cast<std::size_t>(layer)];
  ThreadPool& pool = *pass.pool;
  const Tangents& t = s.tangent;
  const int N = pass.N;
  const int H = c.hidden_size;
  const std::size_t inner = floats(N, c.intermediate_size);

  kernels::rmsnorm_recompute(pool, N, H, b.x_in, w.attention_norm.w, b.inverse1, s.normed);
  kernels::rmsnorm_jvp(pool, N, H, b.x_in, w.attention_norm.w, b.inverse1, t.x, t.normed);
  linear_jvp(pass, w.q, N, s.normed, t.normed, t.q);
  linear_jvp(pass, w.k, N, s.normed, t.normed, t.k);
  linear_jvp(pass, w.v, N, s.normed, t.normed, t.v);
  kernels::rope_forward(pool, rope_args(pass, c.heads), t.q);
  kernels::rope_forward(pool, rope_args(pass, c.kv_heads), t.k);
  kernels::attention_jvp(pool, attention_shape(pass, layer),
                         {b.q, b.k_all, b.v_all, b.attended, b.lse, t.q, t.k, t.v, t.attended});
  linear_jvp(pass, w.o, N, b.attended, t.attended, t.x, true);

  kernels::rmsnorm_recompute(pool, N, H, b.x_mid, w.mlp_norm.w, b.inverse2, s.normed);
  kernels::rmsnorm_jvp(pool, N, H, b.x_mid, w.mlp_norm.w, b.inverse2, t.x, t.normed);
  linear_jvp(pass, w.gate, N, s.normed, t.normed, t.gate);
  linear_jvp(pass, w.up, N, s.normed, t.normed, t.up);
  kernels::swiglu_forward(pool, inner, b.gate, b.up, s.inner);
  kernels::swiglu_jvp(pool, inner, b.gate, b.up, t.gate, t.up, t.inner);
  linear_jvp(pass, w.down, N, s.inner, t.inner, t.x, true);
}

BackwardDepth backward_depth(const Pass& pass, int layer, bool below) {
  const BlockWeights& w = pass.model->blocks[static_cast<std::size_t>(layer)];
  BackwardDepth depth;
  depth.below = below;
  depth.inside_qkv = below || pass.trained(w.q) || pass.trained(w.k) || pass.trained(w.v);
  depth.middle = depth.inside_qkv || pass.trained(w.o);
  return depth;
}

void block_backward(Pass& pass, int layer, const BlockBuffers& b, const Buffers& s, const BackwardDepth& depth) {
  const ModelConfig& c = pass.model->config;
  const BlockWeights& w = pass.model->blocks[static_cast<std::size_t>(layer)];
  ThreadPool& pool = *pass.pool;
  const int N = pass.N;
  const int H = c.hidden_size;
  const std::size_t inner = floats(N, c.intermediate_size);

  const bool inputs = pass.trained(w.gate) || pass.trained(w.up);
  const bool into_mlp = depth.middle || inputs;
  if (pass.trained(w.down)) kernels::swiglu_forward(pool, inner, b.gate, b.up, s.inner);
  linear_backward(pass, w.down, N, s.inner, s.dx, into_mlp ? s.dinner : nullptr);
  if (!into_mlp) return;
  kernels::swiglu_backward(pool, inner, s.dinner, b.gate, b.up);
  if (inputs) kernels::rmsnorm_recompute(pool, N, H, b.x_mid, w.mlp_norm.w, b.inverse2, s.normed);
  float* dnormed = depth.middle ? s.dnormed : nullptr;
  linear_backward(pass, w.gate, N, s.normed, b.gate, dnormed);
  linear_backward(pass, w.up, N, s.normed, b.up, dnormed, true);
  if (!depth.middle) return;
  if (pass.full_gradient != nullptr) {
    kernels::rmsnorm_backward_weight(pool, N, H, s.dnormed, b.x_mid, b.inverse2, pass.full_gradient + w.mlp_norm.at);
  }
  kernels::rmsnorm_backward(pool, N, H, s.dnormed, b.x_mid, w.mlp_norm.w, b.inverse2, s.dx);
  attention_backward_part(pass, layer, b, s, depth);
}

}  // namespace covey::model

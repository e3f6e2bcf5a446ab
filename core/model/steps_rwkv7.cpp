// The steps that only RWKV 7 has: its memory, the current token's bonus, the mix with the first block's values, and the
// stream that carries these along.
#include <cstring>

#include "core/kernels/wkv7.h"
#include "core/model/steps.h"

namespace covey::model {
namespace {

const float* vector_of(const Work& w, int table) {
  return w.pass.model->tables[static_cast<std::size_t>(table)].values;
}

float* full_gradient_of(const Work& w, int table) {
  return w.pass.tensor_gradient(w.pass.model->tables[static_cast<std::size_t>(table)].at);
}

/// `get` finds a slot's values: those of the forward or of the backward pass.
template <typename Get>
kernels::Wkv7Args memory_args(const Work& w, const Step& s, Get&& get) {
  return {w.stack().rows,
          s.heads,
          s.head_dim,
          vector_of(w, s.weight),
          vector_of(w, s.weight2),
          get(s.in),
          get(s.in2),
          get(s.in3),
          get(s.in4),
          get(s.in5),
          nullptr};
}

template <typename Get>
kernels::Wkv7Bonus bonus_args(const Work& w, const Step& s, Get&& get) {
  return {w.rows(s.out), s.heads,    s.head_dim, vector_of(w, s.weight), vector_of(w, s.weight2), get(s.in),
          get(s.in2),    get(s.in3), get(s.in4)};
}

/// Columns of a row that is `width` wide, to or from an array of their own.
void copy_columns(int rows, const float* from, long from_row, float* to, long to_row, int width, bool add) {
  for (long n = 0; n < rows; ++n) {
    const float* x = from + n * from_row;
    float* y = to + n * to_row;
    if (!add) {
      std::memcpy(y, x, sizeof(float) * static_cast<std::size_t>(width));
      continue;
    }
    for (int i = 0; i < width; ++i) y[i] += x[i];
  }
}

void join_columns(const Work& w, const Step& s, const float* left, const float* right, float* out) {
  const int first = w.slot(s.in).width;
  const int second = w.slot(s.in2).width;
  copy_columns(w.rows(s.out), left, first, out, first + second, first, false);
  copy_columns(w.rows(s.out), right, second, out + first, first + second, second, false);
}

void join_backward(const Work& w, const Step& s) {
  int at = 0;
  for (const int slot : {s.in, s.in2}) {
    const int width = w.slot(slot).width;
    bool add = false;
    if (float* d = backward_into(w, slot, add); d != nullptr) {
      copy_columns(w.rows(s.out), w.gradient(s.out) + at, w.slot(s.out).width, d, width, width, add);
    }
    at += width;
  }
}

void lerp_step_backward(const Work& w, const Step& s) {
  float* grads[3] = {};
  bool add[3] = {};
  const int slots[3] = {s.in, s.in2, s.in3};
  for (int i = 0; i < 3; ++i) grads[i] = backward_into(w, slots[i], add[i]);
  kernels::lerp_backward(*w.pass.pool, w.floats(s.out), backward_value(w, s.in), backward_value(w, s.in2),
                         backward_value(w, s.in3), w.gradient(s.out), grads, add);
}

void memory_backward(const Work& w, const Step& s) {
  const auto args = memory_args(w, s, [&](int slot) { return backward_value(w, slot); });
  kernels::Wkv7Backward g;
  g.states = w.value(s.stats);
  g.dy = w.gradient(s.out);
  g.dr = backward_into(w, s.in, g.add_r);
  g.dw = backward_into(w, s.in2, g.add_w);
  g.dk = backward_into(w, s.in3, g.add_k);
  g.dv = backward_into(w, s.in4, g.add_v);
  g.da = backward_into(w, s.in5, g.add_a);
  const std::size_t A = static_cast<std::size_t>(s.heads * s.head_dim);
  const std::size_t size = args.rows.size() * A;
  float* scale = full_gradient_of(w, s.weight);
  float* rate = full_gradient_of(w, s.weight2);
  const bool full = scale != nullptr || rate != nullptr;
  if (full) {
    w.pass.relative_gradient.resize(2 * size);
    g.dkey_scale = w.pass.relative_gradient.data();
    g.dkey_rate = g.dkey_scale + size;
  }
  kernels::wkv7_backward(*w.pass.pool, args, g);
  for (std::size_t i = 0; full && i < size; ++i) {
    if (scale != nullptr) scale[i % A] += g.dkey_scale[i];
    if (rate != nullptr) rate[i % A] += g.dkey_rate[i];
  }
}

void bonus_backward(const Work& w, const Step& s) {
  const auto args = bonus_args(w, s, [&](int slot) { return backward_value(w, slot); });
  kernels::Wkv7Backward g;
  g.dy = w.gradient(s.out);
  g.dr = backward_into(w, s.in, g.add_r);
  g.dk = backward_into(w, s.in2, g.add_k);
  g.dv = backward_into(w, s.in3, g.add_v);
  g.da = backward_into(w, s.in4, g.add_a);
  kernels::wkv7_bonus_backward(*w.pass.pool, args, g, full_gradient_of(w, s.weight), full_gradient_of(w, s.weight2));
}

}  // namespace

void rwkv7_forward(const Work& w, const Step& s) {
  const auto get = [&](int slot) -> const float* { return w.value(slot); };
  ThreadPool& pool = *w.pass.pool;
  float* out = w.value(s.out);
  if (s.kind == StepKind::wkv7) {
    auto args = memory_args(w, s, get);
    float* states = w.value(s.stats);
    if (w.pass.decode != nullptr) {
      args.carried = w.pass.decode->keys[static_cast<std::size_t>(s.cache)].data();
      states = nullptr;
    }
    kernels::wkv7_forward(pool, args, out, states);
  } else if (s.kind == StepKind::bonus) {
    if (out != w.value(s.base)) std::memcpy(out, w.value(s.base), w.floats(s.out) * sizeof(float));
    kernels::wkv7_bonus_forward(pool, bonus_args(w, s, get), out);
  } else if (s.kind == StepKind::lerp) {
    kernels::lerp_forward(pool, w.floats(s.out), get(s.in), get(s.in2), get(s.in3), out);
  } else {
    join_columns(w, s, get(s.in), get(s.in2), out);
  }
}

void rwkv7_backward(const Work& w, const Step& s) {
  if (s.kind == StepKind::wkv7) return memory_backward(w, s);
  if (s.kind == StepKind::bonus) return bonus_backward(w, s);
  if (s.kind == StepKind::lerp) return lerp_step_backward(w, s);
  join_backward(w, s);
}

void rwkv7_jvp(const Work& w, const Step& s) {
  const auto get = [&](int slot) -> const float* { return w.value(slot); };
  ThreadPool& pool = *w.pass.pool;
  float* out = w.tangent(s.out);
  if (s.kind == StepKind::wkv7) {
    kernels::wkv7_jvp(pool, memory_args(w, s, get),
                      {w.tangent(s.in), w.tangent(s.in2), w.tangent(s.in3), w.tangent(s.in4), w.tangent(s.in5)}, out);
  } else if (s.kind == StepKind::bonus) {
    if (out != w.tangent(s.base)) std::memcpy(out, w.tangent(s.base), w.floats(s.out) * sizeof(float));
    kernels::wkv7_bonus_jvp(pool, bonus_args(w, s, get),
                            {w.tangent(s.in), nullptr, w.tangent(s.in2), w.tangent(s.in3), w.tangent(s.in4)}, out);
  } else if (s.kind == StepKind::lerp) {
    kernels::lerp_jvp(pool, w.floats(s.out), get(s.in), get(s.in2), get(s.in3), w.tangent(s.in), w.tangent(s.in2),
                      w.tangent(s.in3), out);
  } else {
    join_columns(w, s, w.tangent(s.in), w.tangent(s.in2), out);
  }
}

}  // namespace covey::model

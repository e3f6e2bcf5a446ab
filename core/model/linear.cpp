// The linear layer with what is attached to it: LoRA, a trained head, scales, a bias's change, a bottleneck.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/base/rng.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/gemm.h"
#include "core/model/parts.h"

namespace covey::model {
namespace {

struct Values {
  const float* w;
  const float* b;
};

/// The model's own weights, or the trained head's.
Values values_of(const Pass& pass, const Linear& linear) {
  if (!pass.own_head(linear)) return {linear.w, pass.bias(linear.bias, linear.b)};
  const float* head = pass.adapter->head.data();
  return {head + linear.head_w_at, linear.head_b_at < 0 ? nullptr : head + linear.head_b_at};
}

/// y = W x, whichever way W lies.
void multiply(ThreadPool& pool, const Linear& l, const float* w, int N, const float* x, float* y, LinearOptions o) {
  const kernels::GemmOptions options{.alpha = 1, .accumulate = o.accumulate, .a_row = o.x_row};
  if (l.in_out) {
    kernels::gemm_nn(pool, N, l.out, l.in, x, w, y, options);
  } else {
    kernels::gemm_nt(pool, N, l.out, l.in, x, w, y, options);
  }
}

/// Outlier columns in f32, the rest in int8: so they set no token's scale, and are not rounded.
void multiply_split(Pass& pass, const Linear& l, int N, const float* x, float* y, LinearOptions o) {
  const std::vector<int>& columns = l.outliers->columns;
  const auto in = static_cast<std::size_t>(l.in);
  const auto K = columns.size();
  const auto rows = static_cast<std::size_t>(N);
  if (pass.without.size() < rows * in) pass.without.resize(rows * in);
  if (pass.outliers.size() < rows * K) pass.outliers.resize(rows * K);
  const std::size_t x_row = o.x_row > 0 ? static_cast<std::size_t>(o.x_row) : in;
  pass.pool->parallel_for(rows, [&](std::size_t n) {
    float* rest = pass.without.data() + n * in;
    std::memcpy(rest, x + n * x_row, in * sizeof(float));
    for (std::size_t k = 0; k < K; ++k) {
      float& value = rest[static_cast<std::size_t>(columns[k])];
      pass.outliers[n * K + k] = value;
      value = 0;
    }
  });
  kernels::int8_forward(*pass.pool, N, *l.int8, pass.without.data(), y, pass.int8, {.accumulate = o.accumulate});
  kernels::gemm_nt(*pass.pool, N, l.out, static_cast<int>(K), pass.outliers.data(), l.outliers->values.data(), y,
                   {.alpha = 1, .accumulate = true});
}

/// Raises the peaks of this layer's input.
void record_input(Pass& pass, const Linear& l, int N, const float* x, long x_row) {
  std::vector<float>& peaks = pass.peaks->of_layer[static_cast<std::size_t>(&l - pass.model->linears.data())];
  peaks.resize(static_cast<std::size_t>(l.in));
  for (int n = 0; n < N; ++n) {
    const float* row = x + n * (x_row > 0 ? x_row : l.in);
    for (int k = 0; k < l.in; ++k) {
      peaks[static_cast<std::size_t>(k)] = std::max(peaks[static_cast<std::size_t>(k)], std::abs(row[k]));
    }
  }
}

/// y = W x with the layer's own weights.
void multiply_own(Pass& pass, const Linear& l, int N, const float* x, float* y, LinearOptions o) {
  if (l.int8 == nullptr || pass.own_head(l)) return multiply(*pass.pool, l, values_of(pass, l).w, N, x, y, o);
  if (l.outliers != nullptr) return multiply_split(pass, l, N, x, y, o);
  kernels::int8_forward(*pass.pool, N, *l.int8, x, y, pass.int8, {.accumulate = o.accumulate, .x_row = o.x_row});
}

void weight_gradient(ThreadPool& pool, const Linear& l, int N, const float* x, const float* dy, float* dw, float* db,
                     long x_row) {
  if (dw != nullptr && l.in_out) {
    kernels::gemm_tn(pool, l.in, l.out, N, x, dy, dw, {.alpha = 1, .accumulate = true, .a_row = x_row});
  } else if (dw != nullptr) {
    kernels::gemm_tn(pool, l.out, l.in, N, dy, x, dw, {.alpha = 1, .accumulate = true, .b_row = x_row});
  }
  if (db != nullptr) kernels::bias_backward(pool, N, l.out, dy, db);
}

/// What is added to W x: b and LoRA's B A x.
void add_rest(Pass& pass, const Linear& linear, int N, const float* x, float* y, long x_row) {
  ThreadPool& pool = *pass.pool;
  const Values values = values_of(pass, linear);
  if (values.b != nullptr) kernels::add_bias(pool, N, linear.out, values.b, y);
  const int index = pass.lora(linear);
  if (index < 0) return;
  const LoraSite& lora = pass.spec->lora[static_cast<std::size_t>(index)];
  const auto& ab = pass.adapter->lora[static_cast<std::size_t>(index)];
  kernels::gemm_nt(pool, N, lora.rank, linear.in, x, ab.a.data(), pass.u.data(), {.a_row = x_row});
  kernels::gemm_nt(pool, N, linear.out, lora.rank, pass.u.data(), ab.b.data(), y,
                   {.alpha = lora.scale, .accumulate = true});
}

/// W x + b with LoRA. @sa linear_forward
void plain_forward(Pass& pass, const Linear& linear, int N, const float* x, float* y, LinearOptions options) {
  multiply_own(pass, linear, N, x, y, options);
  add_rest(pass, linear, N, x, y, options.x_row);
}

/// Of the noise with which this layer's dY is rounded. Blocks that share a layer share its noise, each without bias.
std::uint32_t rounding_seed(const Pass& pass, const Linear& linear) {
  if (!pass.stochastic) return 0;
  const auto layer = static_cast<std::uint64_t>(&linear - pass.model->linears.data());
  return static_cast<std::uint32_t>(derive_seed(pass.rounding_seed, layer));
}

void plain_backward(Pass& pass, const Linear& linear, int N, const float* x, const float* dy, float* dx,
                    LinearOptions options) {
  ThreadPool& pool = *pass.pool;
  const long x_row = options.x_row;
  if (dx != nullptr && linear.int8 != nullptr && linear.int8_backward && !pass.own_head(linear)) {
    const auto backward = linear.word_head ? kernels::int8_backward_by_parts : kernels::int8_backward;
    backward(pool, N, *linear.int8, dy, dx, pass.int8,
             {.accumulate = options.accumulate,
              .y_row = x_row,
              .stochastic = pass.stochastic,
              .seed = rounding_seed(pass, linear)});
  } else if (dx != nullptr) {
    const kernels::GemmOptions to{.alpha = 1, .accumulate = options.accumulate, .y_row = x_row};
    const float* w = values_of(pass, linear).w;
    if (linear.in_out) {
      kernels::gemm_nt(pool, N, linear.in, linear.out, dy, w, dx, to);
    } else {
      kernels::gemm_nn(pool, N, linear.in, linear.out, dy, w, dx, to);
    }
  }
  if (pass.full) {
    weight_gradient(pool, linear, N, x, dy, pass.tensor_gradient(linear.w_at), pass.tensor_gradient(linear.b_at),
                    x_row);
  } else if (pass.gradient != nullptr && pass.own_head(linear)) {
    float* head = pass.gradient->head.data();
    weight_gradient(pool, linear, N, x, dy, head + linear.head_w_at,
                    linear.head_b_at < 0 ? nullptr : head + linear.head_b_at, x_row);
  }
  const int bias = Pass::part_at(pass.part_of_bias, linear.bias);
  if (bias >= 0 && pass.gradient != nullptr) kernels::bias_backward(pool, N, linear.out, dy, pass.gradient_of(bias));
  const int index = pass.lora(linear);
  if (index < 0) return;
  const LoraSite& lora = pass.spec->lora[static_cast<std::size_t>(index)];
  const auto& values = pass.adapter->lora[static_cast<std::size_t>(index)];
  const bool trained = pass.gradient != nullptr && lora.trains();
  if (!trained && dx == nullptr) return;
  if (dx != nullptr || lora.train_a) {
    kernels::gemm_nn(pool, N, lora.rank, linear.out, dy, values.b.data(), pass.du.data(), {.alpha = lora.scale});
  }
  if (dx != nullptr) {
    kernels::gemm_nn(pool, N, linear.in, lora.rank, pass.du.data(), values.a.data(), dx,
                     {.alpha = 1, .accumulate = true, .y_row = x_row});
  }
  if (trained) {
    const auto& gradient = pass.gradient->lora[static_cast<std::size_t>(index)];
    if (lora.train_a) {
      kernels::gemm_tn(pool, lora.rank, linear.in, N, pass.du.data(), x, gradient.a.data(),
                       {.alpha = 1, .accumulate = true, .b_row = x_row});
    }
    if (!lora.train_b) return;
    kernels::gemm_nt(pool, N, lora.rank, linear.in, x, values.a.data(), pass.u.data(), {.a_row = x_row});
    kernels::gemm_tn(pool, linear.out, lora.rank, N, dy, pass.u.data(), gradient.b.data(),
                     {.alpha = lora.scale, .accumulate = true});
  }
}

void plain_jvp(Pass& pass, const Linear& linear, int N, const float* x, const float* x_t, float* y_t,
               LinearOptions options) {
  ThreadPool& pool = *pass.pool;
  multiply_own(pass, linear, N, x_t, y_t, options);
  if (pass.own_head(linear)) {
    const float* head = pass.direction->head.data();
    LinearOptions more = options;
    more.accumulate = true;
    multiply(pool, linear, head + linear.head_w_at, N, x, y_t, more);
    if (linear.head_b_at >= 0) kernels::add_bias(pool, N, linear.out, head + linear.head_b_at, y_t);
  }
  const int bias = Pass::part_at(pass.part_of_bias, linear.bias);
  if (bias >= 0) kernels::add_bias(pool, N, linear.out, pass.direction_of(bias), y_t);
  const int index = pass.lora(linear);
  if (index < 0) return;
  const auto i = static_cast<std::size_t>(index);
  const LoraSite& lora = pass.spec->lora[i];
  const auto& values = pass.adapter->lora[i];
  const auto& direction = pass.direction->lora[i];
  const long x_row = options.x_row;
  // d(B A x) = B (A dx + dA x) + dB (A x)
  kernels::gemm_nt(pool, N, lora.rank, linear.in, x_t, values.a.data(), pass.du.data(), {.a_row = x_row});
  kernels::gemm_nt(pool, N, lora.rank, linear.in, x, direction.a.data(), pass.du.data(),
                   {.alpha = 1, .accumulate = true, .a_row = x_row});
  kernels::gemm_nt(pool, N, linear.out, lora.rank, pass.du.data(), values.b.data(), y_t,
                   {.alpha = lora.scale, .accumulate = true});
  kernels::gemm_nt(pool, N, lora.rank, linear.in, x, values.a.data(), pass.u.data(), {.a_row = x_row});
  kernels::gemm_nt(pool, N, linear.out, lora.rank, pass.u.data(), direction.b.data(), y_t,
                   {.alpha = lora.scale, .accumulate = true});
}

/// A layer with parts: y = base + bottleneck(l_out (W (l_in x) + b)).
class PartedLinear {
 public:
  PartedLinear(Pass& pass, const Linear& linear, int N, const float* x, LinearOptions options)
      : pass_(pass), l_(linear), parts_(pass.parts(linear)), N_(N), x_(x), options_(options) {
    if (parts_.scale_in < 0) return;
    // What the matrix reads.
    options_.x_row = 0;
    x_ = scaled(parts_.scale_in, x, options.x_row, wide(0));
  }

  void forward(float* y) {
    if (!options_.accumulate || !changes_result()) {
      plain_forward(pass_, l_, N_, x_, y, options_);
      if (parts_.scale_out >= 0) scaled(parts_.scale_out, y, 0, y);
      if (parts_.bottleneck >= 0) bottleneck_forward(pass_, parts_.bottleneck, N_, y, y);
      return;
    }
    // y first gets what it would get without parts, in the same order: so parts that are nothing change no bit.
    ThreadPool& pool = *pass_.pool;
    float* own = wide(1);
    multiply_own(pass_, l_, N_, x_, own, {false, options_.x_row});
    kernels::add(pool, floats(l_.out), own, y);
    for (float* to : {y, own}) add_rest(pass_, l_, N_, x_, to, options_.x_row);
    if (parts_.scale_out >= 0) {
      const float* scale = pass_.values_of(parts_.scale_out);
      pass_.excess.assign(scale, scale + l_.out);
      for (float& value : pass_.excess) value -= 1;
      kernels::scale_columns(pool, {.N = N_, .C = l_.out, .accumulate = true}, pass_.excess.data(), own, y);
      scaled(parts_.scale_out, own, 0, own);
    }
    if (parts_.bottleneck >= 0) bottleneck_forward(pass_, parts_.bottleneck, N_, own, y);
  }

  /// @param x the layer's own input, (of rows `given.x_row` apart, as dx)
  void backward(const float* x, const float* dy, float* dx, LinearOptions given) {
    ThreadPool& pool = *pass_.pool;
    if (changes_result()) {
      float* y = wide(1);
      float* d = wide(2);
      plain_forward(pass_, l_, N_, x_, y, {false, options_.x_row});
      std::memcpy(d, dy, floats(l_.out) * sizeof(float));
      if (parts_.bottleneck >= 0) {
        const float* before = parts_.scale_out < 0 ? y : scaled(parts_.scale_out, y, 0, wide(3));
        bottleneck_backward(pass_, parts_.bottleneck, N_, before, d);
      }
      if (parts_.scale_out >= 0) {
        if (float* to = pass_.gradient_of(parts_.scale_out); to != nullptr) {
          kernels::column_dots(pool, {.N = N_, .C = l_.out}, d, y, to);
        }
        scaled(parts_.scale_out, d, 0, d);
      }
      dy = d;
    }
    if (parts_.scale_in < 0) return plain_backward(pass_, l_, N_, x_, dy, dx, given);
    float* inner = wide(3);
    plain_backward(pass_, l_, N_, x_, dy, inner, {});
    if (float* to = pass_.gradient_of(parts_.scale_in); to != nullptr) {
      kernels::column_dots(pool, {.N = N_, .C = l_.in, .y_row = given.x_row}, inner, x, to);
    }
    if (dx == nullptr) return;
    kernels::scale_columns(pool, {.N = N_, .C = l_.in, .y_row = given.x_row, .accumulate = given.accumulate},
                           pass_.values_of(parts_.scale_in), inner, dx);
  }

  void jvp(const float* x, const float* x_t, float* y_t, LinearOptions given) {
    ThreadPool& pool = *pass_.pool;
    if (parts_.scale_in >= 0) {
      x_t = scaled(parts_.scale_in, x_t, given.x_row, wide(2));
      kernels::scale_columns(pool, {.N = N_, .C = l_.in, .x_row = given.x_row, .accumulate = true},
                             pass_.direction_of(parts_.scale_in), x, wide(2));
    }
    if (!changes_result()) return plain_jvp(pass_, l_, N_, x_, x_t, y_t, {given.accumulate, options_.x_row});
    float* y = wide(1);
    float* to = given.accumulate ? wide(3) : y_t;
    plain_forward(pass_, l_, N_, x_, y, {false, options_.x_row});
    plain_jvp(pass_, l_, N_, x_, x_t, to, {false, options_.x_row});
    if (parts_.scale_out >= 0) {
      scaled(parts_.scale_out, to, 0, to);
      kernels::scale_columns(pool, {.N = N_, .C = l_.out, .accumulate = true}, pass_.direction_of(parts_.scale_out), y,
                             to);
      scaled(parts_.scale_out, y, 0, y);
    }
    if (parts_.bottleneck >= 0) bottleneck_jvp(pass_, parts_.bottleneck, N_, y, to);
    if (to != y_t) kernels::add(pool, floats(l_.out), to, y_t);
  }

 private:
  [[nodiscard]] bool changes_result() const { return parts_.scale_out >= 0 || parts_.bottleneck >= 0; }
  [[nodiscard]] std::size_t floats(int width) const {
    return static_cast<std::size_t>(N_) * static_cast<std::size_t>(width);
  }
  float* wide(std::size_t buffer) {
    std::vector<float>& to = pass_.wide[buffer];
    const std::size_t size = floats(std::max(l_.in, l_.out));
    if (to.size() < size) to.resize(size);
    return to.data();
  }
  /// to (N, width of the part) = l x, contiguous.
  float* scaled(int part, const float* x, long x_row, float* to) {
    kernels::scale_columns(*pass_.pool, {.N = N_, .C = pass_.part(part).width, .x_row = x_row}, pass_.values_of(part),
                           x, to);
    return to;
  }

  Pass& pass_;
  const Linear& l_;
  SiteParts parts_;
  int N_;
  const float* x_;
  LinearOptions options_;
};

}  // namespace

void linear_forward(Pass& pass, const Linear& linear, int N, const float* x, float* y, LinearOptions options) {
  if (pass.peaks != nullptr) record_input(pass, linear, N, x, options.x_row);
  if (!pass.parts(linear).any()) return plain_forward(pass, linear, N, x, y, options);
  PartedLinear(pass, linear, N, x, options).forward(y);
}

void linear_backward(Pass& pass, const Linear& linear, int N, const float* x, const float* dy, float* dx,
                     LinearOptions options) {
  if (!pass.parts(linear).any()) return plain_backward(pass, linear, N, x, dy, dx, options);
  PartedLinear(pass, linear, N, x, options).backward(x, dy, dx, options);
}

void linear_jvp(Pass& pass, const Linear& linear, int N, const float* x, const float* x_t, float* y_t,
                LinearOptions options) {
  if (!pass.parts(linear).any()) return plain_jvp(pass, linear, N, x, x_t, y_t, options);
  PartedLinear(pass, linear, N, x, options).jvp(x, x_t, y_t, options);
}

}  // namespace covey::model

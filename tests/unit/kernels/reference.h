/// Slow, plain versions of the kernels, for any scalar: with std::complex<double> and an imaginary step of 1e-50 their
/// derivatives come out to machine precision (complex-step differentiation).
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <vector>

#include "core/base/rng.h"
#include "core/kernels/activation.h"
#include "core/kernels/attention.h"
#include "core/kernels/norm.h"
#include "core/kernels/wkv.h"

namespace covey::kernels::reference {

using Complex = std::complex<double>;

inline std::vector<float> random(std::size_t n, std::uint64_t stream, float scale = 1) {
  std::vector<float> values(n);
  CounterRng(7, stream).fill_normal(values);
  for (float& value : values) value *= scale;
  return values;
}

template <typename S>
std::vector<S> as(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

template <typename S>
std::vector<S> norm(const NormArgs& args, const std::vector<S>& x, const std::vector<S>& weight,
                    const std::vector<S>& bias) {
  std::vector<S> y(x.size());
  const auto H = static_cast<std::size_t>(args.H);
  for (std::size_t row = 0; row * H < x.size(); ++row) {
    const std::size_t at = row * H;
    S mean{};
    S square{};
    for (std::size_t i = 0; i < H; ++i) mean += x[at + i] / static_cast<double>(H);
    if (args.kind != NormKind::layer) mean = S{};
    for (std::size_t i = 0; i < H; ++i) square += (x[at + i] - mean) * (x[at + i] - mean) / static_cast<double>(H);
    const S inverse = args.kind == NormKind::affine ? S(1.0) : 1.0 / std::sqrt(square + static_cast<double>(args.eps));
    const std::size_t own = args.own_weights ? row % static_cast<std::size_t>(args.heads) * H : 0;
    for (std::size_t i = 0; i < H; ++i) {
      y[at + i] = (x[at + i] - mean) * inverse;
      if (args.weight != nullptr) y[at + i] *= weight[own + i] + static_cast<double>(args.weight_offset);
      if (args.bias != nullptr) y[at + i] += bias[own + i];
    }
  }
  return y;
}

inline double activation(Activation kind, double x, double limit) {
  const double root = std::sqrt(2 / std::acos(-1.0));
  switch (kind) {
    case Activation::identity:
      return x;
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(root * (x + 0.044715 * x * x * x)));
    case Activation::quick_gelu:
      return x / (1 + std::exp(-1.702 * x));
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::relu_squared:
      return std::max(x, 0.0) * std::max(x, 0.0);
    case Activation::tanh:
      return std::tanh(x);
    case Activation::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::soft_cap:
      return limit * std::tanh(x / limit);
    case Activation::clip:
      return std::clamp(x, -limit, limit);
  }
  return 0;
}

/// Sum of the rows' losses.
template <typename S>
S cross_entropy(int N, int V, const std::vector<S>& logits, const std::vector<std::int32_t>& target) {
  S loss{};
  for (std::size_t n = 0; n < static_cast<std::size_t>(N); ++n) {
    const std::size_t at = n * static_cast<std::size_t>(V);
    S sum{};
    for (std::size_t i = 0; i < static_cast<std::size_t>(V); ++i) sum += std::exp(logits[at + i]);
    loss += std::log(sum) - logits[at + static_cast<std::size_t>(target[n])];
  }
  return loss;
}

/// Strides as in the shape, or contiguous.
template <typename S>
std::vector<S> attention(const AttentionShape& shape, const std::vector<S>& q, const std::vector<S>& k,
                         const std::vector<S>& v) {
  const int D = shape.D;
  const auto at = [D](const HeadStride& stride, int row, int heads, int head) {
    const long next_head = stride.head > 0 ? stride.head : D;
    const long next_row = stride.row > 0 ? stride.row : heads * next_head;
    return static_cast<std::size_t>(row * next_row + head * next_head);
  };
  int queries = 0;
  for (const AttentionRow& row : shape.rows) queries = std::max(queries, row.q_begin + row.q_count);
  std::vector<S> out(static_cast<std::size_t>(queries * shape.heads * D));
  for (const AttentionRow& row : shape.rows) {
    for (int head = 0; head < shape.heads; ++head) {
      const int kv_head = head / (shape.heads / shape.kv_heads);
      for (int i = 0; i < row.q_count; ++i) {
        const int position = row.kv_count - row.q_count + i;
        const std::size_t query = at(shape.q_at, row.q_begin + i, shape.heads, head);
        const std::size_t to = at({}, row.q_begin + i, shape.heads, head);
        S total{};
        for (int j = 0; j <= (shape.causal ? position : row.kv_count - 1); ++j) {
          if (shape.window > 0 && j <= position - shape.window) continue;
          const std::size_t key = at(shape.k_at, row.kv_begin + j, shape.kv_heads, kv_head);
          const std::size_t value = at(shape.v_at, row.kv_begin + j, shape.kv_heads, kv_head);
          S score{};
          for (int d = 0; d < D; ++d)
            score += q[query + static_cast<std::size_t>(d)] * k[key + static_cast<std::size_t>(d)];
          score *= static_cast<double>(shape.scale);
          if (shape.slopes != nullptr) score += static_cast<double>(shape.slopes[head]) * (j - position);
          if (shape.distance_bias != nullptr) {
            score +=
                static_cast<double>(shape.distance_bias[head * (2 * shape.reach - 1) + j - position + shape.reach - 1]);
          }
          const double cap = static_cast<double>(shape.soft_cap);
          if (cap > 0) score = cap * std::tanh(score / cap);
          const S weight = std::exp(score);
          total += weight;
          for (int d = 0; d < D; ++d)
            out[to + static_cast<std::size_t>(d)] += weight * v[value + static_cast<std::size_t>(d)];
        }
        for (int d = 0; d < D; ++d) out[to + static_cast<std::size_t>(d)] /= total;
      }
    }
  }
  return out;
}

/// RWKV's average by its definition, in the log domain of nothing: small inputs only.
template <typename S>
std::vector<S> wkv(const WkvArgs& args, const std::vector<S>& decay, const std::vector<S>& first,
                   const std::vector<S>& k, const std::vector<S>& v) {
  std::vector<S> y(k.size());
  const auto A = static_cast<std::size_t>(args.width);
  for (const AttentionRow& row : args.rows) {
    for (std::size_t c = 0; c < A; ++c) {
      S above{};
      S below{};
      for (int t = row.q_begin; t < row.q_begin + row.q_count; ++t) {
        const std::size_t at = static_cast<std::size_t>(t) * A + c;
        const S here = std::exp(first[c] + k[at]);
        y[at] = (above + here * v[at]) / (below + here);
        const S fade = std::exp(-std::exp(decay[c]));
        above = fade * above + std::exp(k[at]) * v[at];
        below = fade * below + std::exp(k[at]);
      }
    }
  }
  return y;
}

template <typename S>
S dot(const std::vector<S>& a, const std::vector<float>& b) {
  S sum{};
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * static_cast<double>(b[i]);
  return sum;
}

/// d f / d x[i], where f takes the whole vector.
template <typename F>
double derivative(const std::vector<float>& x, std::size_t i, F&& f) {
  auto moved = as<Complex>(x);
  moved[i] += Complex(0, 1e-50);
  return f(moved).imag() / 1e-50;
}

}  // namespace covey::kernels::reference

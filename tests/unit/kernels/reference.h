/// Slow, plain versions of the kernels, for any scalar: with std::complex<double> and an imaginary step of 1e-50 their
/// derivatives come out to machine precision (complex-step differentiation).
#pragma once

#include <cmath>
#include <complex>
#include <vector>

#include "core/base/rng.h"
#include "core/kernels/attention.h"

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
std::vector<S> rmsnorm(int N, int H, const std::vector<S>& x, const std::vector<S>& weight, double eps) {
  std::vector<S> y(x.size());
  for (std::size_t n = 0; n < static_cast<std::size_t>(N); ++n) {
    const std::size_t at = n * static_cast<std::size_t>(H);
    S sum{};
    for (std::size_t i = 0; i < static_cast<std::size_t>(H); ++i) sum += x[at + i] * x[at + i];
    const S inverse = 1.0 / std::sqrt(sum / static_cast<double>(H) + eps);
    for (std::size_t i = 0; i < static_cast<std::size_t>(H); ++i) y[at + i] = x[at + i] * inverse * weight[i];
  }
  return y;
}

template <typename S>
std::vector<S> swiglu(const std::vector<S>& gate, const std::vector<S>& up) {
  std::vector<S> h(gate.size());
  for (std::size_t i = 0; i < h.size(); ++i) h[i] = gate[i] / (1.0 + std::exp(-gate[i])) * up[i];
  return h;
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

template <typename S>
std::vector<S> attention(const AttentionShape& shape, const std::vector<S>& q, const std::vector<S>& k,
                         const std::vector<S>& v) {
  std::vector<S> out(q.size());
  const int D = shape.D;
  const auto at = [D](int row, int heads, int head) { return static_cast<std::size_t>((row * heads + head) * D); };
  for (const AttentionRow& row : shape.rows) {
    for (int head = 0; head < shape.heads; ++head) {
      const int kv_head = head / (shape.heads / shape.kv_heads);
      for (int i = 0; i < row.q_count; ++i) {
        const int position = row.kv_count - row.q_count + i;
        const std::size_t query = at(row.q_begin + i, shape.heads, head);
        S total{};
        for (int j = 0; j <= position; ++j) {
          if (shape.window > 0 && j <= position - shape.window) continue;
          const std::size_t key = at(row.kv_begin + j, shape.kv_heads, kv_head);
          S score{};
          for (int d = 0; d < D; ++d)
            score += q[query + static_cast<std::size_t>(d)] * k[key + static_cast<std::size_t>(d)];
          const S weight = std::exp(score * static_cast<double>(shape.scale));
          total += weight;
          for (int d = 0; d < D; ++d)
            out[query + static_cast<std::size_t>(d)] += weight * v[key + static_cast<std::size_t>(d)];
        }
        for (int d = 0; d < D; ++d) out[query + static_cast<std::size_t>(d)] /= total;
      }
    }
  }
  return out;
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

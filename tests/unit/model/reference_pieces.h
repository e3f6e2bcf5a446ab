/// What every family is made of, in plain loops over complex numbers: linear layers, norms, attention, and the adapters
/// at them. family_reference.h puts them together.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <map>
#include <string>
#include <vector>

#include "core/model/engine.h"
#include "core/model/families.h"
#include "core/model/model.h"

namespace covey::model::plain {

using C = std::complex<double>;
using Row = std::vector<C>;
using Rows = std::vector<Row>;

/// f at a real point, with its slope: what a complex step needs of functions that are not analytic, or not in
/// <complex>.
inline C along(const C& x, double value, double slope) {
  return {value, slope * x.imag()};
}

inline C activate(Activation kind, const C& x, double limit = 0) {
  const double root = std::sqrt(2 / std::acos(-1.0));
  switch (kind) {
    case Activation::silu:
      return x / (1.0 + std::exp(-x));
    case Activation::gelu: {
      const double r = x.real();
      const double cdf = 0.5 * std::erfc(-r / std::sqrt(2.0));
      return along(x, r * cdf, cdf + r * std::exp(-r * r / 2) * root / 2);
    }
    case Activation::gelu_tanh:
      return 0.5 * x * (1.0 + std::tanh(root * (x + 0.044715 * x * x * x)));
    case Activation::quick_gelu:
      return x / (1.0 + std::exp(-1.702 * x));
    case Activation::relu:
      return x.real() > 0 ? x : C{};
    case Activation::relu_squared:
      return x.real() > 0 ? x * x : C{};
    case Activation::tanh:
      return std::tanh(x);
    case Activation::sigmoid:
      return 1.0 / (1.0 + std::exp(-x));
    case Activation::soft_cap:
      return limit * std::tanh(x / limit);
    case Activation::clip:
      return std::abs(x.real()) < limit ? x : C(std::clamp(x.real(), -limit, limit));
    case Activation::identity:
      break;
  }
  return x;
}
/// Adapters, as their papers write them. Empty: none.
struct Adapters {
  struct Lora {
    Row a, b;  ///< (R, in), (out, R)
    double scale = 1;
  };
  struct Bottleneck {
    Row values;  ///< D (R, width), d (R), U (width, R), u (width)
    std::size_t R = 0;
    Activation f = Activation::identity;
  };
  std::map<std::string, Lora> lora;  ///< by the path of a linear layer
  std::map<std::string, Row> scale_in, scale_out;
  std::map<std::string, Bottleneck> bottleneck;
  std::vector<Bottleneck> behind_block;  ///< of every block, in the forward pass's order
  std::vector<Row> prefix;               ///< of every attention, in that order: keys, values
  std::size_t prefix_tokens = 0;
  Rows prompt;  ///< virtual tokens' embeddings
};

class Pieces {
 public:
  explicit Pieces(Model& model) : c(model.config()) {
    for (const auto& t : model.parameters()) tensors[t.name] = Row(t.values.begin(), t.values.end());
  }

  const ModelConfig& c;
  std::map<std::string, Row> tensors;
  Adapters adapters;

 protected:
  [[nodiscard]] const Row* find(const std::string& name) const {
    const auto found = tensors.find(name);
    return found == tensors.end() ? nullptr : &found->second;
  }

  /// y += U f(D y + d) + u.
  static void squeeze(const Adapters::Bottleneck& b, Row& y) {
    const std::size_t width = y.size();
    const C* D = b.values.data();
    const C* d = D + b.R * width;
    const C* U = d + b.R;
    const C* u = U + b.R * width;
    Row inner(b.R);
    for (std::size_t r = 0; r < b.R; ++r) {
      for (std::size_t i = 0; i < width; ++i) inner[r] += D[r * width + i] * y[i];
      inner[r] = activate(b.f, inner[r] + d[r]);
    }
    for (std::size_t i = 0; i < width; ++i) {
      for (std::size_t r = 0; r < b.R; ++r) y[i] += U[i * b.R + r] * inner[r];
      y[i] += u[i];
    }
  }

  static void add_lora(const Adapters::Lora& lora, const Row& x, Row& y) {
    const std::size_t rank = lora.a.size() / x.size();
    for (std::size_t r = 0; r < rank; ++r) {
      C inner{};
      for (std::size_t i = 0; i < x.size(); ++i) inner += lora.a[r * x.size() + i] * x[i];
      for (std::size_t o = 0; o < y.size(); ++o) y[o] += lora.scale * lora.b[o * rank + r] * inner;
    }
  }

  [[nodiscard]] Row linear(const std::string& path, Row x, bool in_out = false) const {
    const auto at = [&](const auto& of) {
      const auto found = of.find(path);
      return found == of.end() ? nullptr : &found->second;
    };
    if (const Row* scale = at(adapters.scale_in)) {
      for (std::size_t i = 0; i < x.size(); ++i) x[i] *= (*scale)[i];
    }
    const Row& w = tensors.at(path + ".weight");
    const std::size_t in = x.size();
    const std::size_t out = w.size() / in;
    Row y(out);
    for (std::size_t o = 0; o < out; ++o) {
      for (std::size_t i = 0; i < in; ++i) y[o] += (in_out ? w[i * out + o] : w[o * in + i]) * x[i];
    }
    if (const Row* bias = find(path + ".bias")) {
      for (std::size_t o = 0; o < out; ++o) y[o] += (*bias)[o];
    }
    if (const auto* lora = at(adapters.lora)) add_lora(*lora, x, y);
    if (const Row* scale = at(adapters.scale_out)) {
      for (std::size_t o = 0; o < out; ++o) y[o] *= (*scale)[o];
    }
    if (const auto* bottleneck = at(adapters.bottleneck)) squeeze(*bottleneck, y);
    return y;
  }

  /// Groups of x.size() / groups elements; a missing weight is 1.
  [[nodiscard]] Row norm(const std::string& path, Row x, NormKind kind, double eps, double offset,
                         std::size_t groups = 1, bool by_channel = false) const {
    const std::size_t H = x.size() / groups;
    const Row* w = find(path + ".weight");
    const Row* bias = find(path + ".bias");
    for (std::size_t g = 0; g < groups; ++g) {
      const Row* own = find(path + ".norms." + std::to_string(g) + ".weight");
      C* at = x.data() + g * H;
      C mean{};
      C square{};
      for (std::size_t i = 0; i < H && kind == NormKind::layer; ++i) mean += at[i] / static_cast<double>(H);
      for (std::size_t i = 0; i < H; ++i) square += (at[i] - mean) * (at[i] - mean) / static_cast<double>(H);
      const C factor = kind == NormKind::affine ? C(1.0) : 1.0 / std::sqrt(square + eps);
      for (std::size_t i = 0; i < H; ++i) {
        at[i] = (at[i] - mean) * factor;
        if (own != nullptr) at[i] *= (*own)[i];
        const std::size_t own_at = by_channel ? g * H + i : i;
        if (w != nullptr) at[i] *= (*w)[own_at] + offset;
        if (bias != nullptr) at[i] += (*bias)[own_at];
      }
    }
    return x;
  }
  [[nodiscard]] Row norm(const std::string& path, const Row& x) const {
    return norm(path, x, c.norm, c.norm_eps, c.norm_offset);
  }

  static void add(Row& to, const Row& from) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  }

  [[nodiscard]] Row table_row(const std::string& path, int row, std::size_t width) const {
    const Row& t = tensors.at(path + ".weight");
    const auto begin = t.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(row) * width);
    return {begin, begin + static_cast<std::ptrdiff_t>(width)};
  }
  [[nodiscard]] Row activated(const std::string& path, const Row& x, Activation kind) const {
    Row y = linear(path, x);
    for (C& value : y) value = activate(kind, value);
    return y;
  }
  /// Of element i of R / 2.
  static double frequency(const RopeConfig& rope, double i, double R) {
    const double plain = std::pow(rope.theta, -2 * i / R);
    if (rope.scaling == RopeScaling::linear) return plain / rope.factor;
    if (rope.scaling != RopeScaling::yarn) return plain;
    // Elements whose waves turn beta times over the original context.
    const auto at = [&](double beta) {
      return R / 2 * std::log(rope.original_context / (2 * std::acos(-1.0) * beta)) / std::log(rope.theta);
    };
    double low = at(rope.beta_fast);
    double high = at(rope.beta_slow);
    if (rope.truncate) {
      low = std::floor(low);
      high = std::ceil(high);
    }
    low = low < 0 ? 0 : low;
    high = high > R - 1 ? R - 1 : high;
    if (i <= low) return plain;
    if (i >= high) return plain / rope.factor;
    return plain + (plain / rope.factor - plain) * (i - low) / (high - low);
  }

  static void rotate(const ModelConfig& c, int position, std::size_t D, Row& x) {
    const auto R = static_cast<std::size_t>(c.rope.rotary_dim > 0 ? c.rope.rotary_dim : static_cast<int>(D));
    for (std::size_t at = 0; at < x.size(); at += D) {
      for (std::size_t i = 0; i < R / 2; ++i) {
        const double angle = position * frequency(c.rope, static_cast<double>(i), static_cast<double>(R));
        const C a = x[at + i] * c.rope.attention_factor;
        const C b = x[at + R / 2 + i] * c.rope.attention_factor;
        x[at + i] = a * std::cos(angle) - b * std::sin(angle);
        x[at + R / 2 + i] = b * std::cos(angle) + a * std::sin(angle);
      }
    }
  }

  struct Shape {
    std::size_t heads, kv_heads, D;
    double scale = 1;
    int window = 0;
    bool causal = true;
    const Row* relative = nullptr;  ///< (buckets, heads)
    std::size_t attention = 0;      ///< of Adapters::prefix
  };

  /// Raffel et al., 2020.
  [[nodiscard]] std::size_t bucket(int distance, bool both) const {
    int buckets = c.relative_buckets;
    int first = 0;
    if (both) {
      buckets /= 2;
      if (distance > 0) first = buckets;
      distance = std::abs(distance);
    } else {
      distance = distance > 0 ? 0 : -distance;
    }
    const int exact = buckets / 2;
    if (distance < exact) return static_cast<std::size_t>(first + distance);
    const double part = std::log(static_cast<double>(distance) / exact) /
                        std::log(static_cast<double>(c.relative_distance) / exact) * (buckets - exact);
    return static_cast<std::size_t>(first + std::min(exact + static_cast<int>(part + 1e-9), buckets - 1));
  }

  [[nodiscard]] double slope(std::size_t head, std::size_t heads) const {
    std::size_t n = 1;
    while (2 * n <= heads) n *= 2;
    if (head < n) return std::pow(2.0, -8.0 * static_cast<double>(head + 1) / static_cast<double>(n));
    return std::pow(2.0, -4.0 * static_cast<double>(2 * (head - n) + 1) / static_cast<double>(n));
  }

  /// @param i of the row's own tokens: those of a prefix stand before them.
  [[nodiscard]] Row attend(const Shape& s, std::size_t i, const Row& q, Rows k, Rows v) const {
    const std::size_t P = adapters.prefix_tokens;
    const auto width = static_cast<std::ptrdiff_t>(s.kv_heads * s.D);
    for (std::size_t t = P; t-- > 0;) {
      const auto keys = adapters.prefix[s.attention].begin() + static_cast<std::ptrdiff_t>(t) * width;
      const auto values = keys + static_cast<std::ptrdiff_t>(P) * width;
      k.insert(k.begin(), Row(keys, keys + width));
      v.insert(v.begin(), Row(values, values + width));
    }
    i += P;
    Row out(s.heads * s.D);
    for (std::size_t h = 0; h < s.heads; ++h) {
      const std::size_t g = h / (s.heads / s.kv_heads);
      C total{};
      for (std::size_t j = 0; j < k.size(); ++j) {
        if (s.causal && (j > i || (s.window > 0 && j + static_cast<std::size_t>(s.window) <= i))) continue;
        const int distance = static_cast<int>(j) - static_cast<int>(i);
        C score{};
        for (std::size_t d = 0; d < s.D; ++d) score += q[h * s.D + d] * k[j][g * s.D + d];
        score *= s.scale;
        if (c.position == PositionKind::alibi) score += slope(h, s.heads) * distance;
        if (s.relative != nullptr) score += (*s.relative)[bucket(distance, !s.causal) * s.heads + h];
        if (c.attention_cap > 0) score = activate(Activation::soft_cap, score, c.attention_cap);
        const C p = std::exp(score);
        total += p;
        for (std::size_t d = 0; d < s.D; ++d) out[h * s.D + d] += p * v[j][g * s.D + d];
      }
      for (std::size_t d = 0; d < s.D; ++d) out[h * s.D + d] /= total;
    }
    return out;
  }
};

}  // namespace covey::model::plain

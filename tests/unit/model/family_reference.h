/// Every family in plain loops over complex numbers, written from the architectures' descriptions; it shares the
/// configuration and the tensors' names with the engine, and nothing that computes. An imaginary step of 1e-50 in a
/// weight gives the exact derivative of the loss.
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

class Reference {
 public:
  explicit Reference(Model& model) : c(model.config()) {
    for (const auto& t : model.parameters()) tensors[t.name] = Row(t.values.begin(), t.values.end());
  }

  /// Mean loss over the batch's targets.
  C loss(const TokenBatch& batch) const {
    C sum{};
    int targets = 0;
    const auto add = [&](const Row& x, std::int32_t target) {
      if (target == kNoTarget) return;
      const Row logits = head(x);
      C total{};
      for (const C& logit : logits) total += std::exp(logit);
      sum += std::log(total) - logits[static_cast<std::size_t>(target)];
      ++targets;
    };
    for (std::size_t b = 0; b < static_cast<std::size_t>(batch.B); ++b) {
      const auto T = static_cast<std::size_t>(batch.T);
      const auto length = static_cast<std::size_t>(batch.lengths.empty() ? batch.T : batch.lengths[b]);
      std::vector<int> ids(batch.ids.begin() + static_cast<std::ptrdiff_t>(b * T),
                           batch.ids.begin() + static_cast<std::ptrdiff_t>(b * T + length));
      std::vector<int> types(length, 0);
      for (std::size_t t = 0; t < length && !batch.types.empty(); ++t) types[t] = batch.types[b * T + t];
      Rows x = stack(false, ids, types, length < T, nullptr);
      if (c.task == Task::classification) {
        add(c.pooler == Pooler::last_token ? x.back() : x.front(), batch.targets[b]);
      } else if (c.two_stacks()) {
        const auto T2 = static_cast<std::size_t>(batch.T2);
        const std::vector<int> second(batch.second_ids.begin() + static_cast<std::ptrdiff_t>(b * T2),
                                      batch.second_ids.begin() + static_cast<std::ptrdiff_t>((b + 1) * T2));
        const Rows y = stack(true, second, std::vector<int>(T2, 0), false, &x);
        for (std::size_t t = 0; t < T2; ++t) add(y[t], batch.targets[b * T2 + t]);
      } else {
        for (std::size_t t = 0; t < length; ++t) add(x[t], batch.targets[b * T + t]);
      }
    }
    return sum / static_cast<double>(targets);
  }

  const ModelConfig& c;
  std::map<std::string, Row> tensors;

 private:
  [[nodiscard]] const Row* find(const std::string& name) const {
    const auto found = tensors.find(name);
    return found == tensors.end() ? nullptr : &found->second;
  }

  [[nodiscard]] Row linear(const std::string& path, const Row& x, bool in_out = false) const {
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

  [[nodiscard]] Rows embed(const Names& n, const std::vector<int>& ids, const std::vector<int>& types,
                           bool padded) const {
    const auto E = static_cast<std::size_t>(c.embedding_width());
    const auto H = static_cast<std::size_t>(c.hidden_size);
    const std::string in(n.project_in);
    Rows words;
    for (const int id : ids) {
      words.push_back(table_row(std::string(n.embedding), id, E));
      for (C& value : words.back()) value *= c.embedding_scale;
    }
    Rows out;
    for (std::size_t t = 0; t < words.size(); ++t) {
      Row x = words[t];
      if (c.trigram) {
        Row below = t + 1 < words.size() ? words[t + 1] : Row(E);
        if (t + 1 == words.size() && padded) below = table_row(std::string(n.embedding), c.pad_id, E);
        Row three = below;
        three.insert(three.end(), x.begin(), x.end());
        const Row above = t > 0 ? words[t - 1] : Row(E);
        three.insert(three.end(), above.begin(), above.end());
        x = three;
      }
      if (c.family != "albert" && !in.empty() && x.size() != H) x = linear(in, x);
      const std::size_t width = x.size();
      if (c.position == PositionKind::learned) {
        add(x, table_row(std::string(n.positions), static_cast<int>(t) + c.position_offset, width));
      }
      if (c.type_vocab > 0) add(x, table_row(std::string(n.types), types[t], width));
      if (c.embedding_norm) x = norm(std::string(n.embedding_norm), x, c.norm, c.norm_eps, 0);
      if (c.family == "albert") x = linear(in, x);
      out.push_back(x);
    }
    return out;
  }

  [[nodiscard]] Rows stack(bool second, const std::vector<int>& ids, const std::vector<int>& types, bool padded,
                           const Rows* memory) const {
    const Names& n = names_of(c, second);
    Rows x = embed(n, ids, types, padded);
    const int layers = second ? c.decoder_layers : c.layers;
    Rows first_values;
    for (int layer = 0; layer < layers; ++layer) {
      std::string path = std::string(n.block) + std::to_string(layer) + ".";
      if (c.layer_groups > 0) {
        const int outer = layer / c.inner_layers;
        const int group = outer * c.layer_groups / (c.layers / c.inner_layers);
        path = std::string(n.block) + std::to_string(group) + ".albert_layers." +
               std::to_string(layer % c.inner_layers) + ".";
      }
      if (c.block == BlockKind::rwkv) {
        rwkv(path, x);
      } else if (c.block == BlockKind::rwkv7) {
        rwkv7(path, layer, first_values, x);
      } else if (c.block == BlockKind::mobilebert) {
        mobilebert(path, x);
      } else {
        transformer(n, path, layer, second, memory, x);
      }
    }
    if (c.two_stacks() && !second && c.final_norm) {
      for (Row& row : x) row = norm(std::string(n.final_norm), row);
    }
    return x;
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

  [[nodiscard]] Row attend(const Shape& s, std::size_t i, const Row& q, const Rows& k, const Rows& v) const {
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

  struct QKV {
    Row q, k, v;
  };

  [[nodiscard]] QKV project(const Names& n, const std::string& path, const Row& x, const Shape& s) const {
    if (c.qkv == QkvLayout::separate) {
      return {linear(path + std::string(n.q), x), linear(path + std::string(n.k), x),
              linear(path + std::string(n.v), x)};
    }
    const Row all = linear(path + std::string(n.qkv), x, c.linear_in_out);
    QKV out;
    const auto part = [&](std::size_t at, std::size_t count, Row& to) {
      to.insert(to.end(), all.begin() + static_cast<std::ptrdiff_t>(at),
                all.begin() + static_cast<std::ptrdiff_t>(at + count));
    };
    if (c.qkv == QkvLayout::fused) {
      part(0, s.heads * s.D, out.q);
      part(s.heads * s.D, s.kv_heads * s.D, out.k);
      part((s.heads + s.kv_heads) * s.D, s.kv_heads * s.D, out.v);
      return out;
    }
    for (std::size_t h = 0; h < s.heads; ++h) {
      part(3 * h * s.D, s.D, out.q);
      part((3 * h + 1) * s.D, s.D, out.k);
      part((3 * h + 2) * s.D, s.D, out.v);
    }
    return out;
  }

  [[nodiscard]] Row qk_normed(const std::string& path, const Row& x, std::size_t heads) const {
    if (c.qk_norm == QkNorm::none) return x;
    return norm(path, x, c.qk_norm_kind, c.norm_eps, c.norm_offset, c.qk_norm == QkNorm::row ? 1 : heads);
  }

  /// Attention of all positions to each other, before the output matrix.
  [[nodiscard]] Rows self_attention(const Names& n, const std::string& path, int layer, bool second,
                                    const Rows& x) const {
    const auto i = static_cast<std::size_t>(layer);
    Shape s{static_cast<std::size_t>(c.layer_heads.empty() ? c.heads : c.layer_heads[i]),
            static_cast<std::size_t>(c.layer_kv_heads.empty() ? c.kv_heads : c.layer_kv_heads[i]),
            static_cast<std::size_t>(c.head_dim)};
    if (second) s.heads = s.kv_heads = static_cast<std::size_t>(c.decoder_heads);
    if (second) s.D = static_cast<std::size_t>(c.decoder_head_dim);
    s.scale = c.attention_scale > 0 ? c.attention_scale : 1 / std::sqrt(static_cast<double>(s.D));
    if (c.scale_by_layer) s.scale /= layer + 1;
    s.window = c.window_of(second ? 0 : layer);
    s.causal = second || !c.bidirectional;
    if (c.position == PositionKind::relative) s.relative = find(std::string(n.relative) + ".weight");
    Rows q, k, v;
    for (std::size_t t = 0; t < x.size(); ++t) {
      QKV p = project(n, path, x[t], s);
      for (Row* row : {&p.q, &p.k, &p.v}) {
        for (C& value : *row) value = c.clip_qkv > 0 ? activate(Activation::clip, value, c.clip_qkv) : value;
      }
      p.q = qk_normed(path + std::string(n.q_norm), p.q, s.heads);
      p.k = qk_normed(path + std::string(n.k_norm), p.k, s.kv_heads);
      if (c.position == PositionKind::rope) {
        rotate(c, static_cast<int>(t), s.D, p.q);
        rotate(c, static_cast<int>(t), s.D, p.k);
      }
      q.push_back(p.q);
      k.push_back(p.k);
      v.push_back(p.v);
    }
    Rows out;
    for (std::size_t t = 0; t < x.size(); ++t) out.push_back(attend(s, t, q[t], k, v));
    return out;
  }

  [[nodiscard]] Row mlp(const Names& n, const std::string& path, const Row& x) const {
    Row inner;
    if (c.fused_gate_up) {
      const Row both = linear(path + std::string(n.gate_up), x);
      for (std::size_t i = 0; i < both.size() / 2; ++i) {
        inner.push_back(activate(c.activation, both[i]) * both[both.size() / 2 + i]);
      }
    } else if (c.gated) {
      const Row gate = linear(path + std::string(n.gate), x);
      inner = linear(path + std::string(n.gated_up.empty() ? n.up : n.gated_up), x);
      for (std::size_t i = 0; i < gate.size(); ++i) inner[i] *= activate(c.activation, gate[i]);
    } else {
      inner = linear(path + std::string(n.up), x, c.linear_in_out);
      for (C& value : inner) value = activate(c.activation, value);
    }
    return linear(path + std::string(n.down), inner, c.linear_in_out);
  }

  void transformer(const Names& n, const std::string& path, int layer, bool second, const Rows* memory, Rows& x) const {
    const bool pre = c.placement == NormPlacement::pre || c.placement == NormPlacement::sandwich;
    const bool branch = c.placement == NormPlacement::sandwich || c.placement == NormPlacement::branch;
    const auto name = [&](std::string_view module) { return path + std::string(module); };
    Rows normed = x;
    for (Row& row : normed) row = pre ? norm(name(n.attention_norm), row) : row;
    const Rows attended = self_attention(n, path, layer, second, normed);
    for (std::size_t t = 0; t < x.size(); ++t) {
      Row o = linear(name(n.o), attended[t], c.linear_in_out);
      if (branch) o = norm(name(n.attention_out_norm), o);
      const Row input = x[t];
      if (c.residual_from_norm) x[t] = normed[t];
      add(x[t], o);
      if (c.placement == NormPlacement::post) x[t] = norm(name(n.attention_norm), x[t]);
      if (second) cross(n, path, *memory, x[t]);
      Row into = x[t];
      if (c.parallel) {
        into = c.shared_norm ? normed[t] : norm(name(n.mlp_norm), input);
      } else if (pre) {
        into = norm(name(n.mlp_norm), x[t]);
      }
      Row down = mlp(n, path, into);
      if (branch) down = norm(name(n.mlp_out_norm), down);
      if (c.residual_from_norm) x[t] = into;
      add(x[t], down);
      if (c.placement == NormPlacement::post) x[t] = norm(name(n.mlp_norm), x[t]);
    }
  }

  void cross(const Names& n, const std::string& path, const Rows& memory, Row& x) const {
    const auto name = [&](std::string_view module) { return path + std::string(module); };
    const auto heads = static_cast<std::size_t>(c.decoder_heads);
    Shape s{heads, heads, static_cast<std::size_t>(c.decoder_head_dim)};
    s.scale = c.attention_scale > 0 ? c.attention_scale : 1 / std::sqrt(static_cast<double>(s.D));
    s.causal = false;
    const bool pre = c.placement == NormPlacement::pre;
    const Row q = linear(name(n.cross_q), pre ? norm(name(n.cross_norm), x) : x);
    Rows k, v;
    for (const Row& row : memory) {
      k.push_back(linear(name(n.cross_k), row));
      v.push_back(linear(name(n.cross_v), row));
    }
    add(x, linear(name(n.cross_o), attend(s, 0, q, k, v)));
    if (!pre) x = norm(name(n.cross_norm), x);
  }

  void mobilebert(const std::string& path, Rows& x) const {
    const bool narrow = c.bottleneck_size > 0;
    const auto bottleneck = [&](const Row& row, const std::string& which) {
      return norm(path + "bottleneck." + which + ".LayerNorm", linear(path + "bottleneck." + which + ".dense", row));
    };
    const auto feedforward = [&](const Row& row, const std::string& where) {
      Row inner = linear(where + "intermediate.dense", row);
      for (C& value : inner) value = activate(c.activation, value);
      Row out = linear(where + "output.dense", inner);
      add(out, row);
      return norm(where + "output.LayerNorm", out);
    };
    Rows base, q, k, v;
    for (const Row& row : x) {
      const Row into = narrow ? bottleneck(row, "input") : row;
      Row asks = row;
      Row gives = row;
      if (narrow && c.bottleneck_attention) asks = gives = into;
      if (narrow && !c.bottleneck_attention && c.shared_query_bottleneck) asks = bottleneck(row, "attention");
      base.push_back(into);
      q.push_back(linear(path + "attention.self.query", asks));
      k.push_back(linear(path + "attention.self.key", asks));
      v.push_back(linear(path + "attention.self.value", gives));
    }
    const auto heads = static_cast<std::size_t>(c.heads);
    Shape s{heads, heads, static_cast<std::size_t>(c.head_dim)};
    s.scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
    s.causal = false;
    for (std::size_t t = 0; t < x.size(); ++t) {
      Row y = linear(path + "attention.output.dense", attend(s, t, q[t], k, v));
      add(y, base[t]);
      y = norm(path + "attention.output.LayerNorm", y);
      for (int i = 0; i + 1 < c.feedforward_networks; ++i) y = feedforward(y, path + "ffn." + std::to_string(i) + ".");
      y = feedforward(y, path);
      if (!narrow) {
        x[t] = y;
        continue;
      }
      Row wide = linear(path + "output.bottleneck.dense", y);
      add(wide, x[t]);
      x[t] = norm(path + "output.bottleneck.LayerNorm", wide);
    }
  }

  [[nodiscard]] Row mixed(const std::string& name, const Rows& x, std::size_t t) const {
    const Row& mix = tensors.at(name);
    Row y(mix.size());
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = x[t][i] * mix[i] + (t > 0 ? x[t - 1][i] : C{}) * (1.0 - mix[i]);
    return y;
  }

  void rwkv(const std::string& path, Rows& x) const {
    Rows n;
    for (const Row& row : x) n.push_back(norm(path + "ln1", row));
    const std::string time = path + "attention.";
    const Row& decay = tensors.at(time + "time_decay");
    const Row& first = tensors.at(time + "time_first");
    Row above(decay.size());
    Row below(decay.size());
    for (std::size_t t = 0; t < x.size(); ++t) {
      const Row k = linear(time + "key", mixed(time + "time_mix_key", n, t));
      const Row v = linear(time + "value", mixed(time + "time_mix_value", n, t));
      Row r = linear(time + "receptance", mixed(time + "time_mix_receptance", n, t));
      for (std::size_t i = 0; i < r.size(); ++i) {
        const C here = std::exp(first[i] + k[i]);
        r[i] = activate(Activation::sigmoid, r[i]) * (above[i] + here * v[i]) / (below[i] + here);
        const C fade = std::exp(-std::exp(decay[i]));
        above[i] = fade * above[i] + std::exp(k[i]) * v[i];
        below[i] = fade * below[i] + std::exp(k[i]);
      }
      add(x[t], linear(time + "output", r));
    }
    const std::string channel = path + "feed_forward.";
    for (std::size_t t = 0; t < x.size(); ++t) n[t] = norm(path + "ln2", x[t]);
    for (std::size_t t = 0; t < x.size(); ++t) {
      Row k = linear(channel + "key", mixed(channel + "time_mix_key", n, t));
      for (C& value : k) value = activate(Activation::relu_squared, value);
      const Row r = linear(channel + "receptance", mixed(channel + "time_mix_receptance", n, t));
      Row v = linear(channel + "value", k);
      for (std::size_t i = 0; i < v.size(); ++i) v[i] *= activate(Activation::sigmoid, r[i]);
      add(x[t], v);
    }
  }

  /// x and the row above, whose share the named mix is.
  [[nodiscard]] Row shifted(const std::string& name, const Rows& x, std::size_t t) const {
    const Row& mix = tensors.at(name);
    Row y(mix.size());
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = x[t][i] + ((t > 0 ? x[t - 1][i] : C{}) - x[t][i]) * mix[i];
    return y;
  }

  [[nodiscard]] Row small(const std::string& path, const Row& x, Activation inner) const {
    return linear(path + "_lora.lora.2", activated(path + "_lora.lora.0", x, inner));
  }

  /// Peng et al., 2025, position by position.
  void rwkv7(const std::string& path, int layer, Rows& first_values, Rows& x) const {
    const std::string att = path + "attn.";
    const auto D = static_cast<std::size_t>(c.head_dim);
    const auto H = static_cast<std::size_t>(c.hidden_size);
    const Row& k_k = tensors.at(att + "k_k");
    const Row& k_a = tensors.at(att + "k_a");
    const Row& r_k = tensors.at(att + "r_k");
    const auto squash = [](C value) { return activate(Activation::sigmoid, value); };
    Rows n;
    for (const Row& row : x) n.push_back(norm(path + "attn_norm", row));
    std::vector<Row> S(H, Row(D));  // row h D + i: value i of head h, by key
    for (std::size_t t = 0; t < x.size(); ++t) {
      const Row r = linear(att + "r_proj", shifted(att + "x_r", n, t));
      const Row w = small(att + "w", shifted(att + "x_w", n, t), Activation::tanh);
      const Row k = linear(att + "k_proj", shifted(att + "x_k", n, t));
      Row v = linear(att + "v_proj", shifted(att + "x_v", n, t));
      const Row a = small(att + "a", shifted(att + "x_a", n, t), Activation::identity);
      const Row g = small(att + "g", shifted(att + "x_g", n, t), Activation::sigmoid);
      if (layer == 0) {
        first_values.push_back(v);
      } else {
        const Row share = small(att + "v", shifted(att + "x_v", n, t), Activation::identity);
        for (std::size_t i = 0; i < H; ++i) v[i] += (first_values[t][i] - v[i]) * squash(share[i]);
      }
      Row y(H);
      for (std::size_t h = 0; h < H; h += D) {
        C square{};
        for (std::size_t j = h; j < h + D; ++j) square += k[j] * k[j] * k_k[j] * k_k[j];
        const C length = std::sqrt(square);
        for (std::size_t i = h; i < h + D; ++i) {
          C removed{};
          for (std::size_t j = 0; j < D; ++j) removed += S[i][j] * k[h + j] * k_k[h + j] / length;
          for (std::size_t j = 0; j < D; ++j) {
            const std::size_t at = h + j;
            const C decay = std::exp(-std::exp(-0.5) * squash(w[at]));
            const C key = k[at] * (1.0 + (squash(a[at]) - 1.0) * k_a[at]);
            S[i][j] = S[i][j] * decay - removed * k[at] * k_k[at] / length * squash(a[at]) + v[i] * key;
            y[i] += S[i][j] * r[at];
          }
        }
      }
      y = norm(att + "g_norm", y, NormKind::layer, c.norm_eps * static_cast<double>(D), 0, H / D, true);
      for (std::size_t h = 0; h < H; h += D) {
        C sum{};
        for (std::size_t j = h; j < h + D; ++j) {
          sum += r[j] * k[j] * (1.0 + (squash(a[j]) - 1.0) * k_a[j]) * r_k[j];
        }
        for (std::size_t i = h; i < h + D; ++i) y[i] = (y[i] + sum * v[i]) * g[i];
      }
      add(x[t], linear(att + "o_proj", y));
    }
    for (std::size_t t = 0; t < x.size(); ++t) n[t] = norm(path + "ffn_norm", x[t]);
    for (std::size_t t = 0; t < x.size(); ++t) {
      const Row in = shifted(path + "ffn.x_k", n, t);
      add(x[t], linear(path + "ffn.value", activated(path + "ffn.key", in, Activation::relu_squared)));
    }
  }

  [[nodiscard]] Row times_table(const Names& n, const Row& x) const {
    const Row& table = tensors.at(std::string(n.embedding) + ".weight");
    const auto E = static_cast<std::size_t>(c.embedding_width());
    Row y(static_cast<std::size_t>(c.vocab_size));
    for (std::size_t o = 0; o < y.size(); ++o) {
      for (std::size_t i = 0; i < E; ++i) y[o] += table[o * E + i] * x[i];
    }
    return y;
  }

  [[nodiscard]] Row activated(const std::string& path, const Row& x, Activation kind) const {
    Row y = linear(path, x);
    for (C& value : y) value = activate(kind, value);
    return y;
  }

  [[nodiscard]] Row head(Row x) const {
    const Names& n = names_of(c, c.two_stacks());
    if (c.task == Task::classification) return classes(n, x);
    if (c.task == Task::masked_lm) return masked(n, x);
    if (c.final_norm) x = norm(std::string(n.final_norm), x);
    if (!n.project_out.empty() && c.embedding_width() != c.hidden_size) x = linear(std::string(n.project_out), x);
    for (C& value : x) value *= c.logit_scale;
    Row y = c.tied_head ? times_table(n, x) : linear(std::string(n.head), x);
    if (const Row* bias = c.tied_head ? find(std::string(n.head) + ".bias") : nullptr) add(y, *bias);
    if (const Row* bias = find("final_logits_bias")) add(y, *bias);
    for (C& value : y) value = c.logit_cap > 0 ? activate(Activation::soft_cap, value, c.logit_cap) : value;
    return y;
  }

  [[nodiscard]] Row classes(const Names& n, const Row& x) const {
    switch (c.pooler) {
      case Pooler::bert:
        return linear("classifier", activated("bert.pooler.dense", x, Activation::tanh));
      case Pooler::albert:
        return linear("classifier", activated("albert.pooler", x, Activation::tanh));
      case Pooler::mobilebert:
        return linear("classifier", activated("mobilebert.pooler.dense", x, Activation::tanh));
      case Pooler::roberta:
        return linear("classifier.out_proj", activated("classifier.dense", x, Activation::tanh));
      case Pooler::distilbert:
        return linear("classifier", activated("pre_classifier", x, Activation::relu));
      case Pooler::last_token:
        return linear("score", c.final_norm ? norm(std::string(n.final_norm), x) : x);
      case Pooler::none:
        break;
    }
    return linear("classifier", x);
  }

  [[nodiscard]] Row masked(const Names& n, const Row& x) const {
    const std::map<std::string, std::vector<std::string>> parts{
        {"bert", {"cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"}},
        {"mobilebert",
         {"cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"}},
        {"roberta", {"lm_head.dense", "lm_head.layer_norm", "lm_head.bias"}},
        {"distilbert", {"vocab_transform", "vocab_layer_norm", "vocab_projector.bias"}},
        {"albert", {"predictions.dense", "predictions.LayerNorm", "predictions.bias"}}};
    const auto& [dense, layer_norm, bias] =
        std::tie(parts.at(c.family)[0], parts.at(c.family)[1], parts.at(c.family)[2]);
    Row y = activated(dense, x, c.family == "roberta" ? Activation::gelu : c.activation);
    y = norm(layer_norm, y, NormKind::layer, c.norm_eps, 0);
    Row logits = times_table(n, y);
    if (const Row* second = find("cls.predictions.dense.weight")) {
      const auto E = static_cast<std::size_t>(c.embedding_width());
      for (std::size_t o = 0; o < logits.size(); ++o) {
        for (std::size_t i = E; i < y.size(); ++i) logits[o] += (*second)[(i - E) * logits.size() + o] * y[i];
      }
    }
    add(logits, tensors.at(bias));
    return logits;
  }
};

}  // namespace covey::model::plain

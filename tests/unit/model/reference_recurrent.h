/// RWKV's blocks, versions 4 and 7, in plain loops over complex numbers.
#pragma once

#include "tests/unit/model/reference_pieces.h"

namespace covey::model::plain {

class Recurrent : public Pieces {
 public:
  using Pieces::Pieces;

 protected:
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
};

}  // namespace covey::model::plain

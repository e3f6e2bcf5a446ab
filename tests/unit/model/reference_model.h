/// The whole model in plain loops for any scalar, written from the architecture's description and sharing no code with
/// the engine: with std::complex<double> it gives exact derivatives of the loss.
#pragma once

#include <cmath>
#include <complex>
#include <map>
#include <string>
#include <vector>

#include "core/model/engine.h"
#include "core/model/model.h"

namespace covey::model::reference {

template <typename S>
struct Weights {
  std::map<std::string, std::vector<S>> tensors;
  /// LoRA by site path: y += scale B A x.
  struct Lora {
    std::vector<S> a, b;
    double scale = 1;
  };
  std::map<std::string, Lora> lora;
  std::vector<S> prompt;  ///< (P,H)
  int prompt_tokens = 0;
};

template <typename S>
Weights<S> weights_of(Model& model) {
  Weights<S> w;
  for (const auto& tensor : model.parameters()) {
    w.tensors[tensor.name] = std::vector<S>(tensor.values.begin(), tensor.values.end());
  }
  return w;
}

template <typename S>
using Rows = std::vector<std::vector<S>>;

template <typename S>
std::vector<S> apply(const Weights<S>& w, const std::string& path, const std::vector<S>& x,
                     const std::string& name = "") {
  const auto& matrix = w.tensors.at(name.empty() ? path + ".weight" : name);
  std::vector<S> y(matrix.size() / x.size());
  for (std::size_t o = 0; o < y.size(); ++o) {
    for (std::size_t i = 0; i < x.size(); ++i) y[o] += matrix[o * x.size() + i] * x[i];
  }
  if (const auto bias = w.tensors.find(path + ".bias"); bias != w.tensors.end()) {
    for (std::size_t o = 0; o < y.size(); ++o) y[o] += bias->second[o];
  }
  if (const auto lora = w.lora.find(path); lora != w.lora.end()) {
    const std::size_t rank = lora->second.a.size() / x.size();
    for (std::size_t r = 0; r < rank; ++r) {
      S u{};
      for (std::size_t i = 0; i < x.size(); ++i) u += lora->second.a[r * x.size() + i] * x[i];
      for (std::size_t o = 0; o < y.size(); ++o) y[o] += lora->second.scale * u * lora->second.b[o * rank + r];
    }
  }
  return y;
}

template <typename S>
std::vector<S> norm(const Weights<S>& w, const std::string& name, const std::vector<S>& x, double eps) {
  S sum{};
  for (const S& value : x) sum += value * value;
  const S inverse = 1.0 / std::sqrt(sum / static_cast<double>(x.size()) + eps);
  std::vector<S> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * inverse * w.tensors.at(name)[i];
  return y;
}

template <typename S>
void rotate(const ModelConfig& c, int position, std::vector<S>& x) {
  const auto half = static_cast<std::size_t>(c.head_dim / 2);
  for (std::size_t at = 0; at < x.size(); at += 2 * half) {
    for (std::size_t i = 0; i < half; ++i) {
      const double angle = position / std::pow(c.rope.theta, static_cast<double>(i) / static_cast<double>(half));
      const S a = x[at + i];
      const S b = x[at + half + i];
      x[at + i] = a * std::cos(angle) - b * std::sin(angle);
      x[at + half + i] = b * std::cos(angle) + a * std::sin(angle);
    }
  }
}

template <typename S>
std::vector<S> attend(const ModelConfig& c, int layer, std::size_t i, const Rows<S>& q, const Rows<S>& k,
                      const Rows<S>& v) {
  const auto D = static_cast<std::size_t>(c.head_dim);
  std::vector<S> out(q[i].size());
  for (std::size_t h = 0; h < static_cast<std::size_t>(c.heads); ++h) {
    const std::size_t g = h / static_cast<std::size_t>(c.heads / c.kv_heads);
    S total{};
    for (std::size_t j = 0; j <= i; ++j) {
      const int window = c.window_of(layer);
      if (window > 0 && j + static_cast<std::size_t>(window) <= i) continue;
      S score{};
      for (std::size_t d = 0; d < D; ++d) score += q[i][h * D + d] * k[j][g * D + d];
      const S p = std::exp(score / std::sqrt(static_cast<double>(D)));
      total += p;
      for (std::size_t d = 0; d < D; ++d) out[h * D + d] += p * v[j][g * D + d];
    }
    for (std::size_t d = 0; d < D; ++d) out[h * D + d] /= total;
  }
  return out;
}

template <typename S>
void block(const ModelConfig& c, const Weights<S>& w, int layer, Rows<S>& x) {
  const std::string path = "model.layers." + std::to_string(layer) + ".";
  Rows<S> q, k, v;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto n = norm(w, path + "input_layernorm.weight", x[i], c.norm_eps);
    q.push_back(apply(w, path + "self_attn.q_proj", n));
    k.push_back(apply(w, path + "self_attn.k_proj", n));
    v.push_back(apply(w, path + "self_attn.v_proj", n));
    rotate(c, static_cast<int>(i), q[i]);
    rotate(c, static_cast<int>(i), k[i]);
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto o = apply(w, path + "self_attn.o_proj", attend(c, layer, i, q, k, v));
    for (std::size_t d = 0; d < o.size(); ++d) x[i][d] += o[d];
    const auto n = norm(w, path + "post_attention_layernorm.weight", x[i], c.norm_eps);
    auto inner = apply(w, path + "mlp.gate_proj", n);
    const auto up = apply(w, path + "mlp.up_proj", n);
    for (std::size_t d = 0; d < inner.size(); ++d) inner[d] = inner[d] / (1.0 + std::exp(-inner[d])) * up[d];
    const auto down = apply(w, path + "mlp.down_proj", inner);
    for (std::size_t d = 0; d < down.size(); ++d) x[i][d] += down[d];
  }
}

/// Mean loss over the batch's targets.
template <typename S>
S loss(const ModelConfig& c, const Weights<S>& w, const TokenBatch& batch) {
  S sum{};
  int targets = 0;
  const auto H = static_cast<std::size_t>(c.hidden_size);
  const auto& table = w.tensors.at("model.embed_tokens.weight");
  const auto add_target = [&](const std::vector<S>& x, std::int32_t target) {
    if (target == kNoTarget) return;
    const auto logits = apply(w, "lm_head", norm(w, "model.norm.weight", x, c.norm_eps),
                              c.tied_head ? "model.embed_tokens.weight" : "");
    S total{};
    for (const S& logit : logits) total += std::exp(logit);
    sum += std::log(total) - logits[static_cast<std::size_t>(target)];
    ++targets;
  };
  for (std::size_t b = 0; b < static_cast<std::size_t>(batch.B); ++b) {
    const std::size_t begin = b * static_cast<std::size_t>(batch.T);
    const auto length = static_cast<std::size_t>(batch.lengths.empty() ? batch.T : batch.lengths[b]);
    const auto P = static_cast<std::size_t>(w.prompt_tokens);
    Rows<S> x;
    for (std::size_t i = 0; i < P; ++i) {
      x.emplace_back(w.prompt.begin() + static_cast<std::ptrdiff_t>(i * H),
                     w.prompt.begin() + static_cast<std::ptrdiff_t>((i + 1) * H));
    }
    for (std::size_t t = 0; t < length; ++t) {
      const auto row = table.begin() + static_cast<std::ptrdiff_t>(H) * batch.ids[begin + t];
      x.emplace_back(row, row + static_cast<std::ptrdiff_t>(H));
    }
    for (int layer = 0; layer < c.layers; ++layer) block(c, w, layer, x);
    if (P > 0 && !batch.first_targets.empty()) add_target(x[P - 1], batch.first_targets[b]);
    for (std::size_t t = 0; t < length; ++t) add_target(x[P + t], batch.targets[begin + t]);
  }
  return sum / static_cast<double>(targets);
}

}  // namespace covey::model::reference

/// Every family in plain loops over complex numbers, written from the architectures' descriptions; it shares the
/// configuration and the tensors' names with the engine, and nothing that computes. An imaginary step of 1e-50 in a
/// weight gives the exact derivative of the loss.
#pragma once

#include <tuple>

#include "tests/unit/model/reference_recurrent.h"

namespace covey::model::plain {

class Reference : public Recurrent {
 public:
  using Recurrent::Recurrent;

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
        const std::size_t before = adapters.prompt.size();
        if (before > 0 && !batch.first_targets.empty()) add(x[before - 1], batch.first_targets[b]);
        for (std::size_t t = 0; t < length; ++t) add(x[before + t], batch.targets[b * T + t]);
      }
    }
    return sum / static_cast<double>(targets);
  }

 private:
  [[nodiscard]] Rows embed(const Names& n, const std::vector<int>& ids, const std::vector<int>& types,
                           bool padded) const {
    const auto E = static_cast<std::size_t>(c.embedding_width());
    const auto H = static_cast<std::size_t>(c.hidden_size);
    const std::string in(n.project_in);
    Rows words = adapters.prompt;
    for (const int id : ids) words.push_back(table_row(std::string(n.embedding), id, E));
    for (Row& word : words) {
      for (C& value : word) value *= c.embedding_scale;
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
        add(x, table_row(std::string(n.positions), static_cast<int>(adapters.prefix_tokens + t) + c.position_offset,
                         width));
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
        mobilebert(path, layer, x);
      } else {
        transformer(n, path, layer, second, memory, x);
      }
      const auto block = static_cast<std::size_t>((second ? c.layers : 0) + layer);
      for (Row& row : x) {
        if (!adapters.behind_block.empty()) squeeze(adapters.behind_block[block], row);
      }
    }
    if (c.two_stacks() && !second && c.final_norm) {
      for (Row& row : x) row = norm(std::string(n.final_norm), row);
    }
    return x;
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
    s.attention = i + (second ? static_cast<std::size_t>(c.layers) + i : 0);
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
        rotate(c, static_cast<int>(adapters.prefix_tokens + t), s.D, p.q);
        rotate(c, static_cast<int>(adapters.prefix_tokens + t), s.D, p.k);
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
      if (second) cross(n, path, layer, *memory, x[t]);
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

  void cross(const Names& n, const std::string& path, int layer, const Rows& memory, Row& x) const {
    const auto name = [&](std::string_view module) { return path + std::string(module); };
    const auto heads = static_cast<std::size_t>(c.decoder_heads);
    Shape s{heads, heads, static_cast<std::size_t>(c.decoder_head_dim)};
    s.scale = c.attention_scale > 0 ? c.attention_scale : 1 / std::sqrt(static_cast<double>(s.D));
    s.causal = false;
    s.attention = static_cast<std::size_t>(c.layers + 2 * layer + 1);
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

  void mobilebert(const std::string& path, int layer, Rows& x) const {
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
    s.attention = static_cast<std::size_t>(layer);
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
  [[nodiscard]] Row times_table(const Names& n, const Row& x) const {
    const Row& table = tensors.at(std::string(n.embedding) + ".weight");
    const auto E = static_cast<std::size_t>(c.embedding_width());
    Row y(static_cast<std::size_t>(c.vocab_size));
    for (std::size_t o = 0; o < y.size(); ++o) {
      for (std::size_t i = 0; i < E; ++i) y[o] += table[o * E + i] * x[i];
    }
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

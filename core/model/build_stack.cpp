// Embedding and transformer blocks: which steps a configuration means.
#include <algorithm>
#include <cmath>

#include "core/model/builder.h"

namespace covey::model {
namespace {

struct BlockSizes {
  int heads, kv_heads, intermediate, D;
};

BlockSizes sizes_of(const ModelConfig& c, int layer, bool second) {
  const auto i = static_cast<std::size_t>(layer);
  if (second) return {c.decoder_heads, c.decoder_heads, c.decoder_intermediate, c.decoder_head_dim};
  return {c.layer_heads.empty() ? c.heads : c.layer_heads[i],
          c.layer_kv_heads.empty() ? c.kv_heads : c.layer_kv_heads[i],
          c.layer_intermediate.empty() ? c.intermediate_size : c.layer_intermediate[i], c.head_dim};
}

/// q, k and v as slots, with the distance from one head to the next in each.
struct Projected {
  int q, k, v;
  long head_row[3];
};

class TransformerBlock {
 public:
  TransformerBlock(Builder& b, const Names& names, int layer, bool second, const std::string& path)
      : b_(b), c_(b.c), n_(names), layer_(layer), second_(second), path_(path), size_(sizes_of(b.c, layer, second)) {}

  /// From the block's input to its output.
  int build(int x) {
    const bool pre = c_.placement == NormPlacement::pre || c_.placement == NormPlacement::sandwich;
    const int normed = pre ? b_.norm(x, name(n_.attention_norm), true) : x;
    if (c_.parallel) {
      // Both norms before anything is added: the residual's gradient can then be one buffer.
      const int second_normed = c_.shared_norm ? normed : b_.norm(x, name(n_.mlp_norm), true);
      const int middle = into_residual(SiteRole::attention_out, attention(normed, false), name(n_.o), c_.o_bias, x, {});
      return mlp(second_normed, middle);
    }
    int base = c_.residual_from_norm ? normed : x;
    int middle = into_residual(SiteRole::attention_out, attention(normed, false), name(n_.o), c_.o_bias, base,
                               n_.attention_out_norm);
    middle = post(middle, n_.attention_norm);
    if (second_) {
      const int seen = pre ? b_.norm(middle, name(n_.cross_norm), true) : middle;
      middle = into_residual(SiteRole::attention_out, attention(seen, true), name(n_.cross_o), c_.o_bias, middle, {});
      middle = post(middle, n_.cross_norm);
    }
    const int again = pre ? b_.norm(middle, name(n_.mlp_norm), true) : middle;
    return post(mlp(again, c_.residual_from_norm ? again : middle), n_.mlp_norm);
  }

 private:
  std::string name(std::string_view module) const { return path_ + std::string(module); }

  int post(int x, std::string_view norm) {
    return c_.placement == NormPlacement::post ? b_.norm(x, name(norm), true) : x;
  }

  /// base + W in, or base + norm(W in).
  int into_residual(SiteRole role, int in, const std::string& path, bool bias, int base, std::string_view branch_norm) {
    const int out = c_.hidden_size;
    const bool normed = c_.placement == NormPlacement::sandwich || c_.placement == NormPlacement::branch;
    if (!normed || branch_norm.empty()) return b_.as(role, b_.linear(in, path, out, bias, base, c_.linear_in_out));
    const int branch = b_.as(role, b_.linear(in, path, out, bias, -1, c_.linear_in_out));
    return b_.add(b_.norm(branch, name(branch_norm), true), base);
  }

  Projected project(int x, bool cross) {
    const int D = size_.D;
    const int heads = size_.heads;
    const int kv = size_.kv_heads;
    if (cross || c_.qkv == QkvLayout::separate) {
      const int from = cross ? b_.s.memory : x;
      const int q = b_.linear(x, name(cross ? n_.cross_q : n_.q), heads * D, c_.qkv_bias);
      const int k = b_.as(SiteRole::key, b_.linear(from, name(cross ? n_.cross_k : n_.k), kv * D, c_.qkv_bias));
      const int v = b_.as(SiteRole::value, b_.linear(from, name(cross ? n_.cross_v : n_.v), kv * D, c_.qkv_bias));
      return {q, k, v, {D, D, D}};
    }
    int all = b_.as(SiteRole::query_key_value,
                    b_.linear(x, name(n_.qkv), (heads + 2 * kv) * D, c_.qkv_bias, -1, c_.linear_in_out));
    if (c_.clip_qkv > 0) all = clipped(all);
    if (c_.qkv == QkvLayout::fused) {
      return {b_.view(all, 0, heads * D),
              b_.view(all, heads * D, kv * D),
              b_.view(all, (heads + kv) * D, kv * D),
              {D, D, D}};
    }
    // Each view reaches to the end of the last head's part.
    const int span = (heads - 1) * 3 * D + D;
    return {b_.view(all, 0, span), b_.view(all, D, span), b_.view(all, 2 * D, span), {3 * D, 3 * D, 3 * D}};
  }

  /// A slot of its own, which rotation may then change in place.
  int clipped(int slot) {
    const int cut = b_.activation(slot, Activation::clip, -1, static_cast<float>(c_.clip_qkv));
    b_.s.slots[static_cast<std::size_t>(cut)].cheap = false;
    return cut;
  }

  int normalize(int x, std::string_view module, int heads) {
    if (c_.qk_norm == QkNorm::own_head) return own_head_norm(x, module, heads);
    NormWeights w;
    w.kind = c_.qk_norm_kind;
    w.eps = static_cast<float>(c_.norm_eps);
    w.offset = static_cast<float>(c_.norm_offset);
    w.heads = c_.qk_norm == QkNorm::row ? 1 : heads;
    w.H = heads * size_.D / w.heads;
    w.w_at = b_.parameter(name(module) + ".weight", {w.H});
    if (c_.qk_norm_bias) w.b_at = b_.parameter(name(module) + ".bias", {w.H});
    b_.m.norms.push_back(w);
    return b_.norm_with(x, static_cast<int>(b_.m.norms.size()) - 1, false);
  }

  /// StableLM: one tensor per head, one after the other in the flat order.
  int own_head_norm(int x, std::string_view module, int heads) {
    NormWeights w;
    w.kind = c_.qk_norm_kind;
    w.eps = static_cast<float>(c_.norm_eps);
    w.heads = heads;
    w.H = size_.D;
    w.own = true;
    for (int h = 0; h < heads; ++h) {
      const auto at = b_.parameter(name(module) + ".norms." + std::to_string(h) + ".weight", {w.H});
      if (h == 0) w.w_at = at;
    }
    b_.m.norms.push_back(w);
    return b_.norm_with(x, static_cast<int>(b_.m.norms.size()) - 1, false);
  }

  void rope(int slot, int heads, long head_row) {
    Step& next = b_.step(StepKind::rope);
    next.out = slot;
    next.heads = heads;
    next.head_dim = c_.rope.rotary_dim > 0 ? c_.rope.rotary_dim : size_.D;
    next.head_row[0] = head_row;
  }

  int attention(int x, bool cross) {
    const int D = size_.D;
    Projected p = project(x, cross);
    if (c_.clip_qkv > 0 && c_.qkv == QkvLayout::separate) {
      for (int* slot : {&p.q, &p.k, &p.v}) *slot = clipped(*slot);
    }
    if (c_.qk_norm != QkNorm::none && !cross) {
      p.q = normalize(p.q, n_.q_norm, size_.heads);
      p.k = normalize(p.k, n_.k_norm, size_.kv_heads);
    }
    if (c_.position == PositionKind::rope && !cross) {
      rope(p.q, size_.heads, p.head_row[0]);
      rope(p.k, size_.kv_heads, p.head_row[1]);
    }
    const int out = b_.slot(size_.heads * D);
    const int lse = b_.slot(size_.heads);
    Step& a = b_.step(StepKind::attention);
    a.in = p.q;
    a.in2 = p.k;
    a.in3 = p.v;
    a.out = out;
    a.stats = lse;
    a.heads = size_.heads;
    a.kv_heads = size_.kv_heads;
    a.head_dim = D;
    for (int i = 0; i < 3; ++i) a.head_row[i] = p.head_row[i];
    a.window = second_ ? 0 : c_.window_of(layer_);
    double scale = c_.attention_scale > 0 ? c_.attention_scale : 1.0 / std::sqrt(static_cast<double>(D));
    if (c_.scale_by_layer) scale /= layer_ + 1;
    a.scale = static_cast<float>(scale);
    a.value = static_cast<float>(c_.attention_cap);
    a.cross = cross;
    a.causal = !cross && (second_ || !c_.bidirectional);
    a.slopes = c_.position == PositionKind::alibi;
    a.relative = c_.position == PositionKind::relative && !cross;
    b_.m.program.slopes = b_.m.program.slopes || a.slopes;
    b_.m.program.relative = b_.m.program.relative || a.relative;
    a.cache = b_.m.program.caches++;
    b_.prefixable(a, name(cross ? n_.cross_k : (c_.qkv == QkvLayout::separate ? n_.k : n_.qkv)));
    if (a.relative) a.weight = b_.table(std::string(n_.relative) + ".weight", {c_.relative_buckets, size_.heads});
    return out;
  }

  int mlp(int x, int base) {
    const int I = size_.intermediate;
    int inner = -1;
    if (c_.fused_gate_up) {
      const int both = b_.linear(x, name(n_.gate_up), 2 * I, c_.mlp_bias);
      const int gate = b_.view(both, 0, I);
      inner = b_.activation(gate, c_.activation, b_.view(both, I, I));
    } else if (c_.gated) {
      const int gate = b_.linear(x, name(n_.gate), I, c_.mlp_bias);
      const int up = b_.linear(x, name(n_.gated_up.empty() ? n_.up : n_.gated_up), I, c_.mlp_bias);
      inner = b_.activation(gate, c_.activation, up);
    } else {
      inner = b_.activation(b_.linear(x, name(n_.up), I, c_.mlp_bias, -1, c_.linear_in_out), c_.activation);
    }
    return into_residual(SiteRole::mlp_out, inner, name(n_.down), c_.mlp_bias, base, n_.mlp_out_norm);
  }

  Builder& b_;
  const ModelConfig& c_;
  const Names& n_;
  int layer_;
  bool second_;
  std::string path_;
  BlockSizes size_;
};

/// ids to the first block's input.
Segment build_embedding(Builder& b, const Names& n, Stream stream) {
  const ModelConfig& c = b.c;
  b.begin(stream, -1);
  int x = b.slot(c.embedding_width());
  Step& tokens = b.step(StepKind::tokens);
  tokens.out = x;
  tokens.weight = b.m.token_table = b.table(std::string(n.embedding) + ".weight", {c.vocab_size, c.embedding_width()});
  if (c.embedding_scale != 1) {
    Step& scale = b.step(StepKind::scale);
    scale.out = x;
    scale.value = static_cast<float>(c.embedding_scale);
  }
  if (c.trigram) {
    const int three = b.slot(3 * c.embedding_width());
    Step& trigram = b.step(StepKind::trigram);
    trigram.in = x;
    trigram.out = three;
    x = three;
  }
  // OPT and MobileBERT project before positions are added, ALBERT after.
  const bool late = c.family == "albert";
  const bool projects = !n.project_in.empty() && (late || c.trigram || c.embedding_width() != c.hidden_size);
  if (projects && !late) x = b.linear(x, std::string(n.project_in), c.hidden_size, c.family != "opt");
  if (c.position == PositionKind::learned) {
    const int rows = c.position_rows > 0 ? c.position_rows : c.context_max + c.position_offset;
    Step& positions = b.step(StepKind::positions);
    positions.out = x;
    positions.row_offset = c.position_offset;
    positions.weight = b.table(std::string(n.positions) + ".weight", {rows, b.width(x)});
  }
  if (c.type_vocab > 0) {
    Step& types = b.step(StepKind::types);
    types.out = x;
    types.weight = b.table(std::string(n.types) + ".weight", {c.type_vocab, b.width(x)});
  }
  if (c.embedding_norm) {
    NormWeights w;
    w.kind = c.norm;
    w.eps = static_cast<float>(c.norm_eps);
    w.H = b.width(x);
    w.w_at = b.parameter(std::string(n.embedding_norm) + ".weight", {w.H});
    w.b_at = b.parameter(std::string(n.embedding_norm) + ".bias", {w.H});
    b.m.norms.push_back(w);
    x = b.norm_with(x, static_cast<int>(b.m.norms.size()) - 1, true);
  }
  if (projects && late) x = b.linear(x, std::string(n.project_in), c.hidden_size, true);
  b.s.output = x;
  return b.take();
}

/// ALBERT's layers share weights by group; everybody else's are numbered.
std::string block_path(const ModelConfig& c, const Names& n, int layer) {
  if (c.layer_groups == 0) return std::string(n.block) + std::to_string(layer) + ".";
  const int per_group = c.layers / c.inner_layers / c.layer_groups;
  const int outer = layer / c.inner_layers;
  const int group = std::min(outer / std::max(per_group, 1), c.layer_groups - 1);
  return std::string(n.block) + std::to_string(group) + ".albert_layers." + std::to_string(layer % c.inner_layers) +
         ".";
}

}  // namespace

void build_stack(Builder& b, const Names& n, bool second) {
  const ModelConfig& c = b.c;
  Program& program = b.m.program;
  const Stream stream = second ? Stream::second : Stream::first;
  program.body.push_back(build_embedding(b, n, stream));
  const int layers = second ? c.decoder_layers : c.layers;
  for (int layer = 0; layer < layers; ++layer) {
    const std::string path = block_path(c, n, layer);
    b.begin(stream, second ? c.layers + layer : layer);
    if (c.block == BlockKind::rwkv7) {
      build_rwkv7_block(b, path, layer);
      program.body.push_back(b.take());
      continue;
    }
    b.as_block(path);
    const int x = b.s.input = b.slot(c.hidden_size);
    if (second) b.s.memory = b.slot_in(Stream::first, c.hidden_size);
    if (c.block == BlockKind::mobilebert) {
      build_mobilebert_block(b, path);
    } else if (c.block == BlockKind::rwkv) {
      build_rwkv_block(b, path, x);
    } else {
      b.s.output = TransformerBlock(b, n, layer, second, path).build(x);
    }
    program.body.push_back(b.take());
  }
  if (c.two_stacks() && !second && c.final_norm) {
    b.begin(stream, -1);
    const int x = b.s.input = b.slot(c.hidden_size);
    b.s.output = b.norm(x, std::string(n.final_norm), true);
    program.body.push_back(b.take());
  }
  if (!second) program.first_segments = static_cast<int>(program.body.size());
}

}  // namespace covey::model

// MobileBERT's block: a narrow transformer between two bottlenecks. Source: Sun et al., 2020.
#include <cmath>

#include "core/model/builder.h"

namespace covey::model {
namespace {

/// dense and norm into the narrow width.
int bottleneck(Builder& b, int x, const std::string& path) {
  return b.norm(b.linear(x, path + ".dense", b.c.bottleneck_size, true), path + ".LayerNorm", true);
}

int attention(Builder& b, const std::string& path, int q_from, int k_from, int v_from, int base) {
  const ModelConfig& c = b.c;
  const int W = c.heads * c.head_dim;
  const int q = b.linear(q_from, path + "self.query", W, true);
  const int k = b.as(SiteRole::key, b.linear(k_from, path + "self.key", W, true));
  const int v = b.as(SiteRole::value, b.linear(v_from, path + "self.value", W, true));
  const int out = b.slot(W);
  const int lse = b.slot(c.heads);
  Step& a = b.step(StepKind::attention);
  a.in = q;
  a.in2 = k;
  a.in3 = v;
  a.out = out;
  a.stats = lse;
  a.heads = a.kv_heads = c.heads;
  a.head_dim = c.head_dim;
  for (long& row : a.head_row) row = c.head_dim;
  a.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(c.head_dim)));
  a.causal = false;
  a.cache = b.m.program.caches++;
  b.prefixable(a, path + "self.key");
  const int dense = b.as(SiteRole::attention_out, b.linear(out, path + "output.dense", b.width(base), true, base));
  return b.norm(dense, path + "output.LayerNorm", true);
}

int feedforward(Builder& b, int x, const std::string& path) {
  const ModelConfig& c = b.c;
  const int inner = b.activation(b.linear(x, path + "intermediate.dense", c.intermediate_size, true), c.activation);
  const int dense = b.as(SiteRole::mlp_out, b.linear(inner, path + "output.dense", b.width(x), true, x));
  return b.norm(dense, path + "output.LayerNorm", true);
}

}  // namespace

void build_mobilebert_block(Builder& b, const std::string& path) {
  const ModelConfig& c = b.c;
  const int x = b.s.input;
  const bool narrow = c.bottleneck_size > 0;
  int into = x;  // what the block's residuals start from
  int q = x;
  int k = x;
  int v = x;
  if (narrow) {
    into = bottleneck(b, x, path + "bottleneck.input");
    if (c.bottleneck_attention) {
      q = k = v = into;
    } else if (c.shared_query_bottleneck) {
      q = k = bottleneck(b, x, path + "bottleneck.attention");
    }
  }
  int y = attention(b, path + "attention.", q, k, v, into);
  for (int i = 0; i + 1 < c.feedforward_networks; ++i) y = feedforward(b, y, path + "ffn." + std::to_string(i) + ".");
  if (!narrow) {
    b.s.output = feedforward(b, y, path);
    return;
  }
  y = feedforward(b, y, path);
  const int wide = b.linear(y, path + "output.bottleneck.dense", c.hidden_size, true, x);
  b.s.output = b.norm(wide, path + "output.bottleneck.LayerNorm", true);
}

}  // namespace covey::model

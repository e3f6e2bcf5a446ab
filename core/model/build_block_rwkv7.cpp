// RWKV version 7's block. Source: Peng et al., 2025, "RWKV-7 Goose"; names of tensors as flash-linear-attention has
// them.
#include "core/kernels/wkv7.h"
#include "core/model/builder.h"

namespace covey::model {
namespace {

class Rwkv7Block {
 public:
  Rwkv7Block(Builder& b, const std::string& path, int layer)
      : b_(b), c_(b.c), attention_(path + "attn."), channel_(path + "ffn."), path_(path), layer_(layer) {}

  void build() {
    const int H = c_.hidden_size;
    const bool first = layer_ == 0;
    const bool last = layer_ + 1 == c_.layers;
    const int in = b_.s.input = b_.slot(first ? H : 2 * H);
    const int x = first ? in : b_.activation(b_.view(in, 0, H), Activation::identity);
    const int values = first ? -1 : b_.activation(b_.view(in, H, H), Activation::identity);
    int own_values = -1;
    const int middle = time_mixing(x, values, own_values);
    const int again = b_.norm(middle, path_ + "ffn_norm", true);
    const int key = b_.linear(shift(again, channel_ + "x_k", {H}), channel_ + "key", c_.intermediate_size, false);
    const int inner = b_.activation(key, c_.activation);
    const int out = b_.as(SiteRole::mlp_out, b_.linear(inner, channel_ + "value", H, false, middle));
    b_.s.output = last ? out : join(out, first ? own_values : values);
  }

 private:
  int shift(int x, const std::string& name, std::vector<std::int64_t> shape) {
    const int out = b_.slot(b_.width(x));
    b_.s.slots.back().cheap = true;
    Step& next = b_.step(StepKind::shift);
    next.in = x;
    next.out = out;
    next.of_above = true;
    next.weight = b_.table(name, std::move(shape));
    next.cache = b_.m.program.caches++;
    return out;
  }

  /// A small network of two layers over the shifted row.
  int small(int normed, char name, int rank, Activation inner, bool bias) {
    const std::string path = attention_ + name + "_lora.lora.";
    const int in = mixed(normed, name);
    int hidden = b_.linear(in, path + "0", rank, false);
    if (inner != Activation::identity) hidden = b_.activation(hidden, inner);
    return b_.linear(hidden, path + "2", c_.hidden_size, bias);
  }

  int mixed(int normed, char name) {
    int& slot = mixed_[static_cast<unsigned char>(name)];
    if (slot == 0) slot = shift(normed, attention_ + "x_" + name, {1, 1, c_.hidden_size});
    return slot;
  }

  int projected(int normed, char name) {
    return b_.linear(mixed(normed, name), attention_ + name + "_proj", c_.hidden_size, false);
  }

  int join(int left, int right) {
    const int out = b_.slot(b_.width(left) + b_.width(right));
    Step& next = b_.step(StepKind::join);
    next.in = left;
    next.in2 = right;
    next.out = out;
    return out;
  }

  int lerp(int x, int other, int share) {
    const int out = b_.slot(b_.width(x));
    Step& next = b_.step(StepKind::lerp);
    next.in = x;
    next.in2 = other;
    next.in3 = share;
    next.out = out;
    return out;
  }

  int memory(int r, int w, int k, int v, int a) {
    const int out = b_.slot(c_.hidden_size);
    const int states = b_.slot(c_.hidden_size * c_.head_dim / kernels::kWkv7Chunk);
    Step& next = b_.step(StepKind::wkv7);
    next.in = r;
    next.in2 = w;
    next.in3 = k;
    next.in4 = v;
    next.in5 = a;
    next.out = out;
    next.stats = states;
    next.heads = c_.heads;
    next.head_dim = c_.head_dim;
    next.cache = b_.m.program.caches++;
    next.weight = b_.table(attention_ + "k_k", {c_.hidden_size});
    next.weight2 = b_.table(attention_ + "k_a", {c_.hidden_size});
    return out;
  }

  int group_norm(int x) {
    NormWeights w;
    w.kind = NormKind::layer;
    w.eps = static_cast<float>(c_.head_dim * c_.norm_eps);
    w.own = w.together = true;
    w.heads = c_.heads;
    w.H = c_.head_dim;
    w.w_at = b_.parameter(attention_ + "g_norm.weight", {c_.hidden_size});
    w.b_at = b_.parameter(attention_ + "g_norm.bias", {c_.hidden_size});
    b_.m.norms.push_back(w);
    return b_.norm_with(x, static_cast<int>(b_.m.norms.size()) - 1, true);
  }

  int bonus(int base, int r, int k, int v, int a) {
    const int out = b_.slot(c_.hidden_size);
    Step& next = b_.step(StepKind::bonus);
    next.in = r;
    next.in2 = k;
    next.in3 = v;
    next.in4 = a;
    next.base = base;
    next.out = out;
    next.heads = c_.heads;
    next.head_dim = c_.head_dim;
    next.weight = b_.table(attention_ + "k_a", {c_.hidden_size});
    next.weight2 = b_.table(attention_ + "r_k", {c_.heads, c_.head_dim});
    return out;
  }

  /// @return x and what attention adds. `own_values`: this block's, before the first block's are mixed in.
  int time_mixing(int x, int first_values, int& own_values) {
    const int normed = b_.norm(x, path_ + "attn_norm", true);
    const int r = projected(normed, 'r');
    const int w = small(normed, 'w', c_.decay_rank, Activation::tanh, true);
    const int k = b_.as(SiteRole::key, projected(normed, 'k'));
    int v = own_values = b_.as(SiteRole::value, projected(normed, 'v'));
    if (first_values >= 0) {
      const int share = small(normed, 'v', c_.value_rank, Activation::identity, true);
      v = lerp(v, first_values, b_.activation(share, Activation::sigmoid));
    }
    const int a = b_.activation(small(normed, 'a', c_.rate_rank, Activation::identity, true), Activation::sigmoid);
    const int gate = small(normed, 'g', c_.gate_rank, Activation::sigmoid, false);
    const int y = bonus(group_norm(memory(r, w, k, v, a)), r, k, v, a);
    const int gated = b_.activation(gate, Activation::identity, y);
    return b_.as(SiteRole::attention_out, b_.linear(gated, attention_ + "o_proj", c_.hidden_size, false, x));
  }

  Builder& b_;
  const ModelConfig& c_;
  std::string attention_, channel_, path_;
  int layer_;
  int mixed_[256] = {};  ///< by letter; 0: not there yet (slot 0 is the input)
};

}  // namespace

void build_rwkv7_block(Builder& b, const std::string& path, int layer) {
  Rwkv7Block(b, path, layer).build();
}

}  // namespace covey::model

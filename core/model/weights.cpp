#include "core/model/weights.h"

#include <string_view>

namespace covey::model {
namespace {

/// Walks the model in its fixed order; both list_parameters and bind_weights go through it, so they cannot disagree.
class Walk {
 public:
  explicit Walk(Model::Impl& model) : model_(model), listing_(model.parameters.empty()) {}

  const float* tensor(const std::string& name, std::vector<std::int64_t> shape, std::int64_t& at) {
    if (!listing_) {
      const Parameter& p = model_.parameters[next_++];
      at = p.at;
      return p.values;
    }
    Parameter p;
    p.name = name;
    p.shape = std::move(shape);
    p.at = model_.parameter_count;
    p.count = 1;
    for (const std::int64_t extent : p.shape) p.count *= extent;
    model_.parameter_count += p.count;
    at = p.at;
    model_.parameters.push_back(std::move(p));
    return nullptr;
  }

  void norm(const std::string& path, Norm& norm) {
    norm.w = tensor(path + ".weight", {model_.config.hidden_size}, norm.at);
  }

  void linear(int layer, const std::string& path, int in, int out, bool bias, Linear& linear) {
    linear.in = in;
    linear.out = out;
    linear.w = tensor(path + ".weight", {out, in}, linear.w_at);
    if (bias) linear.b = tensor(path + ".bias", {out}, linear.b_at);
    site(layer, path, linear);
  }

  void site(int layer, const std::string& path, Linear& linear) {
    linear.site = next_site_++;
    if (listing_) {
      model_.sites.push_back({layer, path, path.substr(path.rfind('.') + 1), linear.in, linear.out});
    }
  }

 private:
  Model::Impl& model_;
  bool listing_;
  std::size_t next_ = 0;
  int next_site_ = 0;
};

void walk(Model::Impl& m) {
  const ModelConfig& c = m.config;
  Walk walk(m);
  m.embedding = walk.tensor("model.embed_tokens.weight", {c.vocab_size, c.hidden_size}, m.embedding_at);
  m.blocks.assign(static_cast<std::size_t>(c.layers), {});
  for (int layer = 0; layer < c.layers; ++layer) {
    BlockWeights& b = m.blocks[static_cast<std::size_t>(layer)];
    const std::string path = "model.layers." + std::to_string(layer) + ".";
    walk.norm(path + "input_layernorm", b.attention_norm);
    walk.linear(layer, path + "self_attn.q_proj", c.hidden_size, c.q_width(), c.qkv_bias, b.q);
    walk.linear(layer, path + "self_attn.k_proj", c.hidden_size, c.kv_width(), c.qkv_bias, b.k);
    walk.linear(layer, path + "self_attn.v_proj", c.hidden_size, c.kv_width(), c.qkv_bias, b.v);
    walk.linear(layer, path + "self_attn.o_proj", c.q_width(), c.hidden_size, c.o_bias, b.o);
    walk.norm(path + "post_attention_layernorm", b.mlp_norm);
    walk.linear(layer, path + "mlp.gate_proj", c.hidden_size, c.intermediate_size, c.mlp_bias, b.gate);
    walk.linear(layer, path + "mlp.up_proj", c.hidden_size, c.intermediate_size, c.mlp_bias, b.up);
    walk.linear(layer, path + "mlp.down_proj", c.intermediate_size, c.hidden_size, c.mlp_bias, b.down);
  }
  walk.norm("model.norm", m.final_norm);
  if (c.tied_head) {
    m.head = {m.embedding, nullptr, m.embedding_at, -1, c.hidden_size, c.vocab_size, -1};
  } else {
    walk.linear(-1, "lm_head", c.hidden_size, c.vocab_size, false, m.head);
  }
}

}  // namespace

void list_parameters(Model::Impl& model) {
  walk(model);
}

void bind_weights(Model::Impl& model) {
  walk(model);
}

}  // namespace covey::model

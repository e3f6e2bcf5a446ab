// From the last block's rows to logits: language model, masked language model with its transform, classifiers.
#include "core/model/builder.h"

namespace covey::model {
namespace {

/// A head whose matrix is the token table; `bias` empty: none.
int tied_linear(Builder& b, int in, const std::string& bias, std::vector<std::int64_t> bias_shape) {
  const ModelConfig& c = b.c;
  Linear l;
  l.in = c.embedding_width();
  l.out = c.vocab_size;
  l.w_at = b.m.tables[static_cast<std::size_t>(b.m.token_table)].at;
  if (!bias.empty()) l.b_at = b.parameter(bias, std::move(bias_shape));
  b.m.linears.push_back(l);
  return b.linear_with(in, static_cast<int>(b.m.linears.size()) - 1);
}

int causal_head(Builder& b, const Names& n, int x) {
  const ModelConfig& c = b.c;
  if (c.final_norm) x = b.norm(x, std::string(n.final_norm), c.logit_scale == 1);
  if (!n.project_out.empty() && c.embedding_width() != c.hidden_size) {
    x = b.linear(x, std::string(n.project_out), c.embedding_width(), false);
  }
  if (c.logit_scale != 1) {
    Step& scale = b.step(StepKind::scale);
    scale.out = x;
    scale.value = static_cast<float>(c.logit_scale);
  }
  const std::string bias =
      !c.head_bias ? "" : (c.family == "bart" ? "final_logits_bias" : std::string(n.head) + ".bias");
  if (c.tied_head) {
    x = tied_linear(
        b, x, bias,
        c.family == "bart" ? std::vector<std::int64_t>{1, c.vocab_size} : std::vector<std::int64_t>{c.vocab_size});
  } else {
    x = b.linear(x, std::string(n.head), c.vocab_size, c.head_bias);
  }
  if (c.logit_cap > 0) {
    x = b.activation(x, Activation::soft_cap, -1, static_cast<float>(c.logit_cap));
    b.s.slots[static_cast<std::size_t>(x)].cheap = false;  // the loss turns logits into their gradient in place
  }
  return x;
}

struct MaskedNames {
  const char* dense;
  const char* norm;
  const char* bias;
};

MaskedNames masked_names(const std::string& family) {
  if (family == "roberta") return {"lm_head.dense", "lm_head.layer_norm", "lm_head.bias"};
  if (family == "distilbert") return {"vocab_transform", "vocab_layer_norm", "vocab_projector.bias"};
  if (family == "albert") return {"predictions.dense", "predictions.LayerNorm", "predictions.bias"};
  return {"cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"};
}

/// dense, activation, norm, then the token table (and what MobileBERT adds to it).
int masked_head(Builder& b, int x) {
  const ModelConfig& c = b.c;
  const MaskedNames n = masked_names(c.family);
  const int width = c.family == "albert" ? c.embedding_width() : c.hidden_size;
  x = b.linear(x, n.dense, width, true);
  x = b.activation(x, c.family == "roberta" ? Activation::gelu : c.activation);
  NormWeights w;
  w.kind = NormKind::layer;  // here MobileBERT has a real one, too
  w.eps = c.family == "distilbert" ? 1e-12F : static_cast<float>(c.norm_eps);
  w.H = width;
  w.w_at = b.parameter(std::string(n.norm) + ".weight", {width});
  w.b_at = b.parameter(std::string(n.norm) + ".bias", {width});
  b.m.norms.push_back(w);
  x = b.norm_with(x, static_cast<int>(b.m.norms.size()) - 1, true);
  if (c.family != "mobilebert" || c.embedding_width() == c.hidden_size)
    return tied_linear(b, x, n.bias, {c.vocab_size});
  // Its matrix is the token table beside a second one that lies as [in, out].
  const int E = c.embedding_width();
  const int from_table = tied_linear(b, b.view(x, 0, E), n.bias, {c.vocab_size});
  Linear l;
  l.in = c.hidden_size - E;
  l.out = c.vocab_size;
  l.in_out = true;
  l.w_at = b.parameter("cls.predictions.dense.weight", {l.in, l.out});
  b.m.linears.push_back(l);
  return b.linear_with(b.view(x, E, l.in), static_cast<int>(b.m.linears.size()) - 1, from_table);
}

int classifier(Builder& b, const Names& n, int x) {
  const ModelConfig& c = b.c;
  const auto pooled = [&](const char* path, Activation activation) {
    return b.activation(b.linear(x, path, c.hidden_size, true), activation);
  };
  switch (c.pooler) {
    case Pooler::bert:
      x = pooled("bert.pooler.dense", Activation::tanh);
      break;
    case Pooler::albert:
      x = pooled("albert.pooler", Activation::tanh);
      break;
    case Pooler::mobilebert:
      x = pooled("mobilebert.pooler.dense", Activation::tanh);
      break;
    case Pooler::roberta:
      b.in_head = true;
      x = pooled("classifier.dense", Activation::tanh);
      return b.linear(x, "classifier.out_proj", c.classes, true);
    case Pooler::distilbert:
      b.in_head = true;
      x = pooled("pre_classifier", Activation::relu);
      break;
    case Pooler::last_token:
      if (c.final_norm) x = b.norm(x, std::string(n.final_norm), true);
      b.in_head = true;
      return b.linear(x, "score", c.classes, false);
    case Pooler::none:
      break;
  }
  b.in_head = true;
  return b.linear(x, "classifier", c.classes, true);
}

}  // namespace

void build_head(Builder& b, const Names& n) {
  const ModelConfig& c = b.c;
  b.begin(Stream::chunk, -1);
  const int x = b.s.input = b.slot(c.hidden_size);
  if (c.task == Task::classification) {
    b.s.output = classifier(b, n, x);
  } else if (c.task == Task::masked_lm) {
    b.s.output = masked_head(b, x);
  } else {
    b.s.output = causal_head(b, n, x);
  }
  b.m.program.head = b.take();
}

}  // namespace covey::model

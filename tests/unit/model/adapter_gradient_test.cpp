// Every adapter on every kind of block: each value's gradient against the exact derivative of the plain second
// implementation, by a complex step.
#include <algorithm>
#include <cmath>

#include "tests/unit/model/family_reference.h"
#include "tests/unit/model/tiny_families.h"
#include "tests/unit/model/tiny_parts.h"

namespace covey::model {
namespace {

/// What an adapter kind is made of: (IA)3's scales stand before and behind linear layers.
enum class Kind : std::uint8_t { lora, prompt, prefix, bias, scale_in, scale_out, houlsby, pfeiffer };

constexpr std::pair<Kind, const char*> kAdapters[] = {
    {Kind::lora, "LoRA"},         {Kind::prompt, "soft prompt"},        {Kind::prefix, "prefix"},
    {Kind::bias, "bias"},         {Kind::scale_in, "scales of inputs"}, {Kind::scale_out, "scales of outputs"},
    {Kind::houlsby, "Houlsby's"}, {Kind::pfeiffer, "Pfeiffer's"},
};

PartKind part_kind(Kind kind) {
  switch (kind) {
    case Kind::prefix:
      return PartKind::prefix;
    case Kind::bias:
      return PartKind::bias;
    case Kind::scale_in:
      return PartKind::scale_in;
    case Kind::houlsby:
      return PartKind::bottleneck;
    case Kind::pfeiffer:
      return PartKind::block_bottleneck;
    default:
      return PartKind::scale_out;
  }
}

struct Block {
  const char* name;
  const char* type;
  const char* architecture;
  const char* more;
};

constexpr Block kBlocks[] = {
    {"sequential, gated, grouped keys, biases", "llama", "LlamaForCausalLM",
     R"("num_key_value_heads": 1, "attention_bias": true, "mlp_bias": true)"},
    {"sequential, norms of heads, a window", "qwen3", "Qwen3ForCausalLM",
     R"("num_key_value_heads": 1, "head_dim": 8, "use_sliding_window": true, "sliding_window": 3,
        "max_window_layers": 1)"},
    {"sequential, gated, one matrix for queries, keys and values, one for gate and up", "phi3", "Phi3ForCausalLM",
     R"("num_key_value_heads": 1)"},
    {"sequential, plain network, fused and transposed matrices, learned positions", "gpt2", "GPT2LMHeadModel", ""},
    {"parallel, a norm each, heads' matrices side by side", "gpt_neox", "GPTNeoXForCausalLM", R"("rotary_pct": 0.67)"},
    {"parallel, one norm", "phi", "PhiForCausalLM", R"("partial_rotary_factor": 0.34)"},
    {"norms before and behind, caps, scaled embeddings", "gemma2", "Gemma2ForCausalLM",
     R"("num_key_value_heads": 1, "head_dim": 8, "sliding_window": 2, "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0)"},
    {"norms behind", "olmo2", "Olmo2ForCausalLM", R"("num_key_value_heads": 1)"},
    {"linear positions, residuals from norms", "bloom", "BloomForCausalLM",
     R"("apply_residual_connection_post_layernorm": true)"},
    {"post-norm decoder, a narrower embedding", "opt", "OPTForCausalLM",
     R"("do_layer_norm_before": false, "word_embed_proj_dim": 8)"},
    {"windows, unscaled scores", "gpt_neo", "GPTNeoForCausalLM", ""},
    {"layers of different widths", "openelm", "OpenELMForCausalLM", ""},
    {"RWKV 4", "rwkv", "RwkvForCausalLM", ""},
    {"RWKV 7", "rwkv7", "RWKV7ForCausalLM", R"("num_hidden_layers": 2)"},
    {"post-norm encoder", "bert", "BertForMaskedLM", R"("pad_token_id": 0, "type_vocab_size": 2)"},
    {"post-norm encoder, classifier", "distilbert", "DistilBertForSequenceClassification",
     R"("id2label": {"0": "a", "1": "b", "2": "c"})"},
    {"shared layers", "albert", "AlbertForMaskedLM", R"("pad_token_id": 0, "embedding_size": 8)"},
    {"bottlenecks of its own", "mobilebert", "MobileBertForMaskedLM",
     R"("pad_token_id": 0, "embedding_size": 8, "intra_bottleneck_size": 6, "num_feedforward_networks": 2)"},
    {"encoder-decoder, relative positions", "t5", "T5ForConditionalGeneration", R"("feed_forward_proj": "relu")"},
    {"encoder-decoder, gated", "t5", "T5ForConditionalGeneration", R"("feed_forward_proj": "gated-gelu")"},
    {"encoder-decoder, post-norm", "bart", "BartForConditionalGeneration", ""},
};

/// Values of the reference, and the engine's gradient of them.
struct Variable {
  plain::Row* values;
  const std::vector<float>* gradient;
  std::size_t first = 0;  ///< of `gradient`
};

plain::Row row_of(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

/// The part with these values, in the reference. @return where they lie there.
plain::Row* attach(plain::Reference& reference, const Model& model, const AdapterPart& part,
                   const std::vector<float>& values) {
  plain::Adapters& to = reference.adapters;
  const auto index = static_cast<std::size_t>(part.index);
  const plain::Adapters::Bottleneck bottleneck{row_of(values), static_cast<std::size_t>(part.count), part.activation};
  switch (part.kind) {
    case PartKind::scale_in:
      return &(to.scale_in[model.linear_sites()[index].path] = row_of(values));
    case PartKind::scale_out:
      return &(to.scale_out[model.linear_sites()[index].path] = row_of(values));
    case PartKind::bias: {
      plain::Row& bias = reference.tensors.at(model.biases()[index].name);
      for (std::size_t i = 0; i < bias.size(); ++i) bias[i] += static_cast<double>(values[i]);
      return &bias;
    }
    case PartKind::prefix:
      to.prefix_tokens = static_cast<std::size_t>(part.count);
      to.prefix.resize(model.attentions().size());
      return &(to.prefix[index] = row_of(values));
    case PartKind::bottleneck:
      return &(to.bottleneck[model.linear_sites()[index].path] = bottleneck).values;
    case PartKind::block_bottleneck:
      to.behind_block.resize(model.blocks().size());
      return &(to.behind_block[index] = bottleneck).values;
  }
  return nullptr;
}

/// An adapter of one kind with random values, and its gradient.
struct Trained {
  std::vector<Variable> variables;
  tiny::Adapter lora, lora_gradient;  ///< soft prompts, too
  tiny::Parts parts, parts_gradient;

  /// @return false where the kind has no place in the model.
  bool make(Kind kind, Model& model, const TokenBatch& batch, plain::Reference& reference) {
    ThreadPool pool(1);
    auto options = tiny::options_for(model.config(), false);
    options.prompt_tokens_max = 2;
    const auto engine = tiny::engine(model, pool, options);
    if (kind != Kind::lora && kind != Kind::prompt) {
      parts = tiny::random_parts(model, part_kind(kind), 3);
      if (parts.spec.parts.empty()) return false;
      parts_gradient = parts.zeros();
      const auto loss = engine->gradient(batch, parts.spec, parts.view(), parts_gradient.gradient_view());
      REQUIRE_OK(loss);
      for (std::size_t i = 0; i < parts.values.size(); ++i) {
        variables.push_back(
            {attach(reference, model, parts.spec.parts[i], parts.values[i]), &parts_gradient.values[i]});
      }
      CHECK(loss->mean() == doctest::Approx(reference.loss(batch).real()).epsilon(2e-5));
      return true;
    }
    if (kind == Kind::prompt && !model.config().generates()) return false;
    if (kind == Kind::lora) lora = tiny::lora(model, tiny::all_sites(model), 2);
    const auto E = static_cast<std::size_t>(model.config().embedding_width());
    if (kind == Kind::prompt) {
      lora.spec.prompt_tokens = 2;
      lora.prompt.resize(2 * E);
      CounterRng(3).fill_normal(lora.prompt);
    }
    lora_gradient = lora.zeros();
    const auto loss = engine->gradient(batch, lora.spec, lora.view(), lora_gradient.gradient_view());
    REQUIRE_OK(loss);
    for (std::size_t i = 0; i < lora.a.size(); ++i) {
      auto& to = reference.adapters.lora[model.linear_sites()[i].path];
      to = {row_of(lora.a[i]), row_of(lora.b[i]), static_cast<double>(lora.spec.lora[i].scale)};
      variables.push_back({&to.a, &lora_gradient.a[i]});
      variables.push_back({&to.b, &lora_gradient.b[i]});
    }
    const plain::Row prompt = row_of(lora.prompt);
    reference.adapters.prompt.resize(prompt.size() / E);
    for (std::size_t t = 0; t * E < prompt.size(); ++t) {
      const auto at = prompt.begin() + static_cast<std::ptrdiff_t>(t * E);
      reference.adapters.prompt[t].assign(at, at + static_cast<std::ptrdiff_t>(E));
      variables.push_back({&reference.adapters.prompt[t], &lora_gradient.prompt, t * E});
    }
    CHECK(loss->mean() == doctest::Approx(reference.loss(batch).real()).epsilon(2e-5));
    return true;
  }
};

double size_of(double value) {
  return std::abs(value);
}

/// The largest deviation of a gradient from the exact derivative, over the largest gradient of its tensor (at least a
/// thousandth of the adapter's largest: some derivatives are nothing, as that of a key's bias).
double worst_deviation(const plain::Reference& constant, const TokenBatch& batch, std::span<const Variable> variables,
                       std::size_t samples) {
  double all = 0;
  for (const Variable& v : variables) {
    for (const float g : *v.gradient) all = std::max(all, size_of(static_cast<double>(g)));
  }
  CHECK(all > 0);
  double worst = 0;
  for (const Variable& v : variables) {
    double largest = all / 1000;
    for (const float g : *v.gradient) largest = std::max(largest, size_of(static_cast<double>(g)));
    const std::size_t size = v.values->size();
    const std::size_t step = std::max<std::size_t>(1, size / samples);
    for (std::size_t i = size % step; i < size; i += step) {
      plain::C& entry = (*v.values)[i];
      const plain::C kept = entry;
      entry += plain::C(0, 1e-50);
      const double exact = constant.loss(batch).imag() / 1e-50;
      entry = kept;
      worst = std::max(worst, size_of(static_cast<double>((*v.gradient)[v.first + i]) - exact) / largest);
    }
  }
  return worst;
}

/// The engine computes in f32: its gradients carry a few dozen roundings of 6e-8 of what they were summed from.
constexpr double kTolerance = 1e-4;

}  // namespace

TEST_CASE("The gradient of every adapter on every kind of block is the exact derivative, value by value") {
  double all = 0;
  int pairs = 0;
  for (const Block& block : kBlocks) {
    CAPTURE(std::string(block.name));
    const auto model = tiny::random_model(tiny::config_text(block.type, block.architecture, block.more));
    const tiny::Tokens tokens = tiny::tokens_for(model->config());
    for (const auto& [kind, name] : kAdapters) {
      CAPTURE(std::string(name));
      plain::Reference reference(*model);
      Trained trained;
      if (!trained.make(kind, *model, tokens.batch, reference)) continue;
      const double worst = worst_deviation(reference, tokens.batch, trained.variables, 40);
      CHECK(worst < kTolerance);
      all = std::max(all, worst);
      ++pairs;
    }
  }
  CHECK(pairs > 140);
  MESSAGE(pairs << " pairs of adapter and block, worst deviation " << all);
}

TEST_CASE("A gradient that is a thousandth off would be seen") {
  const Block& block = kBlocks[0];
  const auto model = tiny::random_model(tiny::config_text(block.type, block.architecture, block.more));
  const tiny::Tokens tokens = tiny::tokens_for(model->config());
  plain::Reference reference(*model);
  Trained trained;
  REQUIRE(trained.make(Kind::houlsby, *model, tokens.batch, reference));
  for (auto& gradient : trained.parts_gradient.values) {
    for (float& value : gradient) value *= 1.001F;
  }
  CHECK(worst_deviation(reference, tokens.batch, trained.variables, 40) > kTolerance);
}

}  // namespace covey::model

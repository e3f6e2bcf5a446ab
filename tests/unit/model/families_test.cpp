// Values of the families' fields that the golden cases leave out, each against the plain reference: loss, gradient of
// every tensor, forward mode, checkpointing, decoding.
#include <algorithm>
#include <cmath>

#include "tests/unit/model/family_reference.h"
#include "tests/unit/model/tiny_families.h"

namespace covey::model {
namespace {
using tiny::config_text;
using tiny::options_for;
using tiny::random_model;
using tiny::Tokens;
using tiny::tokens_for;

void check_full_gradient(Model& model, const Tokens& tokens, ThreadPool& pool) {
  const auto size = static_cast<std::size_t>(model.parameter_count());
  std::vector<float> gradient(size);
  std::vector<float> again(size);
  const auto loss =
      tiny::engine(model, pool, options_for(model.config(), false))->full_gradient(tokens.batch, gradient);
  REQUIRE_OK(loss);
  ThreadPool more(3);
  REQUIRE_OK(tiny::engine(model, more, options_for(model.config(), true))->full_gradient(tokens.batch, again));
  CHECK(gradient == again);

  plain::Reference reference(model);
  CHECK(loss.value().mean() == doctest::Approx(reference.loss(tokens.batch).real()).epsilon(2e-5));
  double largest = 0;
  for (const float value : gradient) largest = std::max(largest, std::abs(static_cast<double>(value)));
  std::size_t at = 0;
  for (const auto& tensor : model.parameters()) {
    CAPTURE(tensor.name);
    const std::size_t step = std::max<std::size_t>(1, tensor.values.size() / 2);
    for (std::size_t i = step / 3; i < tensor.values.size(); i += step) {
      plain::C& entry = reference.tensors[tensor.name][i];
      const plain::C kept = entry;
      entry += plain::C(0, 1e-50);
      const double exact = reference.loss(tokens.batch).imag() / 1e-50;
      entry = kept;
      CHECK(std::abs(static_cast<double>(gradient[at + i]) - exact) < 5e-5 * largest + 1e-6);
    }
    at += tensor.values.size();
  }
}

/// Adapters on every linear layer: backpropagation, forward mode and, one layer at a time, the early stop.
void check_adapters(Model& model, const Tokens& tokens, ThreadPool& pool) {
  const auto engine = tiny::engine(model, pool, options_for(model.config(), false));
  const auto adapter = tiny::lora(model, tiny::all_sites(model), 2);
  auto gradient = adapter.zeros();
  REQUIRE_OK(engine->gradient(tokens.batch, adapter.spec, adapter.view(), gradient.gradient_view()));
  auto direction = adapter.zeros();
  double product = 0;
  double size = 0;
  for (std::size_t i = 0; i < direction.a.size(); ++i) {
    CounterRng(21, i).fill_normal(direction.a[i]);
    CounterRng(22, i).fill_normal(direction.b[i]);
    for (const auto& [g, d] : {std::pair{&gradient.a[i], &direction.a[i]}, {&gradient.b[i], &direction.b[i]}}) {
      for (std::size_t j = 0; j < g->size(); ++j) {
        product += static_cast<double>((*g)[j]) * static_cast<double>((*d)[j]);
        size += std::abs(static_cast<double>((*g)[j]) * static_cast<double>((*d)[j]));
      }
    }
  }
  CHECK(size > 0);
  const auto jvp = engine->jvp(tokens.batch, adapter.spec, adapter.view(), direction.view());
  REQUIRE_OK(jvp);
  CHECK(std::abs(jvp.value().derivative - product) < 2e-5 * size);
  EngineOptions forward_only = options_for(model.config(), false);
  forward_only.training = false;
  const auto alone =
      tiny::engine(model, pool, forward_only)->jvp(tokens.batch, adapter.spec, adapter.view(), direction.view());
  REQUIRE_OK(alone);
  CHECK(alone.value().derivative == jvp.value().derivative);
  for (std::size_t site = 0; site < adapter.spec.lora.size(); ++site) {
    CAPTURE(model.linear_sites()[site].path);
    auto only = tiny::lora(model, {static_cast<int>(site)}, 2);
    auto masked = adapter;
    for (auto& lora : masked.spec.lora) lora.scale = lora.site == static_cast<int>(site) ? lora.scale : 0;
    auto some = only.zeros();
    auto all = masked.zeros();
    REQUIRE_OK(engine->gradient(tokens.batch, only.spec, only.view(), some.gradient_view()));
    REQUIRE_OK(engine->gradient(tokens.batch, masked.spec, masked.view(), all.gradient_view()));
    CHECK(some.a[0] == all.a[site]);
    CHECK(some.b[0] == all.b[site]);
  }
}

/// Token by token after a source that was read once, against the second stack's whole rows.
void check_source_decoder(Model& model, const Tokens& tokens, ThreadPool& pool) {
  const auto V = static_cast<std::size_t>(model.config().vocab_size);
  const auto adapter = tiny::lora(model, {0, 1, 5, 9}, 2);
  std::vector<float> logits(3 * 4 * V);
  REQUIRE_OK(tiny::engine(model, pool, options_for(model.config(), false))
                 ->logits(tokens.batch, adapter.spec, adapter.view(), logits));
  for (std::size_t b = 0; b < 3; ++b) {
    const auto source = std::span(tokens.ids).subspan(b * 6, static_cast<std::size_t>(tokens.lengths[b]));
    const auto decoder = Decoder::create_for_source(model, source, 4, adapter.spec, adapter.view(), pool);
    REQUIRE_OK(decoder);
    for (std::size_t t = 0; t < 4; ++t) {
      const auto got = decoder.value()->feed(tokens.second[b * 4 + t]);
      REQUIRE_OK(got);
      for (std::size_t v = 0; v < V; ++v) CHECK(std::abs(got.value()[v] - logits[(b * 4 + t) * V + v]) < 5e-5F);
    }
    CHECK(decoder.value()->feed(1).error().code == ErrorCode::resource_exhausted);
  }
  CHECK_FALSE(Decoder::create_for_source(model, {}, 4, {}, {}, pool).ok());
  const std::vector<std::int32_t> outside = {model.config().vocab_size};
  CHECK_FALSE(Decoder::create_for_source(model, outside, 4, {}, {}, pool).ok());
  CHECK_FALSE(Decoder::create_for_source(model, tokens.ids, 1 << 20, {}, {}, pool).ok());
}

/// Engines made for one linear layer's adapter, or for one tensor: buffers for that alone, the bits of the whole.
void check_sparse(Model& model, const Tokens& tokens, ThreadPool& pool, bool checkpoint) {
  EngineOptions options = options_for(model.config(), checkpoint);
  options.tangent = false;
  const auto adapter = tiny::lora(model, tiny::all_sites(model), 2);
  const auto zeros = adapter.zeros();
  auto all = zeros;
  REQUIRE_OK(
      tiny::engine(model, pool, options)->gradient(tokens.batch, adapter.spec, adapter.view(), all.gradient_view()));
  for (std::size_t site = 0; site < adapter.spec.lora.size(); ++site) {
    CAPTURE(model.linear_sites()[site].path);
    AdapterSpec spec = adapter.spec;
    for (std::size_t i = 0; i < spec.lora.size(); ++i) spec.lora[i].train_a = spec.lora[i].train_b = i == site;
    if (site % 3 == 1) spec.lora[site].train_a = false;
    if (site % 3 == 2) spec.lora[site].train_b = false;
    options.trained = TrainedPart{.adapter = spec};
    auto one = zeros;
    REQUIRE_OK(tiny::engine(model, pool, options)->gradient(tokens.batch, spec, adapter.view(), one.gradient_view()));
    for (std::size_t i = 0; i < spec.lora.size(); ++i) {
      CHECK(one.a[i] == (spec.lora[i].train_a ? all.a[i] : zeros.a[i]));
      CHECK(one.b[i] == (spec.lora[i].train_b ? all.b[i] : zeros.b[i]));
    }
  }
  options.trained.reset();
  std::vector<float> whole(static_cast<std::size_t>(model.parameter_count()));
  REQUIRE_OK(tiny::engine(model, pool, options)->full_gradient(tokens.batch, whole));
  const auto tensors = model.tensors();
  auto at = whole.begin();
  for (std::size_t t = 0; t < tensors.size(); at += tensors[t++].count) {
    if (tensors[t].name.find("norms.") != std::string::npos) continue;  // a norm's heads train together
    CAPTURE(tensors[t].name);
    TensorChoice choice(tensors.size());
    choice[t] = 1;
    options.trained = TrainedPart{.model = true, .tensors = choice};
    std::vector<float> one(static_cast<std::size_t>(tensors[t].count));
    REQUIRE_OK(tiny::engine(model, pool, options)->full_gradient(tokens.batch, one, 1, choice));
    CHECK(std::equal(one.begin(), one.end(), at));
  }
}

void check_decoder(Model& model, const Tokens& tokens, ThreadPool& pool) {
  if (model.config().two_stacks()) return check_source_decoder(model, tokens, pool);
  if (!model.config().generates()) return;
  CHECK(Decoder::create_for_source(model, tokens.ids, 4, {}, {}, pool).error().code == ErrorCode::unsupported);
  const auto V = static_cast<std::size_t>(model.config().vocab_size);
  std::vector<float> logits(6 * V);
  const TokenBatch row{.B = 1, .T = 6, .ids = std::span(tokens.ids).first(6), .targets = {}, .lengths = {}};
  EngineOptions options;
  options.seq_max = 6;
  options.batch_max = 3;
  REQUIRE_OK(tiny::engine(model, pool, options)->logits(row, {}, {}, logits));
  const auto decoder = Decoder::create(model, 6, {}, {}, pool);
  REQUIRE_OK(decoder);
  for (std::size_t t = 0; t < 6; ++t) {
    const auto got = decoder.value()->feed(tokens.ids[t]);
    REQUIRE_OK(got);
    for (std::size_t v = 0; v < V; ++v) CHECK(std::abs(got.value()[v] - logits[t * V + v]) < 5e-5F);
  }
}

void check(const std::string& type, const std::string& architecture, const std::string& more = "") {
  CAPTURE(type);
  CAPTURE(more);
  const auto model = random_model(config_text(type, architecture, more));
  const Tokens tokens = tokens_for(model->config());
  ThreadPool pool(1);
  check_full_gradient(*model, tokens, pool);
  check_adapters(*model, tokens, pool);
  for (const bool checkpoint : {false, true}) check_sparse(*model, tokens, pool, checkpoint);
  check_decoder(*model, tokens, pool);
}

const char* const kThree = R"("id2label": {"0": "a", "1": "b", "2": "c"})";

}  // namespace

TEST_CASE("Llama and its like: biases, linear scaling, windows from a layer on, qk norms, classifiers") {
  check("llama", "LlamaForCausalLM",
        R"("attention_bias": true, "mlp_bias": true, "rope_scaling": {"rope_type": "linear", "factor": 2.0})");
  check("llama", "LlamaForSequenceClassification", std::string(R"("num_key_value_heads": 1, )") + kThree);
  check("mistral", "MistralForCausalLM", R"("num_key_value_heads": 1, "head_dim": 8, "sliding_window": 3)");
  check("mistral", "MistralForCausalLM", R"("num_key_value_heads": 2, "sliding_window": null)");
  check("qwen2", "Qwen2ForCausalLM", R"("num_key_value_heads": 1, "use_sliding_window": true, "sliding_window": 2,
        "max_window_layers": 1)");
  check("llama", "LlamaForCausalLM", R"("head_dim": 16, "rope_scaling": {"rope_type": "yarn", "factor": 3.2,
        "original_max_position_embeddings": 20, "beta_fast": 3, "truncate": false})");
  check("qwen2", "Qwen2ForCausalLM",
        R"("num_key_value_heads": 2, "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 50.0})");
  check("qwen3", "Qwen3ForCausalLM", R"("num_key_value_heads": 1, "attention_bias": true, "head_dim": 8,
        "use_sliding_window": true, "sliding_window": 2, "max_window_layers": 1, "tie_word_embeddings": false)");
}

TEST_CASE("Gemma: biases, exact gelu where asked for, no caps, no window") {
  check("gemma", "GemmaForCausalLM", R"("num_key_value_heads": 1, "head_dim": 8, "attention_bias": true,
        "hidden_activation": "gelu")");
  check("gemma2", "Gemma2ForCausalLM", R"("num_key_value_heads": 1, "head_dim": 8, "attn_logit_softcapping": null,
        "final_logit_softcapping": null, "sliding_window": null, "attention_bias": true)");
  check("gemma2", "Gemma2ForCausalLM", R"("num_key_value_heads": 2, "head_dim": 4, "query_pre_attn_scalar": 7,
        "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "sliding_window": 2)");
}

TEST_CASE("Phi, Phi-3 and GPT-NeoX: qk norms, shared keys, sequential blocks, no biases, partial rotation") {
  check("phi", "PhiForCausalLM", R"("num_key_value_heads": 1, "qk_layernorm": true, "tie_word_embeddings": false,
        "partial_rotary_factor": 0.34)");
  check("phi", "PhiForCausalLM", R"("rope_parameters": {"rope_type": "default", "rope_theta": 100.0,
        "partial_rotary_factor": 1.0})");
  check("phi3", "Phi3ForCausalLM", R"("num_key_value_heads": 1, "partial_rotary_factor": 0.67, "sliding_window": 3)");
  check("gpt_neox", "GPTNeoXForCausalLM", R"("rotary_pct": 0.67, "use_parallel_residual": false,
        "attention_bias": false, "tie_word_embeddings": false)");
  check("gpt_neox", "GPTNeoXForCausalLM", R"("rotary_pct": 1.0, "hidden_act": "gelu_new")");
}

TEST_CASE("OLMo and StableLM: biases, shared keys, clipping off, parallel blocks, a norm for each head") {
  check("olmo", "OlmoForCausalLM", R"("attention_bias": true, "num_key_value_heads": 1)");
  check("olmo", "OlmoForCausalLM", R"("clip_qkv": 0.4)");
  check("olmo2", "Olmo2ForCausalLM", R"("attention_bias": true, "num_key_value_heads": 1)");
  check("stablelm", "StableLmForCausalLM", R"("num_key_value_heads": 1, "use_parallel_residual": true,
        "qk_layernorm": true, "partial_rotary_factor": 0.67, "tie_word_embeddings": false)");
  check("stablelm", "StableLmForCausalLM", R"("num_key_value_heads": 2, "partial_rotary_factor": 1.0,
        "hidden_act": "gelu")");
}

TEST_CASE("GPT-2, GPT-Neo, OPT and Bloom: scales, inner width, activations, norms left out, other residuals") {
  check("gpt2", "GPT2LMHeadModel", R"("scale_attn_by_inverse_layer_idx": true, "n_inner": 10,
        "activation_function": "relu")");
  check("gpt2", "GPT2LMHeadModel", R"("scale_attn_weights": false, "tie_word_embeddings": false,
        "activation_function": "quick_gelu")");
  check("gpt2", "GPT2ForSequenceClassification", kThree);
  check("gpt_neo", "GPTNeoForCausalLM", R"("intermediate_size": 10, "activation_function": "silu")");
  check("opt", "OPTForCausalLM", R"("_remove_final_layer_norm": true, "enable_bias": false)");
  check("opt", "OPTForCausalLM", R"("layer_norm_elementwise_affine": false, "word_embed_proj_dim": 8,
        "activation_function": "gelu")");
  check("opt", "OPTForCausalLM", R"("do_layer_norm_before": false, "word_embed_proj_dim": 8)");
  check("bloom", "BloomForCausalLM", R"("apply_residual_connection_post_layernorm": true)");
}

TEST_CASE("OpenELM and RWKV: no gate, no qk norm, a head of its own, an attention width of its own") {
  check("openelm", "OpenELMForCausalLM", R"("ffn_with_glu": false, "normalize_qk_projections": false,
        "share_input_output_layers": false, "activation_fn_name": "gelu")");
  check("openelm", "OpenELMForCausalLM");
  check("rwkv", "RwkvForCausalLM", R"("attention_hidden_size": 20, "tie_word_embeddings": false)");
  check("rwkv", "RwkvForCausalLM");
}

TEST_CASE("RWKV 7: one head and several, one block alone, ranks that follow the width") {
  check("rwkv7", "RWKV7ForCausalLM");
  check("rwkv7", "RWKV7ForCausalLM", R"("num_hidden_layers": 1, "head_dim": 32)");
  check("rwkv7", "RWKV7ForCausalLM", R"("num_hidden_layers": 2, "decay_low_rank_dim": null, "head_dim": null,
        "num_heads": 2, "intermediate_size": null, "hidden_ratio": 1, "tie_word_embeddings": false)");
}

TEST_CASE("Decoders as classifiers read the last token of each row, in every family that has such a head") {
  const std::string shared = std::string(R"("num_key_value_heads": 1, )") + kThree;
  const std::pair<const char*, const char*> with_shared_keys[] = {
      {"mistral", "MistralForSequenceClassification"}, {"qwen2", "Qwen2ForSequenceClassification"},
      {"qwen3", "Qwen3ForSequenceClassification"},     {"gemma", "GemmaForSequenceClassification"},
      {"gemma2", "Gemma2ForSequenceClassification"},   {"phi3", "Phi3ForSequenceClassification"}};
  for (const auto& [type, architecture] : with_shared_keys) check(type, architecture, shared);
  const std::string whole = std::string(R"("partial_rotary_factor": 1.0, )") + kThree;
  check("phi", "PhiForSequenceClassification", whole);
  check("gpt_neox", "GPTNeoXForSequenceClassification", R"("rotary_pct": 1.0, )" + whole);
  check("stablelm", "StableLmForSequenceClassification", R"("num_key_value_heads": 2, )" + whole);
  check("gpt2", "GPT2ForSequenceClassification", kThree);
  check("gpt_neo", "GPTNeoForSequenceClassification", kThree);
  check("bloom", "BloomForSequenceClassification", kThree);
}

TEST_CASE("Encoders: activations, token types, layers in groups, with and without bottlenecks, both heads") {
  const std::string bert = R"("pad_token_id": 0, "layer_norm_eps": 1e-5)";
  check("bert", "BertForMaskedLM", bert + R"(, "hidden_act": "relu", "type_vocab_size": 2)");
  check("bert", "BertForSequenceClassification", bert + ", " + kThree);
  check("roberta", "RobertaForMaskedLM", R"("type_vocab_size": 1, "pad_token_id": 3, "hidden_act": "gelu_new")");
  check("roberta", "RobertaForSequenceClassification",
        R"("type_vocab_size": 1, "pad_token_id": 1, )" + std::string(kThree));
  check("distilbert", "DistilBertForSequenceClassification", R"("activation": "relu", )" + std::string(kThree));
  check("albert", "AlbertForMaskedLM", bert + R"(, "embedding_size": 8, "num_hidden_groups": 2, "inner_group_num": 2)");
  check("albert", "AlbertForSequenceClassification", bert + R"(, "embedding_size": 12, )" + kThree);
  const std::string mobile = bert + R"(, "embedding_size": 8, "intra_bottleneck_size": 6, )";
  check("mobilebert", "MobileBertForMaskedLM", mobile + R"("trigram_input": false, "normalization_type": "layer_norm",
        "num_feedforward_networks": 1)");
  check("mobilebert", "MobileBertForMaskedLM", mobile + R"("use_bottleneck_attention": true, "hidden_act": "gelu",
        "num_feedforward_networks": 3)");
  check("mobilebert", "MobileBertForSequenceClassification",
        mobile + R"("use_bottleneck": false,
        "classifier_activation": false, "num_feedforward_networks": 2, )" +
            kThree);
}

TEST_CASE("Encoder-decoders: gated and not, untied, unequal depths and heads, scaled embeddings") {
  check("t5", "T5ForConditionalGeneration", R"("feed_forward_proj": "gated-silu", "tie_word_embeddings": false,
        "num_decoder_layers": 1)");
  check("t5", "T5ForConditionalGeneration", R"("feed_forward_proj": "gelu", "num_decoder_layers": 3)");
  check("bart", "BartForConditionalGeneration", R"("scale_embedding": true, "activation_function": "relu")");
}

TEST_CASE("Fields that we do not compute are refused by their names, family by family") {
  const std::tuple<const char*, const char*, const char*, const char*> refused[] = {
      {"phi3", "Phi3ForCausalLM", R"("rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1]})",
       "short_factor"},
      {"phi3", "Phi3ForCausalLM", R"("rope_scaling": {"rope_type": "ntk", "factor": 2.0})", "ntk"},
      {"phi", "PhiForCausalLM", R"("partial_rotary_factor": 0.5, "rope_parameters": {"partial_rotary_factor": 1.0})",
       "rope_parameters.partial_rotary_factor"},
      {"gpt_neox", "GPTNeoXForCausalLM", R"("rotary_pct": 0.5, "partial_rotary_factor": 0.25)",
       "partial_rotary_factor"},
      {"gpt2", "GPT2LMHeadModel", R"("add_cross_attention": true)", "add_cross_attention"},
      {"gpt2", "GPT2DoubleHeadsModel", "", "GPT2DoubleHeadsModel"},
      {"gpt2", "GPT2LMHeadModel", R"("activation_function": "mish")", "mish"},
      {"gpt_neo", "GPTNeoForCausalLM", R"("attention_types": [[["local"], 1]])", "attention_types"},
      {"gpt_neo", "GPTNeoForCausalLM", R"("attention_types": [[["diagonal"], 2]])", "attention_types"},
      {"bloom", "BloomForCausalLM", R"("n_inner": 100)", "n_inner"},
      {"openelm", "OpenELMForCausalLM", R"("normalization_layer_name": "layer_norm")", "normalization_layer_name"},
      {"openelm", "OpenELMForCausalLM", R"("num_query_heads": [2])", "num_query_heads"},
      {"bert", "BertForMaskedLM", R"("position_embedding_type": "relative_key")", "position_embedding_type"},
      {"bert", "BertForMaskedLM", R"("is_decoder": true)", "is_decoder"},
      {"bert", "BertForMaskedLM", R"("tie_word_embeddings": false)", "tie_word_embeddings"},
      {"bert", "BertModel", "", "BertModel"},
      {"bert", "BertForSequenceClassification", R"("problem_type": "regression")", "problem_type"},
      {"bert", "BertForSequenceClassification", R"("num_labels": 1)", "classes"},
      {"mobilebert", "MobileBertForMaskedLM", R"("normalization_type": "batch_norm")", "normalization_type"},
      {"t5", "T5ForConditionalGeneration", R"("feed_forward_proj": "gated-mish")", "mish"},
      {"t5", "T5ForConditionalGeneration", R"("is_gated_act": true)", "is_gated_act"},
      {"t5", "T5ForConditionalGeneration", R"("relative_attention_num_buckets": 2)", "relative_attention_num_buckets"},
      {"bart", "BartForConditionalGeneration", R"("normalize_before": true)", "normalize_before"},
      {"bart", "BartForConditionalGeneration", R"("decoder_attention_heads": 5)", "heads"},
      {"phi", "PhiForCausalLM", R"("partial_rotary_factor": 1e300)", "partial_rotary_factor"},
      {"gpt_neox", "GPTNeoXForCausalLM", R"("rotary_pct": -1.0, "partial_rotary_factor": -1.0)", "rotary_pct"},
      {"stablelm", "StableLmForCausalLM",
       R"("qk_layernorm": true, "num_hidden_layers": 1024, "num_attention_heads": 128, "hidden_size": 1024)",
       "norms of heads"},
      {"mobilebert", "MobileBertForMaskedLM", R"("pad_token_id": 19)", "pad_token_id"},
      {"openelm", "OpenELMForCausalLM", R"("ffn_multipliers": [1e300, 1.0])", "ffn_multipliers"},
      {"rwkv", "RwkvForCausalLM", R"("head_size": 64)", "head_size"},
      {"rwkv7", "RWKV7ForCausalLM", R"("head_dim": 8)", "head_dim"},
      {"rwkv7", "RWKV7ForCausalLM", R"("norm_first": false)", "norm_first"},
      {"rwkv7", "RWKV7ForCausalLM", R"("hidden_act": "relu")", "hidden_act"},
      {"rwkv7", "RWKV7ForCausalLM", R"("attn": {"layers": [1]})", "attn"},
      {"rwkv7", "RWKV7ForCausalLM", R"("value_dim": [64, 64, 64])", "value_dim"},
      {"rwkv7", "RWKV7ForCausalLM", R"("num_heads": 3)", "num_heads"},
      {"gemma2", "Gemma2ForCausalLM", R"("layer_types": ["full_attention", "full_attention"])", "layer_types"},
  };
  for (const auto& [type, architecture, more, name] : refused) {
    CAPTURE(type);
    CAPTURE(more);
    const auto config = config_from_hf(config_text(type, architecture, more), "config.json");
    REQUIRE_FALSE(config.ok());
    CHECK(config.error().message.find(name) != std::string::npos);
  }
}

}  // namespace covey::model

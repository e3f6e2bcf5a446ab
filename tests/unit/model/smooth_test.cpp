// SmoothQuant's folding and outlier columns, on a model whose activations have planted outlier channels.
#include "core/model/smooth.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "core/base/file.h"
#include "core/model/compressed_tensors.h"
#include "tests/unit/model/tiny_families.h"

namespace covey::model {
namespace {

constexpr int kLoud[] = {3, 17, 40};  // channels
constexpr float kLoudness = 60;

ModelConfig wide_config() {
  ModelConfig c = tiny::config();
  c.vocab_size = 61;
  c.hidden_size = 64;
  c.intermediate_size = 96;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 16;
  c.tied_head = false;
  return c;
}

bool follows(const std::string& name, const std::string& norm, const std::string& layers) {
  const bool attention = norm == "input_layernorm" && layers == "self_attn" && name.find("o_proj") == std::string::npos;
  const bool mlp = norm == "post_attention_layernorm" && layers == "mlp" && name.find("down_proj") == std::string::npos;
  return (attention || mlp) && name.find(layers) != std::string::npos;
}

/// Every norm's result times `factors`, the columns that read it divided by them: the same function.
void turn(Model& model, const std::function<float(const std::string& norm, std::size_t channel)>& factor) {
  for (auto& tensor : model.parameters()) {
    for (const std::string norm : {"input_layernorm", "post_attention_layernorm"}) {
      const std::string layers = norm == "input_layernorm" ? "self_attn" : "mlp";
      const std::string place = tensor.name.substr(0, 15) + norm;  // "model.layers.0." and so on
      const std::size_t in = tensor.shape.size() == 2 ? static_cast<std::size_t>(tensor.shape[1]) : 1;
      for (std::size_t i = 0; i < tensor.values.size(); ++i) {
        if (tensor.name == place + ".weight") tensor.values[i] *= factor(place, i);
        if (follows(tensor.name, norm, layers)) tensor.values[i] /= factor(place, i % in);
      }
    }
  }
}

/// Random, with channels of the blocks' norms that are far louder than the others.
std::shared_ptr<Model> with_loud_channels() {
  auto model = tiny::model(wide_config(), 4);
  turn(*model, [](const std::string&, std::size_t channel) {
    return std::ranges::find(kLoud, static_cast<int>(channel)) == std::end(kLoud) ? 1.0F : kLoudness;
  });
  return model;
}

std::vector<float> logits_of(const Model& model, const TokenBatch& batch, InputPeaks* peaks = nullptr) {
  ThreadPool pool(2);
  const auto engine = tiny::engine(model, pool, {.batch_max = batch.B, .seq_max = batch.T});
  engine->record_inputs(peaks);
  std::vector<float> out(static_cast<std::size_t>(batch.B * batch.T * model.config().vocab_size));
  REQUIRE_OK(engine->logits(batch, {}, {}, out));
  return out;
}

/// Root of the mean square of the difference, as a share of the exact values'.
double error_of(const std::vector<float>& exact, const std::vector<float>& other) {
  double sum = 0;
  double whole = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    sum += std::pow(static_cast<double>(exact[i]) - static_cast<double>(other[i]), 2);
    whole += std::pow(static_cast<double>(exact[i]), 2);
  }
  return std::sqrt(sum / whole);
}

/// How far off W8A8 is once `prepare` was done to the model.
double int8_error(const std::function<void(Model&, InputPeaks&)>& prepare) {
  const auto words = tiny::batch(3, 20, wide_config().vocab_size);
  const auto model = with_loud_channels();
  InputPeaks peaks;
  const auto exact = logits_of(*model, words.view(), &peaks);
  prepare(*model, peaks);
  REQUIRE_OK(model->use_int8());
  return error_of(exact, logits_of(*model, words.view()));
}

void smooth_half(Model& model, InputPeaks& peaks) {
  REQUIRE_OK(model.smooth(peaks, 0.5));
}

}  // namespace

TEST_CASE("Smoothing, and outlier columns, each take most of the error that loud channels give W8A8") {
  const double plain = int8_error([](Model&, InputPeaks&) {});
  const double smoothed = int8_error(smooth_half);
  const double kept = int8_error([](Model& model, InputPeaks& peaks) { REQUIRE_OK(model.keep_outliers(peaks, 3)); });
  const double both = int8_error([](Model& model, InputPeaks& peaks) {
    smooth_half(model, peaks);
    REQUIRE_OK(model.keep_outliers(peaks, 3));
  });
  MESSAGE("error of the logits: w8a8 " << plain << ", smoothed " << smoothed << ", three columns in f32 " << kept
                                       << ", both " << both);
  CHECK(plain > 0.1);
  CHECK(smoothed < 0.4 * plain);
  CHECK(kept < 0.4 * plain);
  CHECK(both < 0.4 * plain);
  // The control: the same factors the wrong way round make loud channels louder, and W8A8 no better.
  const double inverted = int8_error([](Model& model, InputPeaks& peaks) {
    std::vector<float> before;
    for (const auto& t : model.parameters()) {
      if (t.name.ends_with("layernorm.weight")) before.insert(before.end(), t.values.begin(), t.values.end());
    }
    smooth_half(model, peaks);
    std::map<std::string, std::vector<float>> factors;  // that were divided by
    auto at = before.begin();
    for (const auto& t : model.parameters()) {
      if (!t.name.ends_with("layernorm.weight")) continue;
      auto& list = factors[t.name.substr(0, t.name.rfind('.'))];
      for (const float value : t.values) list.push_back(*at++ / value);
    }
    turn(model,
         [&](const std::string& norm, std::size_t channel) { return std::pow(factors.at(norm)[channel], 2.0F); });
  });
  MESSAGE("inverted " << inverted);
  CHECK(inverted > 0.9 * plain);
}

TEST_CASE("Smoothing divides each norm by SmoothQuant's formula, and says which layers it left") {
  const auto words = tiny::batch(3, 20, wide_config().vocab_size);
  const auto model = with_loud_channels();
  const auto untouched = with_loud_channels();
  InputPeaks peaks;
  logits_of(*model, words.view(), &peaks);
  const InputPeaks before = peaks;
  const auto report = model->smooth(peaks, 0.7);
  REQUIRE_OK(report);
  CHECK(report->norms.size() == 4);
  CHECK(report->layers.size() == 10);
  REQUIRE(report->left.size() == 4);
  CHECK(report->left[0] == "model.layers.0.self_attn.o_proj (no norm stands before it)");
  CHECK(report->left[1] == "model.layers.0.mlp.down_proj (no norm stands before it)");
  const auto tensor = [](Model& of, const std::string& name) {
    for (const auto& t : of.parameters()) {
      if (t.name == name) return t.values;
    }
    return std::span<float>();
  };
  const std::string block = "model.layers.1.";
  const auto norm = tensor(*model, block + "post_attention_layernorm.weight");
  const auto old = tensor(*untouched, block + "post_attention_layernorm.weight");
  const auto gate = tensor(*untouched, block + "mlp.gate_proj.weight");
  const auto up = tensor(*untouched, block + "mlp.up_proj.weight");
  const auto& sites = model->linear_sites();
  const auto of_gate =
      static_cast<std::size_t>(std::ranges::find(sites, block + "mlp.gate_proj", &LinearSite::path) - sites.begin());
  for (std::size_t j = 0; j < norm.size(); ++j) {
    double w = 0;
    for (std::size_t n = 0; n < gate.size() / 64; ++n) {
      w = std::max({w, std::abs(static_cast<double>(gate[n * 64 + j])), std::abs(static_cast<double>(up[n * 64 + j]))});
    }
    const double s = std::pow(static_cast<double>(before.of_layer[of_gate][j]), 0.7) / std::pow(w, 0.3);
    CHECK(static_cast<double>(norm[j]) == doctest::Approx(static_cast<double>(old[j]) / s).epsilon(1e-5));
    // What the layer will see now.
    CHECK(static_cast<double>(peaks.of_layer[of_gate][j]) ==
          doctest::Approx(static_cast<double>(before.of_layer[of_gate][j]) / s).epsilon(1e-5));
  }
}

TEST_CASE("Folding changes no family's loss but by rounding, and never folds what something else reads") {
  struct Case {
    const char *type, *architecture, *more;
    int norms;
  };
  const Case cases[] = {
      {"llama", "LlamaForCausalLM", "", 4},
      {"qwen2", "Qwen2ForCausalLM", R"("num_key_value_heads": 1)", 4},
      {"gemma", "GemmaForCausalLM",
       R"("head_dim": 6, "num_key_value_heads": 1, "hidden_activation": "gelu_pytorch_tanh")", 4},
      {"phi", "PhiForCausalLM", R"("partial_rotary_factor": 0.34)", 2},
      {"gpt_neox", "GPTNeoXForCausalLM", R"("rotary_pct": 0.34)", 4},
      {"gpt2", "GPT2LMHeadModel", "", 4},
      {"opt", "OPTForCausalLM", R"("word_embed_proj_dim": 12)", 4},
      {"bloom", "BloomForCausalLM", "", 4},
      {"olmo", "OlmoForCausalLM", "", 0},    // its norms have no weights
      {"olmo2", "Olmo2ForCausalLM", "", 0},  // norms stand behind the layers
      {"bert", "BertForMaskedLM", "", 0},    // the residual reads the norms, too
      {"albert", "AlbertForMaskedLM", R"("embedding_size": 6)",
       1},                                           // before the projection from 6 to 12; layers share the rest
      {"t5", "T5ForConditionalGeneration", "", 10},  // also before each cross-attention's q
      {"rwkv", "RwkvForCausalLM", "", 0},            // the token shift reads the norms
  };
  for (const Case& c : cases) {
    const std::string type = c.type;
    CAPTURE(type);
    const auto model = tiny::random_model(tiny::config_text(c.type, c.architecture, c.more));
    for (auto& tensor : model->parameters()) {  // away from one, so that a factor that is left out shows
      if (tensor.shape.size() == 1) {
        for (std::size_t i = 0; i < tensor.values.size(); ++i) tensor.values[i] *= i % 3 == 0 ? 5.0F : 0.8F;
      }
    }
    const auto tokens = tiny::tokens_for(model->config());
    ThreadPool pool(1);
    InputPeaks peaks;
    const auto loss = [&] {
      const auto engine = tiny::engine(*model, pool, tiny::options_for(model->config(), false));
      engine->record_inputs(&peaks);
      const auto result = engine->loss(tokens.batch, {}, {});
      REQUIRE_OK(result);
      return result->mean();
    };
    const double before = loss();
    InputPeaks old = peaks;
    const auto report = model->smooth(old, 0.5);
    REQUIRE_OK(report);
    CHECK(static_cast<int>(report->norms.size()) == c.norms);
    CHECK(loss() == doctest::Approx(before).epsilon(1e-5));
  }
}

TEST_CASE("Outlier columns come back from disk with the same bits, and a reader without them sees whole weights") {
  const auto words = tiny::batch(3, 20, wide_config().vocab_size);
  const auto model = with_loud_channels();
  InputPeaks peaks;
  logits_of(*model, words.view(), &peaks);
  REQUIRE_OK(model->keep_outliers(peaks, 3));
  REQUIRE_OK(model->use_int8());
  const test::TempDir dir;
  REQUIRE_OK(model->save_int8(dir.path()));
  const auto expected = logits_of(*model, words.view());
  const auto again = Model::load(dir.path());
  REQUIRE_OK(again);
  CHECK(logits_of(**again, words.view()) == expected);
  CHECK((*again)->weight_bytes() < model->weight_bytes());
  REQUIRE_OK((*again)->save(dir.file("n")));
  for (const std::string file : {"model.safetensors", "outliers.covey", "config.json"}) {
    CHECK(read_file(dir.file("n/" + file)).value() == read_file(dir.file(file)).value());
  }
  // Widened, the columns are exact.
  const auto f32 = with_loud_channels();
  const auto writable = Model::load(dir.path(), {.writable = true});
  REQUIRE_OK(writable);
  const auto name = std::string("model.layers.0.mlp.up_proj.weight");
  const auto wide = (*writable)->parameters();
  const auto exact = f32->parameters();
  for (std::size_t p = 0; p < wide.size(); ++p) {
    if (wide[p].name != name) continue;
    for (std::size_t i = 0; i < wide[p].values.size(); ++i) {
      const bool kept = std::ranges::find(kLoud, static_cast<int>(i % 64)) != std::end(kLoud);
      if (kept) CHECK(wide[p].values[i] == exact[p].values[i]);
    }
  }
  // As a reader of compressed-tensors takes it: nothing but model.safetensors.
  const auto plain = with_loud_channels();
  REQUIRE_OK(plain->use_int8());
  auto config = formats::Json::load(dir.file("config.json"));
  REQUIRE_OK(config);
  config->set("covey_outlier_columns", nullptr);
  REQUIRE_OK(write_file_durably(dir.file("config.json"), config->dump_pretty()));
  const auto other = Model::load(dir.path());
  REQUIRE_OK(other);
  CHECK(logits_of(**other, words.view()) == logits_of(*plain, words.view()));
}

TEST_CASE("LoRA's gradient beside outlier columns stays that of f32, and the columns' own input gets one") {
  const auto words = tiny::batch(3, 20, wide_config().vocab_size);
  const auto model = with_loud_channels();
  const auto gradient = [&] {
    auto adapter = tiny::lora(*model, tiny::all_sites(*model), 4, 1.0F);
    for (auto& b : adapter.b) {
      for (float& value : b) value *= 0.03F;
    }
    auto to = adapter.zeros();
    ThreadPool pool(2);
    const auto engine = tiny::engine(*model, pool, tiny::training());
    REQUIRE_OK(engine->gradient(words.view(), adapter.spec, adapter.view(), to.gradient_view()));
    std::vector<float> all;
    for (const auto* list : {&to.a, &to.b}) {
      for (const auto& values : *list) all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  };
  const auto exact = gradient();
  InputPeaks peaks;
  logits_of(*model, words.view(), &peaks);
  REQUIRE_OK(model->keep_outliers(peaks, 3));
  REQUIRE_OK(model->use_int8());
  CHECK(error_of(exact, gradient()) < 0.2);  // a cosine of 0.98 and more
}

TEST_CASE("Smoothing and outlier columns refuse what they cannot do") {
  const auto model = with_loud_channels();
  InputPeaks peaks;
  CHECK(model->smooth(peaks, 0.5).error().code == ErrorCode::invalid_argument);
  logits_of(*model, tiny::batch(3, 20, wide_config().vocab_size).view(), &peaks);
  for (const double alpha : {-0.1, 1.1, std::nan("")}) CHECK_FALSE(model->smooth(peaks, alpha).ok());
  CHECK_FALSE(model->keep_outliers(peaks, 0).ok());
  const auto many = model->keep_outliers(peaks, 64);
  REQUIRE_FALSE(many.ok());
  CHECK(many.error().message.find("self_attn.q_proj, which has 64; keep fewer") != std::string::npos);
  REQUIRE_OK(model->use_int8());
  CHECK_FALSE(model->smooth(peaks, 0.5).ok());
  CHECK_FALSE(model->keep_outliers(peaks, 3).ok());
}

}  // namespace covey::model

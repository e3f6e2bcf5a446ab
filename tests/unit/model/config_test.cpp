#include "core/model/config.h"

#include <cmath>

#include "tests/support/support.h"
#include "tests/unit/model/tiny.h"

namespace covey::model {
namespace {

std::string llama(const std::string& more) {
  return R"({"model_type": "llama", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
             "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64)" +
         (more.empty() ? "" : ", " + more) + "}";
}

}  // namespace

TEST_CASE("A configuration that changes what is computed is honoured or refused by its name") {
  CHECK(config_from_hf(llama(""), "config.json").ok());
  for (const char* harmless : {R"("use_cache": true)", R"("quantization_config": null)", R"("logit_scale": 0)",
                               R"("_name_or_path": "x")", R"("pretraining_tp": 4)", R"("eos_token_id": [1, 2])"}) {
    CAPTURE(harmless);
    REQUIRE_OK(config_from_hf(llama(harmless), "config.json"));
  }
  const std::pair<const char*, const char*> refused[] = {
      {R"("hidden_act": "gelu")", "hidden_act"},
      {R"("attention_dropout": 0.1)", "attention_dropout"},
      {R"("partial_rotary_factor": 0.5)", "partial_rotary_factor"},
      {R"("rope_scaling": {"rope_type": "ntk", "factor": 4.0})", "ntk"},
      {R"("rope_scaling": {"rope_type": "yarn", "factor": 4.0, "gamma": 1})", "gamma"},
      {R"("rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64})", "factor"},
      {R"("rope_scaling": {"rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 32})",
       "original"},
      {R"("rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_parameters": {"rope_type": "default"})",
       "rope_parameters"},
      {R"("rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6})", "rope_theta"},
      {R"("rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5})", "partial_rotary_factor"},
      {R"("rope_parameters": {"full_attention": {"rope_type": "default"}})", "full_attention"},
      {R"("rope_interleaved": true)", "rope_interleaved"},
      {R"("layer_types": ["full_attention", "full_attention"])", "layer_types"},
      {R"("rope_scaling": {"rope_type": "linear", "factor": 4.0, "attention_factor": 2.0})", "attention_factor"},
      {R"("quantization_config": {"bits": 4})", "quantization_config"},
      {R"("attn_logit_softcapping": 50.0)", "attn_logit_softcapping"},
      {R"("sliding_window": 8)", "sliding_window"},  // not a llama's
  };
  for (const auto& [field, name] : refused) {
    CAPTURE(field);
    const auto config = config_from_hf(llama(field), "config.json");
    REQUIRE_FALSE(config.ok());
    CHECK(config.error().code == ErrorCode::unsupported);
    CHECK(config.error().message.find(name) != std::string::npos);
  }
  const auto family = config_from_hf(R"({"model_type": "gpt9"})", "config.json");
  REQUIRE_FALSE(family.ok());
  CHECK(family.error().message.find("gpt9") != std::string::npos);
}

TEST_CASE("Impossible sizes are refused") {
  for (const char* field :
       {R"("num_key_value_heads": 3)", R"("head_dim": 7)", R"("rms_norm_eps": -1)", R"("rope_theta": 0)",
        R"("num_key_value_heads": 0)", R"("head_dim": 1e9)", R"("rope_scaling": {"rope_type": "linear", "factor": 0})",
        R"("rope_scaling": 4)", R"("rope_scaling": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 1})",
        R"("rope_scaling": {"rope_type": "yarn", "factor": 2.0, "attention_factor": -1})",
        R"("rope_scaling": {"rope_type": "yarn"})", R"("rope_parameters": [1])"}) {
    CAPTURE(field);
    CHECK_FALSE(config_from_hf(llama(field), "config.json").ok());
  }
  CHECK_FALSE(config_from_hf("[]", "config.json").ok());
  CHECK_FALSE(config_from_hf(R"({"model_type": "llama"})", "config.json").ok());
  auto config = tiny::config();
  config.vocab_size = 0;
  CHECK_FALSE(check_config(config).ok());
  CHECK_FALSE(Model::create(config, 1).ok());
}

TEST_CASE("Every configuration we can compute survives its config.json") {
  auto llama3 = tiny::config();
  llama3.rope = {.theta = 500000, .scaling = RopeScaling::llama3, .factor = 8, .original_context = 32};
  llama3.eos_ids = {5, 6};
  llama3.bos_id = 1;
  llama3.qkv_bias = llama3.o_bias = true;
  auto mistral = tiny::config();
  mistral.family = "mistral";
  mistral.window.assign(2, 8);
  auto qwen = tiny::config();
  qwen.family = "qwen2";
  qwen.qkv_bias = true;
  qwen.window = {0, 4};
  qwen.rope.scaling = RopeScaling::linear;
  qwen.rope.factor = 2;
  auto yarn = tiny::config();
  yarn.rope = {.scaling = RopeScaling::yarn, .factor = 4, .original_context = 16, .attention_factor = 1.25};
  yarn.rope.beta_fast = 20;
  yarn.rope.truncate = false;
  auto dynamic = tiny::config();
  dynamic.rope.scaling = RopeScaling::dynamic;
  dynamic.rope.factor = 3;
  auto longrope = tiny::config();
  longrope.rope = {.scaling = RopeScaling::longrope, .original_context = 32};
  longrope.rope.short_factor = {1, 2, 3};
  longrope.rope.long_factor = {4, 5, 6};
  for (const auto& config : {tiny::config(), llama3, mistral, qwen, yarn, dynamic, longrope}) {
    CAPTURE(config.family);
    const std::string text = config_to_hf(config);
    const auto back = config_from_hf(text, "config.json");
    REQUIRE_OK(back);
    CHECK(config_to_hf(back.value()) == text);
    CHECK(back.value().window == config.window);
    CHECK(back.value().qkv_bias == config.qkv_bias);
    CHECK(back.value().eos_ids == config.eos_ids);
    CHECK(back.value().rope.scaling == config.rope.scaling);
    CHECK(rope_angles(back.value(), 5, true) == rope_angles(config, 5, true));
    CHECK(back.value().rope.attention_factor == config.rope.attention_factor);
  }
  qwen.window = {4, 0};  // its config.json cannot say this
  CHECK_FALSE(check_config(qwen).ok());
}

TEST_CASE("Scaled rotary positions: linear divides every angle, llama3 only the long waves") {
  auto config = tiny::config();
  config.head_dim = 16;
  const auto plain = rope_angles(config, 3);
  CHECK(plain[8 + 1] == doctest::Approx(std::pow(10000.0, -2.0 / 16)));
  config.rope.scaling = RopeScaling::linear;
  config.rope.factor = 4;
  const auto linear = rope_angles(config, 3);
  config.rope = {.scaling = RopeScaling::llama3, .factor = 4, .original_context = 64};
  const auto llama3 = rope_angles(config, 3);
  for (std::size_t i = 0; i < plain.size(); ++i) CHECK(linear[i] == doctest::Approx(plain[i] / 4));
  CHECK(llama3[8] == plain[8]);                               // a wave of 6 positions: kept
  CHECK(llama3[8 + 7] == doctest::Approx(plain[8 + 7] / 4));  // one of 20000: stretched
}

TEST_CASE("YaRN keeps short waves, stretches long ones and sharpens attention: numbers of a program of its own") {
  const auto read = [](const std::string& more) {
    std::string text = llama(R"("head_dim": 64, "rope_scaling": {"rope_type": "yarn",)" + more + "}");
    const std::string context = R"("max_position_embeddings": 64)";
    text.replace(text.find(context), context.size(), R"("max_position_embeddings": 8192)");
    const auto config = config_from_hf(text, "config.json");
    REQUIRE_OK(config);
    return config.value();
  };
  const auto check = [](const ModelConfig& config, const std::vector<std::pair<std::size_t, double>>& expected) {
    const auto angles = rope_angles(config, 2);
    for (const auto& [element, frequency] : expected) {
      CAPTURE(element);
      CHECK(static_cast<double>(angles[32 + element]) == doctest::Approx(frequency).epsilon(1e-6));
    }
  };
  const ModelConfig usual = read(R"("factor": 4, "original_max_position_embeddings": 2048)");
  check(usual, {{0, 1},
                {8, 0.1},
                {12, 0.0243252128},
                {16, 0.00538461538},
                {20, 0.000973008511},
                {24, 0.00025},
                {31, 3.33380358e-05}});
  CHECK(usual.rope.attention_factor == doctest::Approx(1.1386294361).epsilon(1e-9));
  const ModelConfig other = read(R"("original_max_position_embeddings": 2048, "beta_fast": 16, "beta_slow": 2,
      "truncate": false, "mscale": 1.0, "mscale_all_dim": 1.0)");
  check(other, {{0, 1},
                {8, 0.1},
                {12, 0.026607497},
                {16, 0.0042616192},
                {20, 0.000790569415},
                {24, 0.00025},
                {31, 3.33380358e-05}});
  CHECK(other.rope.attention_factor == 1);
  CHECK(read(R"("factor": 2, "attention_factor": 0.5)").rope.attention_factor == 0.5);
  CHECK(read(R"("factor": 2)").rope.original_context == 8192);
}

TEST_CASE("Newer files keep rotary settings in rope_parameters") {
  const auto config = config_from_hf(
      llama(R"("rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32})"),
      "config.json");
  REQUIRE_OK(config);
  CHECK(config.value().rope.theta == 5e5);
  CHECK(config.value().rope.scaling == RopeScaling::llama3);
  // Two ways to say the same are one.
  REQUIRE_OK(config_from_hf(llama(R"("rope_theta": 1e4, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
      "rope_scaling": {"rope_type": "default", "rope_theta": 1e4})"),
                            "config.json"));
  const auto dynamic = config_from_hf(llama(R"("rope_scaling": {"type": "dynamic", "factor": 2.0})"), "config.json");
  REQUIRE_OK(dynamic);
  const auto plain = config_from_hf(llama(""), "config.json");
  REQUIRE_OK(plain);
  CHECK(rope_angles(dynamic.value(), 64) == rope_angles(plain.value(), 64));  // up to max_position_embeddings
}

}  // namespace covey::model

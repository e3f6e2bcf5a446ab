#include "adapters/adapter.h"

#include <cmath>

#include "adapters/adapter_file.h"
#include "adapters/llama2c_writer.h"
#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/formats/json.h"
#include "core/model/engine.h"
#include "support/support.h"
#include "unit/adapters/tiny_config.h"

using namespace covey;
using namespace covey::adapters;

namespace {

std::shared_ptr<model::Model> tiny_model(std::uint64_t seed = 3) {
  auto model = model::Model::create(test::tiny_config(), seed);
  REQUIRE_OK(model);
  for (auto& tensor : (*model)->parameters()) {
    if (tensor.shape.size() < 2) continue;
    for (float& x : tensor.values) x *= 10;
  }
  return *model;
}

Adapter random_adapter(const model::Model& model, LoraOptions options = {}) {
  auto adapter = Adapter::create_lora(model, options, 5);
  REQUIRE_OK(adapter);
  CounterRng(8).fill_normal(adapter->values());
  for (float& x : adapter->values()) x *= 0.1F;
  return *adapter;
}

std::vector<float> logits_of(const model::Model& model, const Adapter& adapter) {
  ThreadPool pool(1);
  auto engine = model::Engine::create(model, {.batch_max = 1, .seq_max = 8}, pool);
  REQUIRE_OK(engine);
  const std::vector<std::int32_t> ids{1, 5, 9, 2, 7, 30, 11, 3};
  const std::vector<std::int32_t> targets(8, model::kNoTarget);
  std::vector<float> out(8 * static_cast<std::size_t>(model.config().vocab_size));
  REQUIRE_OK((*engine)->logits({.B = 1, .T = 8, .ids = ids, .targets = targets, .lengths = {}}, adapter.spec(),
                               adapter.view(), out));
  return out;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double out = 0;
  for (std::size_t i = 0; i < a.size(); ++i) out = std::max(out, std::abs(static_cast<double>(a[i]) - b[i]));
  return out;
}

std::vector<float> copy_of(std::span<const float> values) {
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("a new adapter changes nothing, and a trained one does") {
  const auto model = tiny_model();
  auto fresh = Adapter::create_lora(*model, {}, 5);
  REQUIRE_OK(fresh);
  CHECK(logits_of(*model, *fresh) == logits_of(*model, Adapter()));
  CHECK(largest_difference(logits_of(*model, random_adapter(*model)), logits_of(*model, Adapter())) > 0.05);
}

TEST_CASE("base plus adapter equals the merged model") {
  const auto model = tiny_model();
  LoraOptions options;
  options.target_modules = {"all-linear"};
  const Adapter adapter = random_adapter(*model, options);
  const auto beside = logits_of(*model, adapter);
  REQUIRE_OK(merge_into(*model, adapter));
  CHECK(largest_difference(beside, logits_of(*model, Adapter())) < 1e-4);  // float32 in another order
}

TEST_CASE("merging holds in families whose weights lie the other way or in one piece") {
  for (const char* family : {"gpt2", "gpt_neox", "bloom", "phi3", "llama"}) {
    const auto path = test::golden_path(family);
    if (!path) return;
    CAPTURE(family);
    const auto model = model::Model::load(*path, {.writable = true});
    REQUIRE_OK(model);
    LoraOptions options;
    options.target_modules = {"all-linear"};
    const Adapter adapter = random_adapter(**model, options);
    const auto beside = logits_of(**model, adapter);
    const auto before = logits_of(**model, Adapter());
    REQUIRE_OK(merge_into(**model, adapter));
    const auto merged = logits_of(**model, Adapter());
    double scale = 1;
    for (const float value : beside) scale = std::max(scale, std::abs(static_cast<double>(value)));
    CHECK(largest_difference(beside, merged) < 1e-4 * scale);  // float32 in another order
    CHECK(largest_difference(beside, before) > 1e-2);
  }
}

TEST_CASE("a PEFT directory gives every value back bit for bit") {
  const auto model = tiny_model();
  LoraOptions options;
  options.target_modules = {"q_proj", "layers.1.mlp.down_proj"};
  options.rank_pattern = {{"layers.0.self_attn.q_proj", 3}};
  options.alpha_pattern = {{"down_proj", 5.5}};
  const Adapter adapter = random_adapter(*model, options);
  const test::TempDir dir;
  REQUIRE_OK(save_peft(dir.file("a"), adapter, "some/model"));
  const auto again = load_peft(dir.file("a"), *model);
  REQUIRE_OK(again);
  CHECK(again->layout() == adapter.layout());
  CHECK(copy_of(again->values()) == copy_of(adapter.values()));
  REQUIRE_OK(save_peft(dir.file("b"), *again, "some/model"));
  for (const char* name : {"adapter_model.safetensors", "adapter_config.json"}) {
    const auto first = read_file(dir.file("a/") + name);
    const auto second = read_file(dir.file("b/") + name);
    REQUIRE_OK(first);
    REQUIRE_OK(second);
    CHECK(*first == *second);
  }
  // q_proj is adapted in every layer, down_proj in one only: PEFT must not attach the other.
  CHECK(adapter.target_modules() == std::vector<std::string>{"model.layers.1.mlp.down_proj", "q_proj"});
}

TEST_CASE("an adapter of another model is refused with its reason") {
  const auto model = tiny_model();
  const test::TempDir dir;
  REQUIRE_OK(save_peft(dir.file("a"), random_adapter(*model), "m"));
  model::ModelConfig config = test::tiny_config();
  config.layers = 1;
  const auto shallow = model::Model::create(config, 1);
  REQUIRE_OK(shallow);
  CHECK(load_peft(dir.file("a"), **shallow).error().message.find("model.layers.1.") != std::string::npos);
  config = test::tiny_config();
  config.hidden_size = 32;
  config.head_dim = 8;
  const auto wide = model::Model::create(config, 1);
  REQUIRE_OK(wide);
  CHECK(load_peft(dir.file("a"), **wide).error().message.find("in the model") != std::string::npos);
  CHECK(load_peft(dir.file("none"), *model).error().code == ErrorCode::not_found);
}

TEST_CASE("the flat file carries layout and values, and names what is wrong with another file") {
  const auto model = tiny_model();
  const Adapter adapter = random_adapter(*model);
  const test::TempDir dir;
  REQUIRE_OK(save_flat(dir.file("a"), adapter));
  const auto again = load_flat(dir.file("a"), *model);
  REQUIRE_OK(again);
  CHECK(again->layout() == adapter.layout());
  CHECK(copy_of(again->values()) == copy_of(adapter.values()));
  REQUIRE_OK(save_peft(dir.file("peft"), adapter, "m"));
  CHECK(load_flat(dir.file("peft/adapter_model.safetensors"), *model).error().message.find("covey.layout") !=
        std::string::npos);
}

TEST_CASE("the weighted mean of contributions is what the server recovers") {
  const auto model = tiny_model();
  const Adapter adapter = random_adapter(*model);
  const std::vector<float> a(adapter.values().size(), 1.0F), b(adapter.values().size(), -2.0F);
  const auto from_a = contribution(adapter.layout(), a);
  const auto from_b = contribution(adapter.layout(), b);
  std::vector<double> sum(a.size());
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = 3.0 * from_a[i] + 1.0 * from_b[i];
  for (const float x : recover(adapter.layout(), sum, 4)) CHECK(x == 0.25F);
  CHECK(delta_of(a, b) == std::vector<float>(a.size(), 3.0F));
}

TEST_CASE("a llama2.c file reads back to the same weights, and what it cannot hold is named") {
  const test::TempDir dir;
  for (const bool tied : {true, false}) {
    model::ModelConfig config = test::tiny_config();
    config.tied_head = tied;
    const auto model = model::Model::create(config, 4);
    REQUIRE_OK(model);
    REQUIRE_OK(write_llama2c(dir.file("m.bin"), **model));
    const auto again = model::Model::load(dir.file("m.bin"), {.writable = true});
    REQUIRE_OK(again);
    const auto before = (*model)->parameters();
    const auto after = (*again)->parameters();
    REQUIRE(before.size() == after.size());
    for (std::size_t i = 0; i < before.size(); ++i) {
      CHECK(before[i].name == after[i].name);
      CHECK(copy_of(before[i].values) == copy_of(after[i].values));
    }
  }
  model::ModelConfig config = test::tiny_config();
  config.rope.theta = 500000;
  const auto model = model::Model::create(config, 4);
  REQUIRE_OK(model);
  const Status refused = write_llama2c(dir.file("n.bin"), **model);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == ErrorCode::unsupported);
  CHECK(refused.error().message.find("RoPE base") != std::string::npos);
}

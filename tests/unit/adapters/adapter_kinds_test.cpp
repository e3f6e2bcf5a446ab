// Every kind of adapter beside LoRA: fresh values, layouts, files, merging, training.
#include <cmath>
#include <filesystem>

#include "adapters/adapter_file.h"
#include "adapters/gguf_adapter.h"
#include "core/base/clock.h"
#include "core/base/rng.h"
#include "core/formats/peft.h"
#include "core/model/engine.h"
#include "core/train/evaluate.h"
#include "core/train/local_trainer.h"
#include "support/support.h"

namespace covey::adapters {
namespace {

const std::vector<AdapterType> kTypes = {AdapterType::ia3, AdapterType::bias, AdapterType::prefix, AdapterType::prompt,
                                         AdapterType::bottleneck};

AdapterOptions kind_options(AdapterType type) {
  AdapterOptions options;
  options.type = type;
  options.tokens = 3;
  options.width = 4;
  options.activation = kernels::Activation::gelu;
  return options;
}

std::shared_ptr<model::Model> golden_model(const std::string& family, bool writable = false) {
  const auto path = test::golden_path(family);
  if (!path) return nullptr;
  auto model = model::Model::load(*path, {.writable = writable});
  REQUIRE_OK(model);
  return *model;
}

/// Values moved from where a fresh adapter has them.
Adapter moved_adapter(const model::Model& model, const AdapterOptions& options) {
  auto adapter = Adapter::create_fresh(model, options, 5);
  REQUIRE_OK(adapter);
  Rng random(9);
  for (float& value : adapter->values()) value += static_cast<float>(0.2 * random.normal());
  return *adapter;
}

std::vector<float> kind_logits(const model::Model& model, const Adapter& adapter) {
  ThreadPool pool(1);
  const int virtual_tokens = adapter.spec().virtual_tokens();
  const auto engine = model::Engine::create(model, {.seq_max = 6, .prompt_tokens_max = virtual_tokens}, pool);
  REQUIRE_OK(engine);
  const std::vector<std::int32_t> ids{4, 5, 9, 7, 11, 6};
  const bool one = model.config().task == model::Task::classification;
  const int rows = one ? 1 : 6 + adapter.spec().prompt_tokens;
  std::vector<float> out(static_cast<std::size_t>(rows * model.config().outputs()));
  const model::TokenBatch batch{.B = 1, .T = 6, .ids = ids, .targets = {}, .lengths = {}};
  REQUIRE_OK((*engine)->logits(batch, adapter.spec(), adapter.view(), out));
  return out;
}

std::vector<float> values_in(const Adapter& adapter) {
  return {adapter.values().begin(), adapter.values().end()};
}

}  // namespace

TEST_CASE("every kind of adapter has a layout that reads back, and binds to its model alone") {
  for (const std::string family : {"gpt2", "bert", "t5"}) {
    const auto model = golden_model(family);
    if (model == nullptr) return;
    for (const AdapterType type : kTypes) {
      if (type == AdapterType::prompt && model->config().task != model::Task::causal_lm) continue;
      if (type == AdapterType::bias && family == "t5") continue;  // T5 has no bias
      CAPTURE(family);
      CAPTURE(static_cast<int>(type));
      const auto layout = adapter_layout(*model, kind_options(type));
      REQUIRE_OK(layout);
      const auto again = AdapterLayout::parse(layout->canonical());
      REQUIRE_OK(again);
      CHECK(*again == *layout);
      CHECK(again->size == layout->size);
      REQUIRE_OK(again->bind(*model));
      if (type == AdapterType::prompt) continue;  // it is at home wherever embeddings are as wide
      const auto other = golden_model("opt");
      REQUIRE(other != nullptr);
      CHECK_FALSE(again->bind(*other).ok());
    }
  }
}

TEST_CASE("a layout's lines are refused where they are none") {
  const std::string head = "covey-adapter 1\n";
  CHECK(AdapterLayout::parse(head + "scale_out a.b 4\nbias c.bias 3\nprefix a 4 2\nbottleneck a.b 4 2 relu\n").ok());
  CHECK(AdapterLayout::parse(head + "prompt 3 8\n").ok());
  for (const char* bad :
       {"scale_out a.b\n", "scale_out a.b 0\n", "scale_out a.b 4 4\n", "prefix a 4\n", "prefix a 4 0\n",
        "bottleneck a.b 4 2\n", "bottleneck a.b 4 2 exp\n", "bias a/b 3\n", "prompt 0 8\n", "prompt 3 8\nprompt 3 8\n",
        "scale_in a 4\nscale_in a 4\n", "bias c 3\nprompt 3 8\n", ""}) {
    CAPTURE(bad);
    const auto parsed = AdapterLayout::parse(head + bad);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.error().code == ErrorCode::corrupt_data);
  }
}

TEST_CASE("fresh (IA)3 and bias adapters change nothing, fresh bottlenecks hardly anything") {
  for (const std::string family : {"gpt2", "bert", "gpt_neox", "opt"}) {
    const auto model = golden_model(family);
    if (model == nullptr) return;
    CAPTURE(family);
    const auto base = kind_logits(*model, Adapter());
    for (const AdapterType type : {AdapterType::ia3, AdapterType::bias, AdapterType::bottleneck}) {
      CAPTURE(static_cast<int>(type));
      for (const bool after : {false, true}) {
        AdapterOptions options = kind_options(type);
        options.after_block = after;
        const auto fresh = Adapter::create_fresh(*model, options, 5);
        REQUIRE_OK(fresh);
        const auto logits = kind_logits(*model, *fresh);
        float worst = 0;
        for (std::size_t i = 0; i < base.size(); ++i) worst = std::max(worst, std::abs(base[i] - logits[i]));
        CHECK(worst <= (type == AdapterType::bottleneck ? 0.05F : 0.0F));
        CHECK(kind_logits(*model, moved_adapter(*model, options)) != base);
      }
    }
  }
}

TEST_CASE("a model with merged (IA)3 or biases equals the one with the adapter beside it") {
  for (const std::string family : {"gpt2", "bert", "gpt_neox", "phi", "llama", "albert_mlm", "rwkv"}) {
    for (const AdapterType type : {AdapterType::ia3, AdapterType::bias}) {
      const auto model = golden_model(family, true);
      if (model == nullptr) return;
      if (type == AdapterType::bias && family == "llama") continue;
      CAPTURE(family);
      CAPTURE(static_cast<int>(type));
      const Adapter adapter = moved_adapter(*model, kind_options(type));
      const auto beside = kind_logits(*model, adapter);
      REQUIRE_OK(merge_into(*model, adapter));
      const auto merged = kind_logits(*model, Adapter());
      float worst = 0;
      float size = 1;
      for (std::size_t i = 0; i < merged.size(); ++i) {
        worst = std::max(worst, std::abs(merged[i] - beside[i]));
        size = std::max(size, std::abs(beside[i]));
      }
      // A bias is the same sum; a scaled matrix rounds elsewhere.
      CHECK(worst <= (type == AdapterType::bias ? 0.0F : 1e-4F * size));
    }
  }
}

TEST_CASE("what is no change of weights is not merged, and the message says what it is") {
  const auto model = golden_model("gpt2", true);
  if (model == nullptr) return;
  const auto message = [&](AdapterType type) {
    return merge_into(*model, moved_adapter(*model, kind_options(type))).error().message;
  };
  CHECK(message(AdapterType::prefix).find("a key/value prefix is no change of weights") != std::string::npos);
  CHECK(message(AdapterType::bottleneck).find("a bottleneck is no change of weights") != std::string::npos);
  CHECK(message(AdapterType::prompt).find("a soft prompt is no change of weights") != std::string::npos);
}

TEST_CASE("every kind of adapter survives its file bit for bit, in PEFT's form where PEFT has one") {
  for (const std::string family : {"gpt2", "mistral", "bert", "gpt_neox"}) {
    const auto model = golden_model(family);
    if (model == nullptr) return;
    for (const AdapterType type : kTypes) {
      if (type == AdapterType::prompt && model->config().task != model::Task::causal_lm) continue;
      if (type == AdapterType::bias && model->biases().empty()) continue;
      CAPTURE(family);
      CAPTURE(static_cast<int>(type));
      const Adapter adapter = moved_adapter(*model, kind_options(type));
      const test::TempDir dir;
      REQUIRE_OK(save_adapter(dir.file("a"), adapter, "some/model"));
      const bool peft = type != AdapterType::bias && type != AdapterType::bottleneck;
      CHECK(std::filesystem::exists(dir.file("a/adapter_config.json")) == peft);
      const auto again = load_adapter(dir.file("a"), *model);
      REQUIRE_OK(again);
      CHECK(again->layout() == adapter.layout());
      CHECK(values_in(*again) == values_in(adapter));
      // The same folder then holds another kind, and nothing of the first.
      const Adapter lora = moved_adapter(*model, {.lora = {.target_modules = {"all-linear"}}});
      REQUIRE_OK(save_adapter(dir.file("a"), lora, "some/model"));
      const auto other = load_adapter(dir.file("a"), *model);
      REQUIRE_OK(other);
      CHECK(other->layout() == lora.layout());
    }
  }
}

TEST_CASE("PEFT's configuration of our adapters says what PEFT needs") {
  const auto model = golden_model("mistral");
  if (model == nullptr) return;
  const test::TempDir dir;
  REQUIRE_OK(save_adapter(dir.file("ia3"), moved_adapter(*model, kind_options(AdapterType::ia3)), "m"));
  const auto ia3 = formats::read_peft_directory(dir.file("ia3"));
  REQUIRE_OK(ia3);
  CHECK(ia3->config.peft_type == "IA3");
  CHECK(ia3->config.target_modules.names == std::vector<std::string>{"down_proj", "k_proj", "v_proj"});
  CHECK(ia3->config.feedforward_modules.names == std::vector<std::string>{"down_proj"});
  const Adapter prefix = moved_adapter(*model, kind_options(AdapterType::prefix));
  REQUIRE_OK(save_adapter(dir.file("prefix"), prefix, "m"));
  const auto file = formats::read_peft_directory(dir.file("prefix"));
  REQUIRE_OK(file);
  const auto& config = model->config();
  CHECK(file->config.peft_type == "PREFIX_TUNING");
  CHECK(file->config.num_virtual_tokens == 3);
  CHECK(file->config.num_layers == config.layers);
  CHECK(file->config.num_attention_heads == config.kv_heads);
  CHECK(file->config.token_dim == config.kv_heads * config.head_dim);
  // [tokens, (layer, key or value, head, element)]: the value of layer 1, token 2.
  const auto rows = formats::to_f32(file->tensors.front().view());
  REQUIRE_OK(rows);
  const auto W = static_cast<std::size_t>(file->config.token_dim);
  const auto columns = 2 * W * static_cast<std::size_t>(config.layers);
  const PartEntry& second = prefix.layout().parts.at(1);
  const auto value = prefix.values().subspan(static_cast<std::size_t>(second.offset) + (3 + 2) * W, W);
  CHECK(std::equal(value.begin(), value.end(), rows->begin() + static_cast<std::ptrdiff_t>(2 * columns + 3 * W)));
}

TEST_CASE("an adapter that a model has no place for is refused by what is missing") {
  const auto llama = golden_model("llama");
  const auto rwkv = golden_model("rwkv");
  const auto bert = golden_model("bert");
  if (llama == nullptr || rwkv == nullptr || bert == nullptr) return;
  const auto message = [](const model::Model& model, const AdapterOptions& options) {
    const auto layout = adapter_layout(model, options);
    return layout.ok() ? std::string() : layout.error().message;
  };
  CHECK(message(*llama, kind_options(AdapterType::bias)) ==
        "adapter: a llama model has no bias in any linear layer or norm, so no bias adapter fits it; choose another "
        "type");
  CHECK(message(*rwkv, kind_options(AdapterType::prefix)).find("a rwkv model has no attention") != std::string::npos);
  CHECK(message(*bert, kind_options(AdapterType::prompt)).find("causal language models") != std::string::npos);
  AdapterOptions options = kind_options(AdapterType::ia3);
  options.target_modules = {"q_prj"};
  CHECK(message(*llama, options).find("\"q_prj\" names no linear layer") != std::string::npos);
  options = kind_options(AdapterType::prefix);
  options.tokens = 1000;
  CHECK(message(*llama, options).find("leave no room") != std::string::npos);
}

TEST_CASE("every kind of adapter learns") {
  const SystemClock clock;
  for (const std::string family : {"gpt2", "rwkv"}) {
    const auto model = golden_model(family);
    if (model == nullptr) return;
    std::vector<train::TokenRow> rows;
    for (int i = 0; i < 8; ++i) {
      train::TokenRow row;
      for (int t = 0; t < 8; ++t) row.ids.push_back(5 + (i + t) % 8);
      for (int t = 0; t < 8; ++t) row.targets.push_back(5 + (i + t + 1) % 8);
      rows.push_back(std::move(row));
    }
    for (const AdapterType type : kTypes) {
      if (type == AdapterType::prefix && model->attentions().empty()) continue;
      CAPTURE(family);
      CAPTURE(static_cast<int>(type));
      const auto adapter = Adapter::create_fresh(*model, kind_options(type), 5);
      REQUIRE_OK(adapter);
      train::TrainConfig config;
      config.batch = 4;
      config.seq = 8;
      config.steps = 40;
      config.lr = 0.01;
      ThreadPool pool(1);
      const auto trainer =
          train::LocalTrainer::create(*model, adapter->spec(), values_in(*adapter), rows, config, pool, clock);
      REQUIRE_OK(trainer);
      REQUIRE_OK((*trainer)->run());
      CHECK((*trainer)->report().last_loss < (*trainer)->report().first_loss - 0.02);
    }
  }
}

}  // namespace covey::adapters

#include "adapters/gguf_adapter.h"

#include <cmath>
#include <functional>

#include "core/base/rng.h"
#include "core/formats/gguf_writer.h"
#include "support/support.h"
#include "unit/adapters/tiny_config.h"

using namespace covey;            // NOLINT
using namespace covey::adapters;  // NOLINT

namespace {

std::shared_ptr<model::Model> model_of(const std::string& family) {
  model::ModelConfig config = test::tiny_config();
  config.family = family;
  config.qkv_bias = family == "qwen2";
  const auto model = model::Model::create(config, 3);
  REQUIRE_OK(model);
  return *model;
}

Adapter normal_adapter(const model::Model& model, const LoraOptions& options) {
  auto adapter = Adapter::create_lora(model, options, 5);
  REQUIRE_OK(adapter);
  CounterRng(8).fill_normal(adapter->values());
  return *std::move(adapter);
}

}  // namespace

TEST_CASE("an adapter goes through GGUF bit for bit, q and k rows in llama.cpp's order there") {
  for (const char* family : {"llama", "qwen2"}) {
    CAPTURE(family);
    const auto model = model_of(family);
    const auto adapter = normal_adapter(*model, {.rank = 3, .alpha = 6, .target_modules = {"all-linear"}});
    const test::TempDir dir;
    REQUIRE_OK(save_gguf_adapter(dir.file("a.gguf"), adapter, *model));
    const auto file = formats::GgufFile::open(dir.file("a.gguf"));
    REQUIRE_OK(file);
    CHECK(file->get_string("general.type").value() == "adapter");
    CHECK(file->get_string("general.architecture").value() == family);
    CHECK(file->get_double("adapter.lora.alpha").value() == 6);
    const auto* a = file->find("blk.0.attn_q.weight.lora_a");
    const auto* b = file->find("blk.0.attn_q.weight.lora_b");
    REQUIRE(a != nullptr);
    REQUIRE(b != nullptr);
    CHECK(a->shape == std::vector<std::int64_t>{3, 16});
    CHECK(b->shape == std::vector<std::int64_t>{16, 3});
    // Row 1 of the first head in pairs is row D/2 = 2 in halves.
    const auto& q = adapter.layout().lora.front();
    const float* b_values = adapter.values().data() + q.offset + q.a_size();
    const float second_row = reinterpret_cast<const float*>(b->bytes.data())[3];
    CHECK(second_row == b_values[std::string_view(family) == "llama" ? 2 * 3 : 1 * 3]);

    const auto back = load_adapter(dir.file("a.gguf"), *model);
    REQUIRE_OK(back);
    CHECK(back->layout() == adapter.layout());
    CHECK(std::equal(back->values().begin(), back->values().end(), adapter.values().begin(), adapter.values().end()));
  }
}

TEST_CASE("rsLoRA's scale and unequal alphas are folded so that every site is scaled as before") {
  const auto model = model_of("llama");
  LoraOptions options{.rank = 4, .alpha = 8, .use_rslora = true, .target_modules = {"q_proj", "v_proj"}};
  options.rank_pattern = {{"v_proj", 2}};
  const auto adapter = normal_adapter(*model, options);
  const test::TempDir dir;
  REQUIRE_OK(save_gguf_adapter(dir.file("a.gguf"), adapter, *model));
  const auto back = load_gguf_adapter(dir.file("a.gguf"), *model);
  REQUIRE_OK(back);
  REQUIRE(back->layout().lora.size() == adapter.layout().lora.size());
  for (std::size_t i = 0; i < back->layout().lora.size(); ++i) {
    const auto& was = adapter.layout().lora[i];
    const auto& is = back->layout().lora[i];
    for (std::int64_t j = 0; j < was.b_size(); ++j) {
      const float before = was.scale() * adapter.values()[static_cast<std::size_t>(was.offset + was.a_size() + j)];
      const float after = is.scale() * back->values()[static_cast<std::size_t>(is.offset + is.a_size() + j)];
      CHECK(std::abs(before - after) <= 4e-7F * std::abs(before));  // a few roundings of f32
    }
  }
}

TEST_CASE("a GGUF adapter that does not belong to the model is refused by name") {
  const auto model = model_of("llama");
  const test::TempDir dir;
  const auto adapter = normal_adapter(*model, {.rank = 2, .target_modules = {"q_proj"}});
  REQUIRE_OK(save_gguf_adapter(dir.file("a.gguf"), adapter, *model));
  CHECK_FALSE(load_gguf_adapter(dir.file("a.gguf"), *model_of("qwen2")).ok());

  const auto error = [&](const std::function<void(formats::GgufWriter&)>& build) {
    formats::GgufWriter writer;
    build(writer);
    writer.set("general.type", "adapter");
    writer.set("general.architecture", "llama");
    writer.set("adapter.type", "lora");
    writer.set("adapter.lora.alpha", 4.0F);
    REQUIRE_OK(writer.write(dir.file("b.gguf")));
    const auto loaded = load_gguf_adapter(dir.file("b.gguf"), *model);
    REQUIRE_FALSE(loaded.ok());
    return loaded.error().message;
  };
  const auto& f32 = ggml_type_info(formats::GgmlType::f32);
  const auto says = [](const std::string& text, const char* part) {
    CHECK_MESSAGE(text.find(part) != std::string::npos, text);
  };
  says(error([](auto& w) { w.set("general.type", "model"); }), "another type than adapter");
  says(error([](auto& w) { w.set("adapter.type", "control_vector"); }), "another type than lora");
  says(error([&](auto& w) { w.add("blk.0.attn_q.weight", f32, {4}, Bytes(16)); }), "no half of a LoRA pair");
  says(error([&](auto& w) { w.add("blk.0.attn_q.weight.lora_a", f32, {1, 16}, Bytes(64)); }), "do not fit each other");
  says(error([&](auto& w) {
         w.add("blk.9.attn_q.weight.lora_a", f32, {1, 16}, Bytes(64));
         w.add("blk.9.attn_q.weight.lora_b", f32, {16, 1}, Bytes(64));
       }),
       "no linear layer model.layers.9");
  says(error([&](auto& w) {
         w.add("blk.0.attn_q.weight.lora_a", f32, {1, 8}, Bytes(32));
         w.add("blk.0.attn_q.weight.lora_b", f32, {16, 1}, Bytes(64));
       }),
       "other shapes");
}

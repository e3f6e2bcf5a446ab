// `export`: what is written holds the version's values, whichever format it has.
#include "coordinator/export_adapter.h"

#include <filesystem>

#include "adapters/gguf_adapter.h"
#include "coordinator/rows.h"
#include "core/base/rng.h"
#include "tests/support/support.h"

namespace covey::coordinator {
namespace {

struct World {
  test::TempDir dir;
  Settings settings;
  std::vector<float> values;
  std::shared_ptr<model::Model> model;

  explicit World(const std::string& family = "llama") {
    model::ModelConfig config;
    config.family = family;
    config.vocab_size = 40;
    config.hidden_size = 32;
    config.intermediate_size = 48;
    config.layers = 2;
    config.heads = 4;
    config.kv_heads = 2;
    config.head_dim = 8;
    config.context_max = 24;
    auto made = model::Model::create(config, 5);
    REQUIRE_OK(made);
    model = *std::move(made);
    settings.model = dir.file("base");
    REQUIRE_OK(model->save(settings.model));
    settings.adapter.lora = {.rank = 3, .alpha = 6, .target_modules = {"q_proj", "k_proj", "down_proj"}};
    const auto layout = adapters::adapter_layout(*model, settings.adapter);
    REQUIRE_OK(layout);
    values.resize(static_cast<std::size_t>(layout->size));
    CounterRng(3).fill_normal(values);
  }
  [[nodiscard]] Status write(const std::string& format, const std::string& out) const {
    return export_adapter(settings, encode_values(values), {.format = format, .out = out});
  }
};

}  // namespace

TEST_CASE("an exported adapter, PEFT or GGUF, holds the version's values bit for bit") {
  const World w;
  for (const auto& [format, name] : {std::pair{"peft", "adapter"}, std::pair{"gguf", "adapter.gguf"}}) {
    CAPTURE(std::string(format));
    REQUIRE_OK(w.write(format, w.dir.file(name)));
    const auto back = adapters::load_adapter(w.dir.file(name), *w.model);
    REQUIRE_OK(back);
    CHECK(std::ranges::equal(back->values(), w.values));
    CHECK(back->layout().lora.size() == 6);
  }
}

TEST_CASE("an export that cannot be is refused in one line and leaves no file") {
  const World w;
  const auto refused = [](const Status& status, std::string_view part) {
    REQUIRE_FALSE(status.ok());
    CAPTURE(status.error().message);
    CHECK(status.error().message.find(part) != std::string::npos);
    CHECK(status.error().message.find('\n') == std::string::npos);
  };
  refused(w.write("gguf", w.dir.file("adapter")), "must end in .gguf");
  refused(w.write("onnx", w.dir.file("adapter")), "there are peft and gguf");
  refused(export_adapter(w.settings, Bytes(4), {.format = "gguf", .out = w.dir.file("x.gguf")}), "");
  CHECK_FALSE(std::filesystem::exists(w.dir.file("adapter")));
  CHECK_FALSE(std::filesystem::exists(w.dir.file("x.gguf")));
}

}  // namespace covey::coordinator

#include "core/formats/hf_directory.h"

#include <filesystem>

#include "core/base/file.h"
#include "support/support.h"

using namespace covey;           // NOLINT
using namespace covey::formats;  // NOLINT

namespace {

void write(const std::string& path, std::string_view text) {
  REQUIRE_OK(write_file_durably(path, text));
}

/// A directory whose tensors have these names; each holds its own number.
void directory_of(const std::string& path, const std::vector<std::string>& names) {
  std::filesystem::create_directories(path);
  std::vector<std::vector<float>> values;
  std::vector<TensorView> tensors;
  values.reserve(names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    values.push_back({static_cast<float>(i)});
    tensors.push_back(f32_view(names[i], {1}, values.back()));
  }
  REQUIRE_OK(write_safetensors(path + "/model.safetensors", tensors));
  write(path + "/config.json", R"({"model_type": "llama", "eos_token_id": 2, "bos_token_id": 1})");
}

}  // namespace

TEST_CASE("tensors are found under the prefixes that other classes saved them with") {
  const test::TempDir dir;
  directory_of(dir.path(), {"layers.0.mlp.up_proj.weight", "model.norm.weight", "transformer.h.0.attn.c_attn.weight",
                            "encoder.layer.0.output.LayerNorm.gamma", "encoder.layer.0.output.LayerNorm.beta",
                            "norm.weight", "layers.0.self_attn.rotary_emb.inv_freq"});
  const auto directory = HfDirectory::open(dir.path());
  REQUIRE_OK(directory);
  const auto value = [&](const char* name) {
    const TensorView* tensor = directory->find(name);
    return tensor == nullptr ? -1 : to_f32(*tensor).value()[0];
  };
  CHECK(value("model.layers.0.mlp.up_proj.weight") == 0);
  CHECK(value("model.norm.weight") == 1);  // the exact name, though norm.weight is there as well
  CHECK(value("norm.weight") == 5);
  CHECK(value("h.0.attn.c_attn.weight") == 2);
  CHECK(value("bert.encoder.layer.0.output.LayerNorm.weight") == 3);
  CHECK(value("encoder.layer.0.output.LayerNorm.bias") == 4);
  CHECK(value("model.layers.1.mlp.up_proj.weight") == -1);
  CHECK_FALSE(directory->get("lm_head.weight").ok());
}

TEST_CASE("generation_config.json says which tokens end a text") {
  const test::TempDir dir;
  directory_of(dir.path(), {"w"});
  write(dir.file("generation_config.json"), R"({"eos_token_id": [5, 6], "bos_token_id": null, "temperature": 0.6})");
  const auto directory = HfDirectory::open(dir.path());
  REQUIRE_OK(directory);
  CHECK(directory->config().get_ints("eos_token_id").value() == std::vector<std::int64_t>{5, 6});
  CHECK(directory->config().get_int("bos_token_id").value() == 1);
  CHECK_FALSE(directory->config().contains("temperature"));
  write(dir.file("generation_config.json"), "[]");
  CHECK_FALSE(HfDirectory::open(dir.path()).ok());
}

TEST_CASE("a folder of the hub's cache is its snapshot") {
  const test::TempDir dir;
  const std::string hub = dir.file("models--org--name");
  directory_of(hub + "/snapshots/abc", {"w"});
  CHECK(model_directory(hub) == hub + "/snapshots/abc");
  CHECK(HfDirectory::open(hub).ok());
  directory_of(hub + "/snapshots/def", {"w", "v"});
  CHECK(model_directory(hub) == hub);  // which of the two?
  CHECK_FALSE(HfDirectory::open(hub).ok());
  std::filesystem::create_directory(hub + "/refs");
  write(hub + "/refs/main", "def\n");
  const auto directory = HfDirectory::open(hub);
  REQUIRE_OK(directory);
  CHECK(directory->find("v") != nullptr);
  write(hub + "/refs/main", "../../elsewhere");
  CHECK(model_directory(hub) == hub);
  CHECK(model_directory(dir.file("nothing")) == dir.file("nothing"));
}

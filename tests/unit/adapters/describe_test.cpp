#include "adapters/describe.h"

#include <filesystem>

#include "adapters/convert.h"
#include "core/base/file.h"
#include "core/model/model.h"
#include "support/support.h"

using namespace covey;            // NOLINT
using namespace covey::adapters;  // NOLINT

TEST_CASE("a description says what the files are, and why a model is not computed") {
  const test::TempDir dir;
  model::ModelConfig config;
  config.vocab_size = 40;
  config.hidden_size = 32;
  config.intermediate_size = 64;
  config.layers = 1;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.context_max = 16;
  REQUIRE_OK((*model::Model::create(config, 1))->save(dir.file("hf")));
  const auto whole = describe_model(dir.file("hf"));
  REQUIRE_OK(whole);
  CHECK(whole->get_string("format").value() == "Hugging Face directory");
  CHECK(whole->get_string("tokenizer").value() == "none");
  CHECK(whole->get_int("layers").value() == 1);
  CHECK_FALSE(whole->contains("not_supported"));

  REQUIRE_OK(quantize_model(dir.file("hf"), dir.file("q.gguf"), formats::GgmlType::q8_0, ""));
  const auto quantized = describe_model(dir.file("q.gguf"));
  REQUIRE_OK(quantized);
  CHECK(quantized->get_string("format").value() == "GGUF v3, model");
  CHECK((*quantized->get_object("types"))->get_int("Q8_0").value() == 8);
  CHECK(quantized->get_int("parameters").value() == whole->get_int("parameters").value());

  REQUIRE_OK(write_file_durably(dir.file("hf/config.json"), std::string_view(R"({"model_type": "mamba"})")));
  const auto unknown = describe_model(dir.file("hf"));
  REQUIRE_OK(unknown);
  CHECK(unknown->get_string("architecture").value() == "mamba");
  CHECK(unknown->get_string("not_supported").value().find("mamba") != std::string::npos);
  CHECK(unknown->get_int("tensors").value() > 0);

  REQUIRE_OK(write_file_durably(dir.file("hf/model.safetensors"), std::string_view("broken")));
  CHECK_FALSE(describe_model(dir.file("hf")).ok());
  CHECK_FALSE(describe_model(dir.file("nothing")).ok());
}

TEST_CASE("a vocabulary alone is described as one") {
  const auto path = test::data_path("ggml-vocab/ggml-vocab-llama-spm.gguf");
  if (!path) return;
  const auto description = describe_model(*path);
  REQUIRE_OK(description);
  CHECK(description->get_string("tokenizer").value() == "llama (default)");
  CHECK(description->contains("not_supported"));
}

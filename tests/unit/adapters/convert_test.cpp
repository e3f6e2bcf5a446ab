#include "adapters/convert.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "adapters/llama2c_writer.h"
#include "core/base/file.h"
#include "core/base/thread_pool.h"
#include "core/formats/gguf_model.h"
#include "core/formats/hf_directory.h"
#include "core/formats/quant_blocks.h"
#include "core/model/engine.h"
#include "support/support.h"

using namespace covey;            // NOLINT
using namespace covey::adapters;  // NOLINT
using formats::GgmlType;

namespace {

model::ModelConfig tiny_config(const std::string& family) {
  model::ModelConfig c;
  c.family = family;
  c.vocab_size = 40;
  c.hidden_size = 32;
  c.intermediate_size = 44;  // rows of down_proj do not fill blocks
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 8;
  c.context_max = 24;
  c.norm_eps = 1e-6;
  c.tied_head = false;
  c.qkv_bias = family == "qwen2";
  c.bos_id = 1;
  c.eos_ids = {2, 5};
  c.pad_id = 0;
  return c;
}

void save_tiny(const model::ModelConfig& config, const std::string& directory) {
  const auto model = model::Model::create(config, 5);
  REQUIRE_OK(model);
  for (const auto& tensor : (*model)->parameters()) {  // no norm of ones, no bias of zeros
    for (std::size_t i = 0; i < tensor.values.size(); ++i) tensor.values[i] += 0.01F * static_cast<float>(i % 7);
  }
  REQUIRE_OK((*model)->save(directory));
}

std::vector<float> logits(const std::string& path) {
  const auto model = model::Model::load(path);
  REQUIRE_OK(model);
  ThreadPool pool(1);
  const auto decoder = model::Decoder::create(**model, 8, {}, {}, pool);
  REQUIRE_OK(decoder);
  std::vector<float> out;
  for (const std::int32_t token : {3, 9, 1, 30}) {
    const auto row = (*decoder)->feed(token);
    REQUIRE_OK(row);
    out.insert(out.end(), row->begin(), row->end());
  }
  return out;
}

Bytes bytes_of(const std::string& path) {
  const auto bytes = read_file(path);
  REQUIRE_OK(bytes);
  return *bytes;
}

/// Rewrites a directory's weights in another element type.
void narrow(const std::string& directory, formats::DType dtype, GgmlType type) {
  const auto file = formats::SafetensorsFile::open(directory + "/model.safetensors");
  REQUIRE_OK(file);
  std::vector<Bytes> held;
  std::vector<formats::TensorView> views;
  held.reserve(file->tensors().size());
  for (const auto& tensor : file->tensors()) {
    held.push_back(formats::quantize(type, formats::to_f32(tensor).value()).value());
    views.push_back({tensor.name, dtype, tensor.shape, held.back()});
  }
  REQUIRE_OK(formats::write_safetensors(directory + "/model.safetensors", views));
}

}  // namespace

TEST_CASE("a directory becomes a GGUF that computes the same logits, and the same directory again") {
  for (const char* family : {"llama", "qwen2"}) {
    CAPTURE(family);
    const test::TempDir dir;
    save_tiny(tiny_config(family), dir.file("hf"));
    REQUIRE_OK(convert_model(dir.file("hf"), dir.file("m.gguf"), ""));
    CHECK(logits(dir.file("m.gguf")) == logits(dir.file("hf")));
    REQUIRE_OK(convert_model(dir.file("m.gguf"), dir.file("back"), ""));
    CHECK(bytes_of(dir.file("back/model.safetensors")) == bytes_of(dir.file("hf/model.safetensors")));
    const auto before = formats::Json::load(dir.file("hf/config.json"));
    const auto after = formats::Json::load(dir.file("back/config.json"));
    REQUIRE_OK(before);
    REQUIRE_OK(after);
    CHECK(*before == *after);
  }
}

TEST_CASE("half-precision weights keep their bits through GGUF") {
  for (const auto& [dtype, type] :
       {std::pair{formats::DType::f16, GgmlType::f16}, std::pair{formats::DType::bf16, GgmlType::bf16}}) {
    const test::TempDir dir;
    save_tiny(tiny_config("llama"), dir.file("hf"));
    narrow(dir.file("hf"), dtype, type);
    REQUIRE_OK(convert_model(dir.file("hf"), dir.file("m.gguf"), ""));
    REQUIRE_OK(convert_model(dir.file("m.gguf"), dir.file("back"), ""));
    const auto before = formats::HfDirectory::open(dir.file("hf"));
    const auto after = formats::HfDirectory::open(dir.file("back"));
    REQUIRE_OK(before);
    REQUIRE_OK(after);
    CHECK(after->config().get_string("torch_dtype").value() == (type == GgmlType::f16 ? "float16" : "bfloat16"));
    for (const auto& name : before->tensor_names()) {
      const auto& a = *before->find(name);
      const auto& b = *after->get(name).value();
      if (a.shape.size() == 2) {
        CHECK(b.dtype == a.dtype);
      }
      CHECK(formats::to_f32(a).value() == formats::to_f32(b).value());
    }
  }
}

TEST_CASE("quantizing fills blocks where rows allow it, and keeps vectors and the rest whole") {
  const test::TempDir dir;
  save_tiny(tiny_config("llama"), dir.file("hf"));
  for (const auto type : {GgmlType::q8_0, GgmlType::q4_0}) {
    REQUIRE_OK(quantize_model(dir.file("hf"), dir.file("q.gguf"), type, ""));
    CHECK_FALSE(std::filesystem::exists(dir.file("q.gguf.whole.gguf")));
    const auto model = formats::GgufModel::open(dir.file("q.gguf"));
    REQUIRE_OK(model);
    const auto type_of = [&](const char* name) { return model->file().get(name).value()->type->number; };
    const auto number = [](GgmlType t) { return static_cast<std::uint32_t>(t); };
    CHECK(type_of("blk.0.attn_q.weight") == number(type));
    CHECK(type_of("blk.1.ffn_down.weight") == number(GgmlType::f16));
    CHECK(type_of("blk.0.attn_norm.weight") == number(GgmlType::f32));
    CHECK(type_of("output.weight") == number(GgmlType::q8_0));
    const auto exact = logits(dir.file("hf"));
    const auto rough = logits(dir.file("q.gguf"));
    float largest = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) largest = std::max(largest, std::abs(exact[i] - rough[i]));
    CHECK(largest > 0);
    CHECK(largest < (type == GgmlType::q8_0 ? 0.02F : 0.2F));  // weights of about 0.05, steps of 1/127 and 1/8 of them
    CHECK_FALSE(quantize_model(dir.file("q.gguf"), dir.file("qq.gguf"), GgmlType::q8_0, "").ok());
  }
  const auto back = convert_model(dir.file("q.gguf"), dir.file("wide"), "");
  REQUIRE_OK(back);
  CHECK(logits(dir.file("wide")) == logits(dir.file("q.gguf")));
  bool named = false;
  for (const auto& what : back->not_held) named = named || what.find("Q4_0") != std::string::npos;
  CHECK(named);
}

TEST_CASE("llama2.c, GGUF and a directory hold one model with its tokenizer") {
  const auto bin = test::data_path("stories260K/stories260K.bin");
  const auto tokenizer = test::data_path("stories260K/tok512.bin");
  if (!bin || !tokenizer) return;
  const test::TempDir dir;
  REQUIRE_OK(convert_model(*bin, dir.file("s.gguf"), ""));
  CHECK(logits(dir.file("s.gguf")) == logits(*bin));
  std::filesystem::create_directory(dir.file("out"));
  REQUIRE_OK(convert_model(dir.file("s.gguf"), dir.file("out/s.bin"), ""));
  CHECK(logits(dir.file("out/s.bin")) == logits(*bin));
  CHECK(bytes_of(dir.file("out/tokenizer.bin")) == bytes_of(*tokenizer));
  REQUIRE_OK(convert_model(dir.file("s.gguf"), dir.file("hf"), ""));
  CHECK(logits(dir.file("hf")) == logits(*bin));
  CHECK(std::filesystem::exists(dir.file("hf/tokenizer.model")));
  REQUIRE_OK(convert_model(dir.file("hf"), dir.file("again.gguf"), ""));
  const auto before = formats::GgufFile::open(dir.file("s.gguf"));
  const auto after = formats::GgufFile::open(dir.file("again.gguf"));
  REQUIRE_OK(before);
  REQUIRE_OK(after);
  const char* tokens = "tokenizer.ggml.tokens";
  CHECK(std::ranges::equal(before->get_strings(tokens).value(), after->get_strings(tokens).value()));
  for (const char* key : {"tokenizer.ggml.scores", "tokenizer.ggml.token_type"}) {
    CHECK(before->get_doubles(key).value() == after->get_doubles(key).value());
  }
}

TEST_CASE("what a target cannot hold is refused by name where it changes the result") {
  const test::TempDir dir;
  auto config = tiny_config("mistral");
  config.window.assign(2, 6);
  save_tiny(config, dir.file("hf"));
  const auto sliding = convert_model(dir.file("hf"), dir.file("m.gguf"), "");
  REQUIRE_FALSE(sliding.ok());
  CHECK(sliding.error().message.find("sliding_window") != std::string::npos);
  CHECK_FALSE(convert_model(dir.file("hf"), dir.file("m.bin"), "").ok());
  CHECK_FALSE(convert_model(dir.file("hf"), dir.file("other"), "").ok());
  CHECK_FALSE(convert_model(dir.file("nothing"), dir.file("m.gguf"), "").ok());
  CHECK_FALSE(quantize_model(dir.file("hf"), dir.file("m.bin"), GgmlType::q8_0, "").ok());
}

TEST_CASE("what is left behind without changing the result is named") {
  const test::TempDir dir;
  save_tiny(tiny_config("llama"), dir.file("hf"));
  auto config = formats::Json::load(dir.file("hf/config.json")).value();
  config.set("initializer_range", 0.02).set("transformers_version", "4.40.0");
  REQUIRE_OK(config.save(dir.file("hf/config.json")));
  REQUIRE_OK(write_file_durably(dir.file("hf/generation_config.json"), std::string_view(R"({"top_p": 0.9})")));
  const auto says = [](const Result<Conversion>& done, const std::string& part) {
    REQUIRE_OK(done);
    bool found = false;
    for (const auto& what : done->not_held) found = found || what.find(part) != std::string::npos;
    CHECK_MESSAGE(found, part);
  };
  const auto out = convert_model(dir.file("hf"), dir.file("m.gguf"), "");
  says(out, "config.json's initializer_range, transformers_version");
  says(out, "generation_config.json");
  says(out, "tokenizer");
  says(convert_model(dir.file("m.gguf"), dir.file("back"), ""), "key general.name");
}

TEST_CASE("golden models go through GGUF and back bit for bit") {
  for (const char* name : {"llama", "llama_rope3", "qwen2", "qwen3", "olmo2"}) {
    const auto path = test::golden_path(name);
    if (!path) return;
    const test::TempDir dir;
    REQUIRE_OK(convert_model(*path, dir.file("m.gguf"), ""));
    CHECK(logits(dir.file("m.gguf")) == logits(*path));
    REQUIRE_OK(convert_model(dir.file("m.gguf"), dir.file("back"), ""));
    CHECK(bytes_of(dir.file("back/model.safetensors")) == bytes_of(*path + "/model.safetensors"));
    CHECK(logits(dir.file("back")) == logits(*path));
  }
}

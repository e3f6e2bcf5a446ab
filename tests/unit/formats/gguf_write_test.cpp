#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/formats/gguf_families.h"
#include "core/formats/gguf_model.h"
#include "core/formats/gguf_vocabulary.h"
#include "core/formats/gguf_writer.h"
#include "core/formats/quant_blocks.h"
#include "core/formats/safetensors.h"
#include "core/formats/tensor.h"
#include "support/support.h"

using namespace covey;           // NOLINT
using namespace covey::formats;  // NOLINT

namespace {

/// A block: f16 scales, then bytes.
Bytes block(std::initializer_list<float> halves, std::initializer_list<int> bytes, std::size_t size) {
  Bytes out;
  for (const float half : halves) {
    const std::uint16_t bits = f32_to_f16(half);
    out.push_back(static_cast<std::uint8_t>(bits & 255));
    out.push_back(static_cast<std::uint8_t>(bits >> 8));
  }
  for (const int byte : bytes) out.push_back(static_cast<std::uint8_t>(byte));
  out.resize(size);
  return out;
}

std::vector<float> values_of(GgmlType type, const Bytes& bytes) {
  std::vector<float> out(bytes.size() / ggml_type_info(type).block_bytes * ggml_type_info(type).block);
  REQUIRE_OK(dequantize(ggml_type_info(type), bytes, out));
  return out;
}

}  // namespace

TEST_CASE("blocks: each type's first and last values follow its formula") {
  const auto q8 = values_of(GgmlType::q8_0, block({0.5F}, {3, 0xFF}, 34));
  CHECK(q8[0] == 1.5F);
  CHECK(q8[1] == -0.5F);
  const auto q4 = values_of(GgmlType::q4_0, block({2}, {0xF0}, 18));
  CHECK(q4[0] == -16);
  CHECK(q4[16] == 14);
  const auto q41 = values_of(GgmlType::q4_1, block({2, 1}, {0xF3}, 20));
  CHECK(q41[0] == 7);
  CHECK(q41[16] == 31);
  const auto q50 = values_of(GgmlType::q5_0, block({1}, {1, 0, 1, 0, 0xF2}, 22));  // high bits of elements 0 and 16
  CHECK(q50[0] == 2);
  CHECK(q50[16] == 15);
  CHECK(q50[31] == -16);
  const auto q51 = values_of(GgmlType::q5_1, block({1, 0.5F}, {1, 0, 0, 0x80, 0xF2}, 24));
  CHECK(q51[0] == 18.5F);
  CHECK(q51[16] == 15.5F);
  CHECK(q51[31] == 16.5F);
  // Scales 2 and minima 3 in sub-block 0, the high bits of scale 4 (48 of 50) in byte 0.
  const auto q4k = values_of(GgmlType::q4_k, block({1, 0.5F}, {2 | 0xC0, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 5}, 144));
  CHECK(q4k[0] == 2 * 5 - 1.5F);
  CHECK(q4k[1] == -1.5F);
  Bytes six = block({}, {0x21}, 210);
  six[128] = 0x03;  // high pair of element 0
  six[192] = 2;     // scale of elements 0..15
  std::memcpy(six.data() + 208, block({0.5F}, {}, 2).data(), 2);
  const auto q6k = values_of(GgmlType::q6_k, six);
  CHECK(q6k[0] == 0.5F * 2 * ((1 | 3 << 4) - 32));
  CHECK(q6k[1] == 0.5F * 2 * -32);
  CHECK(q6k[64] == 0);  // its scale is 0
}

TEST_CASE("blocks: quantizing keeps values within half a step, and refuses what blocks cannot hold") {
  std::vector<float> values(320);
  CounterRng(3, 0).fill_normal(values);
  for (const auto& [type, steps] : {std::pair{GgmlType::q8_0, 127.0F}, std::pair{GgmlType::q4_0, 8.0F}}) {
    const auto bytes = quantize(type, values);
    REQUIRE_OK(bytes);
    const auto back = values_of(type, *bytes);
    for (std::size_t i = 0; i < values.size(); ++i) {
      float largest = 0;
      for (std::size_t j = i / 32 * 32; j < i / 32 * 32 + 32; ++j) largest = std::max(largest, std::fabs(values[j]));
      // Half a step; a whole one at the end of Q4_0's range that has no level; 2^-11 for the f16 scale.
      const float step = largest / steps;
      CHECK(std::fabs(back[i] - values[i]) <= step * (type == GgmlType::q4_0 ? 1.01F : 0.5F) + largest / 2048);
    }
  }
  CHECK_FALSE(quantize(GgmlType::q8_0, std::span(values).first(31)).ok());
  CHECK_FALSE(quantize(GgmlType::q4_k, values).ok());
  values[7] = std::numeric_limits<float>::infinity();
  CHECK_FALSE(quantize(GgmlType::q4_0, values).ok());
  CHECK(quantize(GgmlType::f32, values).ok());
  std::vector<float> few(31);
  CHECK_FALSE(dequantize(ggml_type_info(GgmlType::q8_0), Bytes(34), few).ok());
  CHECK_FALSE(dequantize(*ggml_type_info(10U), Bytes(84), few).ok());
}

TEST_CASE("every f16 is the f16 of its own value, and halves between two go to the even one") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = f16_to_f32(half);
    if (std::isnan(value)) {
      CHECK(std::isnan(f16_to_f32(f32_to_f16(value))));
    } else if (f32_to_f16(value) != half) {
      FAIL("f16 bits " << bits);
    }
  }
  CHECK(f32_to_f16(1 + 0x1p-11F) == 0x3C00);
  CHECK(f32_to_f16(1 + 3 * 0x1p-11F) == 0x3C02);
  CHECK(f32_to_f16(65519.996F) == 0x7BFF);
  CHECK(f32_to_f16(65520) == 0x7C00);
  CHECK(f32_to_f16(-0x1p-25F) == 0x8000);
  CHECK(f32_to_bf16(1 + 0x1p-8F) == 0x3F80);
  CHECK(f32_to_bf16(1 + 3 * 0x1p-8F) == 0x3F82);
}

TEST_CASE("GGUF: what is written is read back, keys in order and tensors bit for bit") {
  const test::TempDir dir;
  GgufWriter writer;
  writer.set("general.architecture", "llama");
  writer.set("n", std::uint32_t{7});
  writer.set("n", std::uint32_t{8});  // the first stands
  writer.set("x", 1.5F);
  writer.set("yes", true);
  writer.set("words", std::vector<std::string>{"a", "", "b c"});
  writer.set("floats", std::vector<float>{1, 2});
  writer.set("ints", std::vector<std::int32_t>{-1});
  const std::vector<float> values = {1, 2, 3, 4, 5, 6};
  writer.borrow("w", ggml_type_info(GgmlType::f32), {2, 3}, f32_view("", {}, values).bytes);
  writer.add("b", ggml_type_info(GgmlType::f16), {3}, Bytes(6));
  REQUIRE_OK(writer.write(dir.file("m.gguf")));
  const auto file = GgufFile::open(dir.file("m.gguf"));
  REQUIRE_OK(file);
  CHECK(file->version() == 3);
  CHECK(file->get_int("n").value() == 7);
  CHECK(file->get_strings("words").value()[2] == "b c");
  CHECK(file->entries().back().key == "ints");
  CHECK(file->find("w")->shape == std::vector<std::int64_t>{2, 3});
  CHECK(std::memcmp(file->find("w")->bytes.data(), values.data(), 24) == 0);

  GgufWriter copy;
  for (const auto& entry : file->entries()) copy.copy(entry);
  for (const auto& tensor : file->tensors()) copy.borrow(tensor.name, *tensor.type, tensor.shape, tensor.bytes);
  REQUIRE_OK(copy.write(dir.file("copy.gguf")));
  CHECK(read_file(dir.file("copy.gguf")).value() == read_file(dir.file("m.gguf")).value());

  writer.add("w", ggml_type_info(GgmlType::f32), {1}, Bytes(4));
  CHECK_FALSE(writer.write(dir.file("twice.gguf")).ok());
  GgufWriter wrong;
  wrong.add("w", ggml_type_info(GgmlType::q8_0), {31}, Bytes(34));
  CHECK_FALSE(wrong.write(dir.file("wrong.gguf")).ok());
}

TEST_CASE("GGUF: names and orders of rows turn back into themselves") {
  for (const char* type : {"llama", "qwen2", "qwen3", "olmo2"}) {
    const auto family = gguf_family_of_type(type);
    REQUIRE_OK(family);
    for (const auto& name : (*family)->names) {
      const std::string hf = "model.layers.12." + std::string(name.hf) + ".weight";
      CHECK(hf_tensor_name(**family, gguf_tensor_name(**family, hf)) == hf);
    }
  }
  const GgufFamily& llama = **gguf_family("llama");
  CHECK(gguf_tensor_name(llama, "model.layers.3.self_attn.q_proj.bias") == "blk.3.attn_q.bias");
  CHECK(gguf_tensor_name(llama, "lm_head.weight") == "output.weight");
  CHECK(gguf_tensor_name(llama, "model.layers.3.self_attn.rotary_emb.inv_freq").empty());
  CHECK(hf_tensor_name(llama, "blk.x.attn_q.weight").empty());
  CHECK(gguf_change(llama, "blk.0.attn_k.weight", 4, 2).heads == 2);
  CHECK_FALSE(gguf_change(llama, "blk.0.attn_v.weight", 4, 2));
  CHECK_FALSE(gguf_change(**gguf_family("qwen2"), "blk.0.attn_k.weight", 4, 2));
  CHECK_FALSE(gguf_family("rwkv6").ok());

  const Bytes halves = {0, 1, 2, 3, 10, 11, 12, 13};  // two heads of four rows
  const Bytes pairs = to_pairs(halves, 8, 2);
  CHECK(pairs == Bytes{0, 2, 1, 3, 10, 12, 11, 13});
  CHECK(from_pairs(pairs, 8, 2) == halves);
}

namespace {

/// A model of one layer with what `change` does to its keys.
std::string model_error(const std::function<void(GgufWriter&)>& before) {
  const test::TempDir dir;
  GgufWriter writer;
  before(writer);
  writer.set("general.architecture", "llama");
  for (const auto& [key, value] : {std::pair{"context_length", 16U}, std::pair{"embedding_length", 4U},
                                   std::pair{"block_count", 1U}, std::pair{"feed_forward_length", 8U},
                                   std::pair{"attention.head_count", 1U}, std::pair{"attention.head_count_kv", 1U}}) {
    writer.set(std::string("llama.") + key, value);
  }
  writer.set("llama.attention.layer_norm_rms_epsilon", 1e-5F);
  writer.add("token_embd.weight", ggml_type_info(GgmlType::f32), {3, 4}, Bytes(48));
  REQUIRE_OK(writer.write(dir.file("m.gguf")));
  const auto model = GgufModel::open(dir.file("m.gguf"));
  return model.ok() ? model->config().dump() : model.error().message;
}

}  // namespace

TEST_CASE("GGUF: a model's keys become a config.json, and keys that change the result are refused by name") {
  const std::string plain = model_error([](GgufWriter&) {});
  CHECK(plain.find(R"("rms_norm_eps":1e-05)") != std::string::npos);
  CHECK(plain.find(R"("tie_word_embeddings":true)") != std::string::npos);
  const auto refused = [](const std::function<void(GgufWriter&)>& before, const std::string& part) {
    const std::string error = model_error(before);
    CHECK_MESSAGE(error.find(part) != std::string::npos, error);
  };
  refused([](GgufWriter& w) { w.set("general.architecture", "mamba"); }, "\"mamba\" is not read");
  refused([](GgufWriter& w) { w.set("general.type", "adapter"); }, "type adapter");
  refused([](GgufWriter& w) { w.set("split.count", 3U); }, "one of 3 parts");
  refused([](GgufWriter& w) { w.set("llama.expert_count", 8U); }, "llama.expert_count");
  CHECK(model_error([](GgufWriter& w) { w.set("llama.expert_count", 0U); }) == plain);
  refused([](GgufWriter& w) { w.set("llama.rope.scaling.type", "yarn"); }, "rope.scaling.type");
  refused([](GgufWriter& w) { w.set("llama.rope.dimension_count", 2U); }, "rope.dimension_count");
  refused([](GgufWriter& w) { w.set("llama.block_count", 0U); }, "block_count is 0");
  refused([](GgufWriter& w) { w.set("llama.block_count", "two"); }, "must be an integer");
  refused([](GgufWriter& w) { w.set("llama.attention.key_length", 3U); }, "key_length");
  refused([](GgufWriter& w) { w.add("blk.0.mystery.weight", ggml_type_info(GgmlType::f32), {1}, Bytes(4)); },
          "mystery");
  refused(
      [](GgufWriter& w) {
        w.add("blk.0.attn_q.weight", ggml_type_info(GgmlType::f32), {3, 4}, Bytes(48));
      },
      "cannot be cut into heads");
  refused([](GgufWriter& w) { w.add("rope_freqs.weight", ggml_type_info(GgmlType::f32), {2}, Bytes(8)); },
          "rope_freqs.weight");
}

TEST_CASE("GGUF: a llama2.c vocabulary goes there and back") {
  const test::TempDir dir;
  std::vector<ScoredPiece> pieces = {{"<unk>", 0},  {"\n<s>\n", 0}, {"\n</s>\n", 0},
                                     {"<0x0A>", 0}, {" a", -1},     {"b", -2}};
  GgufWriter writer;
  write_vocabulary(pieces, 8, writer);
  REQUIRE_OK(writer.write(dir.file("v.gguf")));
  const auto file = GgufFile::open(dir.file("v.gguf"));
  REQUIRE_OK(file);
  CHECK(file->get_strings("tokenizer.ggml.tokens").value()[4] ==
        "\xE2\x96\x81"
        "a");
  CHECK(file->get_ints("tokenizer.ggml.token_type").value() == std::vector<std::int64_t>{2, 3, 3, 6, 1, 1, 5, 5});
  std::vector<std::string> not_held;
  auto back = llama2c_vocabulary(*file, not_held);
  REQUIRE_OK(back);
  REQUIRE(back->size() == 8);
  CHECK(not_held.size() == 1);  // the two that fill up
  REQUIRE_OK(write_llama2c_tokenizer(dir.file("t.bin"), *back));
  const auto read = read_llama2c_tokenizer(dir.file("t.bin"));
  REQUIRE_OK(read);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    CHECK((*read)[i].bytes == pieces[i].bytes);
    CHECK((*read)[i].score == pieces[i].score);
  }
  REQUIRE_OK(write_hf_tokenizer(*file, dir.path()));
  CHECK(read_file(dir.file("tokenizer.model")).value().size() > 60);
}

TEST_CASE("GGUF: GPT-2's vocabulary becomes a tokenizer.json and the same GGUF vocabulary again") {
  const auto path = test::data_path("ggml-vocab/ggml-vocab-gpt-2.gguf");
  if (!path) return;
  const test::TempDir dir;
  const auto file = GgufFile::open(*path);
  REQUIRE_OK(file);
  std::vector<std::string> not_held;
  REQUIRE_OK(write_hf_tokenizer(*file, dir.path()));
  const auto spec = read_tokenizer_json(dir.file("tokenizer.json"));
  REQUIRE_OK(spec);
  GgufWriter writer;
  REQUIRE_OK(write_vocabulary(*spec, 50257, writer, not_held));
  REQUIRE_OK(writer.write(dir.file("v.gguf")));
  const auto again = GgufFile::open(dir.file("v.gguf"));
  REQUIRE_OK(again);
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    const auto a = file->get_strings(key).value();
    const auto b = again->get_strings(key).value();
    CHECK(std::equal(a.begin(), a.end(), b.begin(), b.end()));
  }
  CHECK(again->get_ints("tokenizer.ggml.token_type").value() == file->get_ints("tokenizer.ggml.token_type").value());
  CHECK(again->get_string("tokenizer.ggml.pre").value() == "gpt-2");
  CHECK(not_held.empty());
}

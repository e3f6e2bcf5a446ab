// rwkv.cpp's files, made here byte by byte.
#include "core/formats/rwkv_cpp.h"

#include <cmath>
#include <cstring>

#include "tests/support/support.h"

namespace covey::formats {
namespace {

struct Builder {
  Bytes bytes;

  void word(std::uint32_t value) {
    const auto* from = reinterpret_cast<const std::uint8_t*>(&value);
    bytes.insert(bytes.end(), from, from + sizeof value);
  }
  void header(std::uint32_t version = 101, std::uint32_t vocab = 5) {
    for (const std::uint32_t value : {0x67676d66U, version, vocab, 4U, 1U, 0U}) word(value);
  }
  /// `sizes` as the file has them: the last axis first.
  void tensor(const std::string& name, const std::vector<std::uint32_t>& sizes, float first = 1,
              std::uint32_t type = 0) {
    word(static_cast<std::uint32_t>(sizes.size()));
    word(static_cast<std::uint32_t>(name.size()));
    word(type);
    std::uint32_t count = 1;
    for (const std::uint32_t size : sizes) {
      word(size);
      count *= size;
    }
    bytes.insert(bytes.end(), name.begin(), name.end());
    for (std::uint32_t i = 0; i < count; ++i) {
      const float value = first * static_cast<float>(i + 1);
      const auto half = static_cast<std::uint16_t>(0x3c00U + i);
      const auto* from =
          type == 0 ? reinterpret_cast<const std::uint8_t*>(&value) : reinterpret_cast<const std::uint8_t*>(&half);
      bytes.insert(bytes.end(), from, from + (type == 0 ? sizeof value : sizeof half));
    }
  }
};

Bytes version4() {
  Builder b;
  b.header(100);
  b.tensor("emb.weight", {4, 5});
  b.tensor("blocks.0.att.time_mix_k", {4});
  b.tensor("blocks.0.att.key.weight", {4, 6});
  b.tensor("blocks.0.ffn.key.weight", {4, 7}, 1, 1);
  b.tensor("blocks.0.att.time_decay", {6}, -1);
  b.tensor("head.weight", {4, 5});
  return b.bytes;
}

Bytes version7() {
  Builder b;
  b.header();
  b.tensor("blocks.0.att.x_rwkvag", {4, 1, 6});
  b.tensor("blocks.0.att.r_k", {2, 2});
  b.tensor("blocks.0.att.w0", {4, 1, 1});
  for (const char* name : {"w1", "a1", "g1"}) b.tensor(std::string("blocks.0.att.") + name, {4, 3});
  b.tensor("blocks.0.att.ln_x.weight", {4});
  b.tensor("blocks.0.ln0.bias", {4});
  b.tensor("blocks.0.ffn.key.weight", {4, 9});
  b.tensor("blocks.0.att.receptance.weight", {4, 4});
  b.tensor("ln_out.weight", {4});
  return b.bytes;
}

std::vector<float> values(const RwkvCppFile& file, const std::string& name, const std::vector<std::int64_t>& shape) {
  CAPTURE(name);
  std::size_t count = 1;
  for (const std::int64_t size : shape) count *= static_cast<std::size_t>(size);
  std::vector<float> out(count);
  REQUIRE_OK(file.read(name, shape, out));
  return out;
}

}  // namespace

TEST_CASE("rwkv.cpp: a file of version 4 has Hugging Face's names, sizes and decays") {
  const Bytes bytes = version4();
  const auto file = RwkvCppFile::parse(bytes, "f");
  REQUIRE_OK(file);
  CHECK(file->rwkv_version() == 4);
  CHECK(file->vocab() == 5);
  CHECK(file->config().get_int("attention_hidden_size").value() == 6);
  CHECK(file->config().get_int("intermediate_size").value() == 7);
  CHECK(values(*file, "rwkv.embeddings.weight", {5, 4})[7] == 8);
  CHECK(values(*file, "rwkv.blocks.0.attention.time_mix_key", {1, 1, 4}) == std::vector<float>{1, 2, 3, 4});
  CHECK(values(*file, "rwkv.blocks.0.feed_forward.key.weight", {7, 4})[0] == 1);  // f16
  const auto decay = values(*file, "rwkv.blocks.0.attention.time_decay", {6});
  for (std::size_t i = 0; i < 6; ++i) CHECK(-std::exp(decay[i]) == doctest::Approx(-static_cast<double>(i + 1)));
  CHECK(file->find("rwkv.embeddings.weight", {4, 5}).error().code == ErrorCode::corrupt_data);
  CHECK(file->find("rwkv.ln_out.weight", {4}).error().code == ErrorCode::not_found);
}

TEST_CASE("rwkv.cpp: a file of version 7 has flash-linear-attention's names, its stacked mixes apart") {
  const Bytes bytes = version7();
  const auto file = RwkvCppFile::parse(bytes, "f");
  REQUIRE_OK(file);
  CHECK(file->rwkv_version() == 7);
  CHECK(file->config().get_int("head_dim").value() == 2);
  CHECK(file->config().get_int("decay_low_rank_dim").value() == 3);
  CHECK(file->config().get_int("intermediate_size").value() == 9);
  CHECK(values(*file, "model.layers.0.attn.x_r", {1, 1, 4}) == std::vector<float>{1, 2, 3, 4});
  CHECK(values(*file, "model.layers.0.attn.x_g", {1, 1, 4}) == std::vector<float>{21, 22, 23, 24});
  CHECK(values(*file, "model.layers.0.attn.w_lora.lora.2.bias", {4})[3] == 4);
  for (const char* name : {"attn.w_lora.lora.0.weight", "attn.r_k", "attn.g_norm.weight", "pre_norm.bias",
                           "ffn.key.weight", "attn.r_proj.weight"}) {
    CAPTURE(name);
    CHECK(file->tensors().contains("model.layers.0." + std::string(name)));
  }
  CHECK(file->tensors().contains("model.norm.weight"));
}

TEST_CASE("rwkv.cpp: what is cut off, contradicts itself or is not computed is refused in one line") {
  const auto refusal = [](const Bytes& bytes) {
    const auto file = RwkvCppFile::parse(bytes, "f");
    REQUIRE_FALSE(file.ok());
    CHECK(file.error().message.starts_with("f: "));
    return file.error();
  };
  const auto made = [](auto&& fill, std::uint32_t version = 101, std::uint32_t vocab = 5) {
    Builder b;
    b.header(version, vocab);
    fill(b);
    return b.bytes;
  };
  const auto nothing = [](Builder&) {};
  CHECK(refusal({}).code == ErrorCode::corrupt_data);
  CHECK(refusal(made(nothing, 102)).code == ErrorCode::unsupported);
  CHECK(refusal(made(nothing, 101, 0)).message.find("n_vocab") != std::string::npos);
  CHECK(refusal(made(nothing)).message.find("5 or 6") != std::string::npos);
  CHECK(refusal(made([](Builder& b) { b.tensor("blocks.0.att.time_maa_x", {4}); })).code == ErrorCode::unsupported);
  CHECK(refusal(made([](Builder& b) {
          b.tensor("x", {4});
          b.tensor("x", {4});
        })).message.find("twice") != std::string::npos);
  CHECK(refusal(made([](Builder& b) {
          b.tensor("blocks.0.att.r_k", {2, 2});
        })).message.find("ffn.key") != std::string::npos);
  CHECK(refusal(made([](Builder& b) { b.tensor("x", {1, 1, 1, 1, 1}); })).code == ErrorCode::corrupt_data);
  CHECK(refusal(made([](Builder& b) {
          b.tensor("blocks.0.att.x_rwkvag", {4, 5}), b.tensor("blocks.0.att.r_k", {2, 2});
        })).message.find("six rows") != std::string::npos);
  CHECK(refusal(made([](Builder& b) {
          for (const std::uint32_t value : {1U, 1U, 2U, 32U}) b.word(value);
          b.bytes.push_back('q');
        })).message.find("quantized") != std::string::npos);
  const Bytes whole = version7();
  for (const std::size_t length : {30U, 60U, 100U}) {
    CHECK(refusal(Bytes(whole.begin(), whole.begin() + length)).message.find("cut off") != std::string::npos);
  }
}

}  // namespace covey::formats

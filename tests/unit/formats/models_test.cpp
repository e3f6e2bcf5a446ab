#include <cstring>
#include <filesystem>
#include <limits>

#include "core/base/file.h"
#include "core/formats/hf_directory.h"
#include "core/formats/llama2c.h"
#include "support/support.h"

using namespace covey;           // NOLINT
using namespace covey::formats;  // NOLINT

namespace {
Bytes header_bytes(std::vector<std::int32_t> fields, std::size_t data_floats) {
  Bytes bytes(fields.size() * 4 + data_floats * 4);
  if (!fields.empty()) std::memcpy(bytes.data(), fields.data(), fields.size() * 4);
  return bytes;
}

template <typename T>
void check_refused(const Result<T>& result, const std::string& expected) {
  REQUIRE_FALSE(result.ok());
  CAPTURE(result.error().message);
  CHECK(result.error().message.find(expected) != std::string::npos);
  CHECK(result.error().message.find('\n') == std::string::npos);
  CHECK(exit_code(result.error()) == 2);
}
}  // namespace

TEST_CASE("llama2.c: a model is cut into its tensors") {
  // dim 4, hidden 6, 2 layers, 2 heads, 1 kv head, untied vocabulary of 3, 5 positions
  const int per_layer = 4 + 16 + 8 + 8 + 16 + 4 + 24 + 24 + 24;
  const int floats = 12 + 2 * per_layer + 4 + 5 * 2 + 12;
  Bytes bytes = header_bytes({4, 6, 2, 2, 1, -3, 5}, static_cast<std::size_t>(floats));
  for (int i = 0; i < floats; ++i) {
    const auto value = static_cast<float>(i);
    std::memcpy(bytes.data() + 28 + i * 4, &value, 4);
  }
  const test::TempDir dir;
  REQUIRE_OK(write_file_durably(dir.file("m.bin"), ByteSpan(bytes)));
  const auto file = Llama2cFile::open(dir.file("m.bin"));
  REQUIRE_OK(file);
  CHECK_FALSE(file->header().tied);
  CHECK(file->header().kv_dim() == 2);
  CHECK(file->token_embedding()[11] == 11);
  CHECK(file->layers()[1].rms_att[0] == 16);
  CHECK(file->layers()[0].wq[0] == 20);
  CHECK(file->layers()[1].wk[0] == 20 + 32 + 8);
  CHECK(file->layers()[1].w3.back() == 12 + 2 * per_layer - 1);
  CHECK(file->rms_final()[0] == 12 + 2 * per_layer);
  CHECK(file->classifier()[11] == floats - 1);
}

TEST_CASE("llama2.c: stories260K opens") {
  const auto path = test::data_path("stories260K/stories260K.bin");
  if (!path) return;
  const auto file = Llama2cFile::open(*path);
  REQUIRE_OK(file);
  CHECK(file->header().dim == 64);
  CHECK(file->header().vocab == 512);
  CHECK(file->header().tied);
  const auto tokenizer = test::data_path("stories260K/tok512.bin");
  if (!tokenizer) return;
  const auto pieces = read_llama2c_tokenizer(*tokenizer);
  REQUIRE_OK(pieces);
  CHECK(pieces->size() == 512);
  CHECK((*pieces)[3].bytes == "<0x00>");
}

TEST_CASE("broken llama2.c files are refused with one line") {
  const std::int32_t big = std::numeric_limits<std::int32_t>::max();
  const std::int32_t low = std::numeric_limits<std::int32_t>::min();
  const struct {
    const char* why;
    Bytes file;
    const char* expected;
  } cases[] = {
      {"empty", {}, "too short"},
      {"half a header", header_bytes({4, 6, 2}, 0), "too short"},
      {"header alone", header_bytes({4, 6, 2, 2, 1, 3, 5}, 0), "asks for"},
      {"one float short", header_bytes({4, 6, 1, 2, 1, 3, 5}, 12 + 128 + 4 + 10 - 1), "asks for"},
      {"one float more", header_bytes({4, 6, 1, 2, 1, 3, 5}, 12 + 128 + 4 + 10 + 1), "asks for"},
      {"dim 0", header_bytes({0, 6, 1, 2, 1, 3, 5}, 9), "dim is 0"},
      {"negative dim", header_bytes({-4, 6, 1, 2, 1, 3, 5}, 9), "dim is -4"},
      {"everything huge", header_bytes({big, big, big, big, big, big, big}, 9), "dim is"},
      {"largest in range", header_bytes({65536, 1 << 20, 1024, 256, 256, 1 << 24, 1 << 24}, 9), "asks for"},
      {"hidden huge", header_bytes({4, big, 1, 2, 1, 3, 5}, 9), "hidden_dim"},
      {"layers huge", header_bytes({4, 6, big, 2, 1, 3, 5}, 9), "n_layers"},
      {"more heads than dim", header_bytes({4, 6, 1, 8, 1, 3, 5}, 9), "n_heads"},
      {"no heads", header_bytes({4, 6, 1, 0, 1, 3, 5}, 9), "n_heads"},
      {"no kv heads", header_bytes({4, 6, 1, 2, 0, 3, 5}, 9), "n_kv_heads"},
      {"more kv heads than heads", header_bytes({4, 6, 1, 2, 4, 3, 5}, 9), "n_kv_heads"},
      {"heads do not divide dim", header_bytes({4, 6, 1, 3, 1, 3, 5}, 9), "divide"},
      {"kv heads do not divide heads", header_bytes({12, 6, 1, 3, 2, 3, 5}, 9), "divide"},
      {"odd head", header_bytes({6, 6, 1, 2, 1, 3, 5}, 9), "even"},
      {"no vocabulary", header_bytes({4, 6, 1, 2, 1, 0, 5}, 9), "vocab_size"},
      {"vocabulary of INT_MIN", header_bytes({4, 6, 1, 2, 1, low, 5}, 9), "vocab_size"},
      {"no positions", header_bytes({4, 6, 1, 2, 1, 3, 0}, 9), "seq_len"},
  };
  const test::TempDir dir;
  for (const auto& c : cases) {
    CAPTURE(c.why);
    REQUIRE_OK(write_file_durably(dir.file("m.bin"), ByteSpan(c.file)));
    check_refused(Llama2cFile::open(dir.file("m.bin")), c.expected);
  }
  check_refused(Llama2cFile::open(dir.file("none.bin")), "none.bin");
}

TEST_CASE("broken tokenizer.bin files are refused with one line") {
  const auto file = [](std::uint32_t longest, float score, std::uint32_t length, const std::string& text) {
    Bytes bytes(12 + text.size());
    std::memcpy(bytes.data(), &longest, 4);
    std::memcpy(bytes.data() + 4, &score, 4);
    std::memcpy(bytes.data() + 8, &length, 4);
    if (!text.empty()) std::memcpy(bytes.data() + 12, text.data(), text.size());
    return bytes;
  };
  REQUIRE_OK(parse_llama2c_tokenizer(file(3, -1, 3, "abc"), "t"));
  const Bytes good = file(3, -1, 3, "abc");
  check_refused(parse_llama2c_tokenizer(Bytes(), "t"), "too short");
  check_refused(parse_llama2c_tokenizer(ByteSpan(good).first(4), "t"), "no tokens");
  check_refused(parse_llama2c_tokenizer(ByteSpan(good).first(7), "t"), "cut off in token 0");
  check_refused(parse_llama2c_tokenizer(ByteSpan(good).first(14), "t"), "cut off in token 0");
  check_refused(parse_llama2c_tokenizer(file(3, -1, 3, "abcd"), "t"), "cut off in token 1");
  check_refused(parse_llama2c_tokenizer(file(3, -1, 4, "abcd"), "t"), "over the stated maximum");
  check_refused(parse_llama2c_tokenizer(file(3, -1, 0xFFFFFFFF, "abc"), "t"), "over the stated maximum");
  check_refused(parse_llama2c_tokenizer(file(0, -1, 0, ""), "t"), "longest token");
  check_refused(parse_llama2c_tokenizer(file(0xFFFFFFFF, -1, 3, "abc"), "t"), "longest token");
  check_refused(parse_llama2c_tokenizer(file(3, std::numeric_limits<float>::quiet_NaN(), 3, "abc"), "t"), "finite");
}

TEST_CASE("a Hugging Face directory is read over one file or several") {
  const test::TempDir dir;
  const std::vector<float> one = {1, 2};
  const std::vector<float> two = {3, 4};
  const TensorView first[] = {f32_view("a", {2}, one)};
  const TensorView second[] = {f32_view("b", {1, 2}, two)};
  check_refused(HfDirectory::open(dir.path() + "/none"), "no such directory");
  check_refused(HfDirectory::open(dir.path()), "config.json");
  REQUIRE_OK(write_file_durably(dir.file("config.json"), std::string_view("[]")));
  check_refused(HfDirectory::open(dir.path()), "not a JSON object");
  REQUIRE_OK(write_file_durably(dir.file("config.json"), std::string_view(R"({"model_type": "llama"})")));
  check_refused(HfDirectory::open(dir.path()), "neither");
  REQUIRE_OK(write_file_durably(dir.file("pytorch_model.bin"), std::string_view("x")));
  check_refused(HfDirectory::open(dir.path()), "pickle");
  REQUIRE_OK(write_safetensors(dir.file("s1.safetensors"), first));
  REQUIRE_OK(write_safetensors(dir.file("s2.safetensors"), second));
  REQUIRE_OK(write_safetensors(dir.file("s3.safetensors"), second));
  const auto with_index = [&](const std::string& text) {
    REQUIRE_OK(write_file_durably(dir.file("model.safetensors.index.json"), std::string_view(text)));
    return HfDirectory::open(dir.path());
  };
  const auto sharded = with_index(R"({"weight_map": {"a": "s1.safetensors", "b": "s2.safetensors"}})");
  REQUIRE_OK(sharded);
  CHECK(sharded->tensor_names() == std::vector<std::string>{"a", "b"});
  CHECK(as_f32(*sharded->find("b")).value()[1] == 4);
  CHECK_FALSE(sharded->get("c").ok());
  check_refused(with_index("{"), "not valid JSON");
  check_refused(with_index("{}"), "weight_map: is missing");
  check_refused(with_index(R"({"weight_map": {}})"), "names no file");
  check_refused(with_index(R"({"weight_map": {"a": 1}})"), "expected a string");
  check_refused(with_index(R"({"weight_map": {"a": "../s1.safetensors"}})"), "same directory");
  check_refused(with_index(R"({"weight_map": {"a": "/etc/passwd"}})"), "same directory");
  check_refused(with_index(R"({"weight_map": {"a": "s9.safetensors"}})"), "s9.safetensors");
  check_refused(with_index(R"({"weight_map": {"b": "s1.safetensors"}})"), "does not");
  check_refused(with_index(R"({"weight_map": {"b": "s1.safetensors", "a": "s2.safetensors"}})"), "does not");
  check_refused(with_index(R"({"weight_map": {"a": "s1.safetensors", "b": "s2.safetensors", "c": "s3.safetensors"}})"),
                "another file");
  REQUIRE_OK(write_safetensors(dir.file("model.safetensors"), first));
  const auto single = HfDirectory::open(dir.path());
  REQUIRE_OK(single);
  CHECK(single->find("b") == nullptr);
  CHECK(single->tokenizer_path().empty());
}

#include "core/formats/safetensors.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "support/support.h"

using namespace covey;           // NOLINT
using namespace covey::formats;  // NOLINT

TEST_CASE("safetensors: what is written is read back bit for bit, sorted and padded") {
  const test::TempDir dir;
  const std::vector<float> a = {1.5f, -0.0f, std::numeric_limits<float>::denorm_min(), 4, 5, 6};
  const std::vector<std::uint8_t> small = {1, 2, 3};
  const std::vector<float> none;
  const TensorView tensors[] = {{"z8", DType::u8, {3}, small},
                                f32_view("b", {2, 3}, a),
                                f32_view("a", {6}, a),
                                f32_view("scalar", {}, std::span(a).first(1)),
                                f32_view("empty", {0, 4}, none)};
  REQUIRE_OK(write_safetensors(dir.file("m.safetensors"), tensors, {{"format", "pt"}}));
  const auto bytes = read_file(dir.file("m.safetensors"));
  REQUIRE_OK(bytes);
  CHECK((*bytes)[0] % 8 == 0);
  CHECK(as_text(*bytes).substr(8, 40) == R"({"__metadata__":{"format":"pt"},"a":{"dt)");

  const auto file = SafetensorsFile::open(dir.file("m.safetensors"));
  REQUIRE_OK(file);
  REQUIRE(file->tensors().size() == 5);
  CHECK(file->tensors().back().name == "z8");
  CHECK(file->metadata().at("format") == "pt");
  CHECK(file->find("b")->shape == std::vector<std::int64_t>{2, 3});
  const auto back = as_f32(*file->find("b"));
  REQUIRE_OK(back);
  CHECK(std::memcmp(back->data(), a.data(), a.size() * 4) == 0);
  CHECK(to_f32(*file->find("scalar")).value() == std::vector<float>{1.5f});
  CHECK(file->find("nothing") == nullptr);
  CHECK_FALSE(to_f32(*file->find("z8")).ok());

  const TensorView wrong[] = {f32_view("w", {7}, a)};
  CHECK_FALSE(write_safetensors(dir.file("w"), wrong).ok());
  const TensorView twice[] = {f32_view("w", {6}, a), f32_view("w", {6}, a)};
  CHECK_FALSE(write_safetensors(dir.file("w"), twice).ok());
}

TEST_CASE("half precision widens exactly") {
  CHECK(f16_to_f32(0x3C00) == 1.0f);
  CHECK(f16_to_f32(0xC500) == -5.0f);
  CHECK(f16_to_f32(0x7BFF) == 65504.0f);
  CHECK(f16_to_f32(0x0001) == std::ldexp(1.0f, -24));
  CHECK(f16_to_f32(0x83FF) == -1023 * std::ldexp(1.0f, -24));
  CHECK(std::isinf(f16_to_f32(0xFC00)));
  CHECK(std::isnan(f16_to_f32(0x7E00)));
  CHECK(std::signbit(f16_to_f32(0x8000)));
  CHECK(bf16_to_f32(0xBF80) == -1.0f);
}

TEST_CASE("safetensors: a file of the golden set is read") {
  const auto path = test::golden_path("llama/golden.safetensors");
  if (!path) return;
  const auto file = SafetensorsFile::open(*path);
  REQUIRE_OK(file);
  CHECK(to_i64(*file->find("input_ids")).value().size() == 2 * 24);
  CHECK(to_f64(*file->find("jvp")).value().size() == 1);
  CHECK(as_f32(*file->find("logits")).value().size() == 2 * 24 * 131);
}

namespace {
Bytes with_header(const std::string& header, std::size_t data_bytes, std::int64_t claimed = -1) {
  const std::uint64_t n = claimed < 0 ? header.size() : static_cast<std::uint64_t>(claimed);
  Bytes file(8 + header.size() + data_bytes);
  std::memcpy(file.data(), &n, 8);
  std::memcpy(file.data() + 8, header.data(), header.size());
  return file;
}
}  // namespace

TEST_CASE("hostile safetensors files are refused with one line") {
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  REQUIRE_OK(parse_safetensors(with_header(good, 8), "f"));
  const struct {
    const char* why;
    Bytes file;
    const char* expected;
  } cases[] = {
      {"empty", {}, "too short"},
      {"seven bytes", Bytes(7), "too short"},
      {"header longer than the file", with_header(good, 8, 1000), "claims a header"},
      {"header of 2^63", with_header(good, 8, std::numeric_limits<std::int64_t>::max()), "limit"},
      {"header of nothing", with_header("", 0), "start with {"},
      {"array as header", with_header("[]", 0), "start with {"},
      {"leading space", with_header(" {}", 0), "start with {"},
      {"cut JSON", with_header(good.substr(0, 20), 8), "not valid JSON"},
      {"data cut", with_header(good, 7), "cut off"},
      {"data too long", with_header(good, 9), "belong to no tensor"},
      {"gap", with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12), "gap"},
      {"overlap",
       with_header(
           R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
           12),
       "overlap"},
      {"same bytes twice",
       with_header(
           R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
           8),
       "overlap"},
      {"name twice",
       with_header(
           R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
           2),
       "twice"},
      {"shape too large for its bytes", with_header(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
       "needs 12"},
      {"product overflows",
       with_header(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0), "overflows"},
      {"negative size", with_header(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8), "negative"},
      {"fractional size", with_header(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8), "integer"},
      {"begin after end", with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8), "begin"},
      {"three offsets", with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4,8]}})", 8), "begin"},
      {"negative offset", with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}})", 8), "begin"},
      {"offsets beyond 2^63",
       with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}})", 8), "too large"},
      {"unknown type", with_header(R"({"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}})", 8), "F33"},
      {"no type", with_header(R"({"a":{"shape":[2],"data_offsets":[0,8]}})", 8), "missing"},
      {"tensor is a number", with_header(R"({"a":5})", 0), "no object"},
      {"metadata holds a number", with_header(R"({"__metadata__":{"a":5}})", 0), "no string"},
      {"deep header", with_header(R"({"a":[[[[[[1]]]]]]})", 0), "nested"},
      {"invalid UTF-8 in a name", with_header("{\"\xff\":{}}", 0), "UTF-8"},
      {"many dimensions",
       with_header(R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1),
       "dimensions"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.why);
    const auto result = parse_safetensors(c.file, "f.safetensors");
    REQUIRE_FALSE(result.ok());
    CAPTURE(result.error().message);
    CHECK(result.error().message.find(c.expected) != std::string::npos);
    CHECK(result.error().message.starts_with("f.safetensors"));
    CHECK(result.error().message.find('\n') == std::string::npos);
    CHECK(exit_code(result.error()) == 2);
  }
}

TEST_CASE("weights that the reference library wrote come out byte for byte") {
  for (const char* name : {"llama/model.safetensors", "bert/model.safetensors", "gpt2/model.safetensors"}) {
    const auto path = test::golden_path(name);
    if (!path) return;
    CAPTURE(name);
    const auto file = SafetensorsFile::open(*path);
    REQUIRE_OK(file);
    const test::TempDir dir;
    REQUIRE_OK(write_safetensors(dir.file("again"), file->tensors(), file->metadata()));
    const auto before = read_file(*path);
    const auto after = read_file(dir.file("again"));
    REQUIRE_OK(before);
    REQUIRE_OK(after);
    CHECK(*before == *after);
  }
}

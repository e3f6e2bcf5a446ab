#include "core/formats/gguf.h"

#include <cstring>
#include <functional>

#include "support/support.h"

using namespace covey;           // NOLINT
using namespace covey::formats;  // NOLINT

namespace {

/// Writes GGUF by hand, so that each rule can be broken.
struct Builder {
  std::uint32_t version = 3;
  std::int64_t entries = 0;
  std::int64_t tensors = 0;
  std::uint64_t alignment = 32;
  Bytes metadata;
  Bytes infos;
  Bytes data;

  template <typename T>
  static void put(Bytes& out, T value) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&value);
    out.insert(out.end(), bytes, bytes + sizeof value);
  }
  static void put(Bytes& out, std::string_view text) {
    put(out, std::uint64_t{text.size()});
    out.insert(out.end(), text.begin(), text.end());
  }
  Builder& key(std::string_view name, GgufType type) {
    put(metadata, name);
    put(metadata, static_cast<std::uint32_t>(type));
    ++entries;
    return *this;
  }
  template <typename T>
  Builder& value(std::string_view name, GgufType type, T item) {
    key(name, type);
    put(metadata, item);
    return *this;
  }
  Builder& array(std::string_view name, GgufType type, std::uint64_t count) {
    key(name, GgufType::array);
    put(metadata, static_cast<std::uint32_t>(type));
    put(metadata, count);
    return *this;
  }
  Builder& tensor(std::string_view name, const std::vector<std::int64_t>& ne, std::uint32_t type, std::size_t bytes,
                  std::int64_t offset_error = 0) {
    put(infos, name);
    put(infos, static_cast<std::uint32_t>(ne.size()));
    for (const std::int64_t n : ne) put(infos, n);
    put(infos, type);
    put(infos, static_cast<std::uint64_t>(static_cast<std::int64_t>(data.size()) + offset_error));
    for (std::size_t i = 0; i < bytes; ++i) data.push_back(static_cast<std::uint8_t>(i));
    while (data.size() % alignment != 0) data.push_back(0);
    ++tensors;
    return *this;
  }
  [[nodiscard]] Bytes bytes() const {
    Bytes out = {'G', 'G', 'U', 'F'};
    put(out, version);
    put(out, tensors);
    put(out, entries);
    out.insert(out.end(), metadata.begin(), metadata.end());
    out.insert(out.end(), infos.begin(), infos.end());
    while (tensors > 0 && out.size() % alignment != 0) out.push_back(0);
    out.insert(out.end(), data.begin(), data.end());
    return out;
  }
};

/// The error of a file built by `build`, or "accepted".
std::string error_of(const std::function<void(Builder&)>& build) {
  Builder builder;
  build(builder);
  const Bytes file = builder.bytes();
  const auto parsed = GgufFile::parse(file, "m.gguf");
  return parsed.ok() ? "accepted" : parsed.error().message;
}

}  // namespace

TEST_CASE("GGUF: values of every type are read with their types and getters check them") {
  Builder b;
  b.value("u8", GgufType::u8, std::uint8_t{200}).value("i8", GgufType::i8, std::int8_t{-3});
  b.value("u16", GgufType::u16, std::uint16_t{60000}).value("i16", GgufType::i16, std::int16_t{-300});
  b.value("u32", GgufType::u32, std::uint32_t{4000000000}).value("i32", GgufType::i32, std::int32_t{-7});
  b.value("u64", GgufType::u64, std::uint64_t{1} << 63).value("i64", GgufType::i64, std::int64_t{-9});
  b.value("f32", GgufType::f32, 0.1F).value("f64", GgufType::f64, 0.1).value("yes", GgufType::boolean, std::uint8_t{1});
  b.value("text", GgufType::string, std::string_view("a\0b\xff", 4));
  b.array("words", GgufType::string, 2);
  Builder::put(b.metadata, std::string_view("one"));
  Builder::put(b.metadata, std::string_view(""));
  b.array("ints", GgufType::i16, 2);
  Builder::put(b.metadata, std::int16_t{5});
  Builder::put(b.metadata, std::int16_t{-5});
  b.array("none", GgufType::f32, 0);
  const Bytes bytes = b.bytes();
  const auto file = GgufFile::parse(bytes, "m.gguf");
  REQUIRE_OK(file);
  CHECK(file->entries().size() == 15);
  CHECK(file->get_int("u8").value() == 200);
  CHECK(file->get_int("i8").value() == -3);
  CHECK(file->get_int("u16").value() == 60000);
  CHECK(file->get_int("i16").value() == -300);
  CHECK(file->get_int("u32").value() == 4000000000);
  CHECK(file->get_int("i32").value() == -7);
  CHECK(file->get_int("i64").value() == -9);
  CHECK_FALSE(file->get_int("u64").ok());
  CHECK(file->get_double("u64").value() == 0x1p63);
  CHECK(file->get_double("f32").value() == double{0.1F});
  CHECK(file->get_double("f64").value() == 0.1);
  CHECK(file->get_bool("yes").value());
  CHECK(file->get_string("text").value() == std::string("a\0b\xff", 4));
  CHECK(file->get_strings("words").value()[0] == "one");
  CHECK(file->get_strings("words").value()[1].empty());
  CHECK(file->get_ints("ints").value() == std::vector<std::int64_t>{5, -5});
  CHECK(file->get_doubles("none").value().empty());

  CHECK(file->get_int("missing", 4).value() == 4);
  CHECK_FALSE(file->get_int("f32", 4).ok());
  CHECK(file->get_int("missing").error().message == "m.gguf: missing is missing from its metadata");
  CHECK(file->get_int("f32").error().message == "m.gguf: f32 is a value of type f32, must be an integer");
  CHECK(file->get_string("words").error().message == "m.gguf: words is an array of string, must be a string");
  CHECK(file->get_int_between("u8", 1, 100).error().message == "m.gguf: u8 is 200, must lie in 1..100");
}

TEST_CASE("GGUF: tensors of version 2 and 3 are read with shapes outermost first and aligned bytes") {
  for (const std::uint32_t version : {2U, 3U}) {
    Builder b;
    b.version = version;
    b.alignment = 64;
    b.value("general.alignment", GgufType::u32, std::uint32_t{64});
    b.tensor("scalar", {}, 0, 4).tensor("w", {3, 5}, 1, 30).tensor("q", {64, 2}, 2, 72);
    Bytes bytes = b.bytes();
    bytes.erase(bytes.end() - 20, bytes.end());  // the padding after the last tensor may be missing
    const auto file = GgufFile::parse(bytes, "m.gguf");
    REQUIRE_OK(file);
    CHECK(file->version() == version);
    REQUIRE(file->tensors().size() == 3);
    CHECK(file->find("scalar")->elements() == 1);
    CHECK(file->get("w").value()->shape == std::vector<std::int64_t>{5, 3});
    CHECK(file->find("w")->is(GgmlType::f16));
    CHECK(file->find("q")->elements() == 128);
    CHECK(file->find("q")->bytes.size() == 72);
    CHECK(file->find("q")->bytes[71] == 71);
    CHECK(static_cast<std::size_t>(file->find("q")->bytes.data() - bytes.data()) % 64 == 0);
    CHECK(file->get("v").error().message == "m.gguf: holds no tensor v");
  }
}

TEST_CASE("GGUF: each broken rule of the structure is refused by name") {
  CHECK(error_of([](Builder& b) { b.tensor("w", {8}, 0, 32); }) == "accepted");
  const auto refused = [](const std::function<void(Builder&)>& build, const std::string& part) {
    const std::string error = error_of(build);
    CHECK_MESSAGE(error.find(part) != std::string::npos, error);
  };
  refused([](Builder& b) { b.version = 1; }, "version 1");
  refused([](Builder& b) { b.version = 0x03000000; }, "big-endian");
  refused([](Builder& b) { b.version = 9; }, "version 9");
  refused([](Builder& b) { b.entries = 1000; }, "more than its size allows");
  refused([](Builder& b) { b.tensors = std::int64_t{1} << 62; }, "more than its size allows");
  refused([](Builder& b) { b.tensors = -1; }, "more than its size allows");
  refused([](Builder& b) { b.value("", GgufType::u32, 1U); }, "not printable ASCII");
  refused([](Builder& b) { b.value("a\nb", GgufType::u32, 1U); }, "not printable ASCII");
  refused([](Builder& b) { b.value("k", static_cast<GgufType>(13), 1U); }, "value type");
  refused([](Builder& b) { b.value("k", GgufType::boolean, std::uint8_t{2}); }, "neither 0 nor 1");
  refused([](Builder& b) { b.value("k", GgufType::u32, 1U).value("k", GgufType::u32, 1U); }, "k is there twice");
  refused([](Builder& b) { b.array("k", GgufType::array, 1); }, "array of something");
  refused([](Builder& b) { b.array("k", GgufType::u64, ~std::uint64_t{0}); }, "cut off");
  refused([](Builder& b) { b.array("k", GgufType::string, std::uint64_t{1} << 61); }, "cut off");
  refused([](Builder& b) { b.value("k", GgufType::string, ~std::uint64_t{0}); }, "cut off");
  refused([](Builder& b) { b.value("general.alignment", GgufType::u32, 24U); }, "power of two");
  refused([](Builder& b) { b.value("general.alignment", GgufType::u32, 0U); }, "power of two");
  refused([](Builder& b) { b.tensor("w", {1, 1, 1, 1, 1}, 0, 4); }, "5 dimensions");
  refused([](Builder& b) { b.tensor("w", {0, 4}, 0, 0); }, "dimension of 0");
  refused([](Builder& b) { b.tensor("w", {-4}, 0, 16); }, "dimension of -4");
  refused([](Builder& b) { b.tensor("w", {std::int64_t{1} << 40, std::int64_t{1} << 40}, 0, 4); }, "overflows");
  refused([](Builder& b) { b.tensor("w", {std::int64_t{1} << 62}, 0, 4); }, "overflows");
  refused([](Builder& b) { b.tensor("w", {std::int64_t{1} << 60}, 0, 4); }, "more than the file has left");
  refused([](Builder& b) { b.tensor("w", {4}, 5, 16); }, "type number 5");
  refused([](Builder& b) { b.tensor("w", {31}, 8, 34); }, "do not fill blocks of Q8_0");
  refused([](Builder& b) { b.tensor("w", {8}, 0, 32).tensor("w", {8}, 0, 32); }, "w is there twice");
  refused([](Builder& b) { b.tensor("w", {8}, 0, 32, 32); }, "begins at byte 32");
  refused([](Builder& b) { b.tensor("v", {8}, 0, 32).tensor("w", {8}, 0, 32, -32); }, "must begin at 32");
  refused([](Builder& b) { b.tensor(std::string(65, 'w'), {8}, 0, 32); }, "64 printable");
  refused([](Builder& b) { b.tensor("w", {8}, 0, 64); }, "32 bytes at the end");
}

TEST_CASE("GGUF: a file cut off anywhere is refused") {
  Builder b;
  b.value("general.name", GgufType::string, std::string_view("x"));
  b.array("words", GgufType::string, 1);
  Builder::put(b.metadata, std::string_view("one"));
  b.tensor("w", {8}, 0, 32);
  const Bytes bytes = b.bytes();
  REQUIRE_OK(GgufFile::parse(bytes, "m.gguf"));
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(GgufFile::parse(ByteSpan(bytes).first(size), "m.gguf").ok());
  }
}

TEST_CASE("GGUF: vocabulary files of llama.cpp are read") {
  const struct {
    const char* name;
    const char* model;
    std::size_t tokens;
  } files[] = {{"llama-spm", "llama", 32000}, {"gpt-2", "gpt2", 50257}, {"bert-bge", "bert", 30522}};
  for (const auto& expected : files) {
    const auto path = test::data_path(std::string("ggml-vocab/ggml-vocab-") + expected.name + ".gguf");
    if (!path) return;
    const auto file = GgufFile::open(*path);
    REQUIRE_OK(file);
    CHECK(file->get_string("tokenizer.ggml.model").value() == expected.model);
    CHECK(file->get_strings("tokenizer.ggml.tokens").value().size() == expected.tokens);
    CHECK(file->tensors().empty());
  }
}

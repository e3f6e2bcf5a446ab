// Records of the caller's own, bounds, and the exact bytes. Expected bytes were written by hand from the format.
#include <doctest/doctest.h>

#include <limits>

#include "core/crypto/hash.h"
#include "core/wire/codec_impl.h"
#include "core/wire/message.h"
#include "property/random_message.h"
#include "support/support.h"

namespace covey::wire_test {

enum class Colour : std::uint16_t { red = 0, green = 1 };

struct Inner {
  std::string text;
  std::optional<std::uint32_t> number;
  template <class Archive>
  void serialize(Archive& a) {
    a(wire::bounded(text, 8), number);
  }
};

struct Row {
  bool flag = false;
  Colour colour = Colour::red;
  std::int64_t signed_number = 0;
  float single = 0;
  double real = 0;
  RoundId round;
  DeviceId device;
  crypto::Hash256 hash;
  std::vector<float> sum;
  std::vector<Inner> inner;
  std::map<std::string, std::uint16_t> counts;
  std::pair<std::uint8_t, std::string> pair;
  std::array<std::uint16_t, 2> numbers{};
  wire::TrainingReport report;
  template <class Archive>
  void serialize(Archive& a) {
    a(flag, wire::up_to(colour, Colour::green), signed_number, single, real, round, device, hash, sum, inner,
      wire::bounded(counts, 4), pair, numbers, report);
  }
};

struct Small {
  bool flag = false;
  Colour colour = Colour::red;
  std::vector<std::uint16_t> list;
  template <class Archive>
  void serialize(Archive& a) {
    a(flag, wire::up_to(colour, Colour::green), wire::bounded(list, 3));
  }
};

struct Maps {
  std::map<std::uint8_t, std::uint8_t> map;
  template <class Archive>
  void serialize(Archive& a) {
    a(map);
  }
};

struct Strings {
  std::vector<std::string> list;
  template <class Archive>
  void serialize(Archive& a) {
    a(list);
  }
};

}  // namespace covey::wire_test

COVEY_WIRE_RECORD(covey::wire_test::Row);
COVEY_WIRE_RECORD(covey::wire_test::Small);
COVEY_WIRE_RECORD(covey::wire_test::Maps);
COVEY_WIRE_RECORD(covey::wire_test::Strings);

using namespace covey;
using namespace covey::wire_test;

namespace {

Bytes hex(const std::string& text) {
  return *from_hex(text);
}

Row full_row() {
  Row row;
  row.flag = true;
  row.colour = Colour::green;
  row.signed_number = -2;
  row.single = 1.5F;
  row.real = -0.1;
  row.round = RoundId{77};
  row.device.key[31] = 5;
  row.hash.bytes[0] = 6;
  row.sum = {0.25F, -1.0F, std::numeric_limits<float>::infinity()};
  row.inner = {{"one", 1U}, {"", std::nullopt}};
  row.counts = {{"a", 1}, {"b", 2}};
  row.pair = {9, "nine"};
  row.numbers = {10, 11};
  row.report.loss_last = 2.5;
  return row;
}

}  // namespace

TEST_CASE("a record of every kind of field comes back as it was") {
  const Bytes bytes = wire::encode(full_row());
  const auto row = wire::decode<Row>(bytes);
  REQUIRE_OK(row);
  CHECK(row->flag);
  CHECK(row->colour == Colour::green);
  CHECK(row->signed_number == -2);
  CHECK(row->single == 1.5F);
  CHECK(row->real == -0.1);
  CHECK(row->round == RoundId{77});
  CHECK(row->device.key[31] == 5);
  CHECK(row->hash.bytes[0] == 6);
  CHECK(row->sum == full_row().sum);
  REQUIRE(row->inner.size() == 2);
  CHECK(row->inner[0].text == "one");
  CHECK(row->inner[0].number == 1U);
  CHECK_FALSE(row->inner[1].number.has_value());
  CHECK(row->counts == full_row().counts);
  CHECK(row->pair == full_row().pair);
  CHECK(row->numbers == full_row().numbers);
  CHECK(row->report.loss_last == 2.5);
  CHECK(wire::encode(*row) == bytes);
}

TEST_CASE("the bytes are little-endian, fixed in width, and without anything between") {
  Small small;
  small.flag = true;
  small.colour = Colour::green;
  small.list = {0x0102, 0xfffe};
  CHECK(to_hex(wire::encode(small)) ==
        "01"
        "0100"
        "02000000"
        "0201"
        "feff");
  Strings strings;
  strings.list = {"ab", ""};
  CHECK(to_hex(wire::encode(strings)) ==
        "02000000"
        "02000000"
        "6162"
        "00000000");
  Maps maps;
  maps.map = {{2, 3}, {1, 4}};
  CHECK(to_hex(wire::encode(maps)) ==
        "02000000"
        "0104"
        "0203");
  wire::CheckBack back;
  back.retry_after_ms = 1000;
  back.reason = wire::WaitReason::draining;
  CHECK(to_hex(wire::encode(back)) ==
        "e8030000"
        "03");
  wire::SubmitBegin begin;
  begin.report.loss_first = 1.0;
  CHECK(to_hex(ByteSpan(wire::encode(begin)).last(16)) ==
        "000000000000f03f"
        "0000000000000000");
}

TEST_CASE("bad records are refused with the place and the reason") {
  using wire::decode;
  const auto says = [](const auto& result, const char* text) {
    REQUIRE_FALSE(result.ok());
    CHECK_MESSAGE(result.error().message.find(text) != std::string::npos, result.error().message);
  };
  says(decode<Small>(hex("")), "byte 0: needs 1 bytes where 0 are left");
  says(decode<Small>(hex("02000000000000")), "neither 0 nor 1");
  says(decode<Small>(hex("01020000000000")), "unknown choice");
  says(decode<Small>(hex("0101000000000000")), "1 bytes follow");
  says(decode<Small>(hex("010100040000000100010001000100")), "at most 3 are allowed");
  CHECK(decode<Small>(hex("010100040000000100010001000100")).error().code == ErrorCode::resource_exhausted);
  says(decode<Small>(hex("0101000300000001000100")), "claims 3 elements");
  says(decode<Maps>(hex("0200000002030104")), "ascending");
  says(decode<Maps>(hex("0200000001030104")), "ascending");
  says(decode<Strings>(hex("ffffffff")), "claims 4294967295 elements where 0 bytes are left");
  says(decode<Strings>(hex("00000040")), "claims 1073741824 elements");
}

TEST_CASE("nine bytes that claim a gigabyte are refused") {
  for (const char* bytes : {"00000040ffffffffff", "0000004000000000ff", "ffffff7f0000000000"}) {
    CHECK(wire::decode<Strings>(hex(bytes)).error().code == ErrorCode::corrupt_data);
    CHECK_FALSE(wire::decode<Maps>(hex(bytes)).ok());
    CHECK_FALSE(wire::decode<wire::Manifest>(hex(bytes)).ok());
  }
}

TEST_CASE("a list of empty strings may not take more memory than its bytes warrant") {
  // 4 bytes on the wire, 32 in memory each: 20,000 of them would be 640 KB out of 80 KB.
  Strings strings;
  strings.list.resize(20000);
  const auto refused = wire::decode<Strings>(wire::encode(strings));
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().code == ErrorCode::resource_exhausted);
  strings.list.resize(1000);
  CHECK(wire::decode<Strings>(wire::encode(strings)).ok());
}

TEST_CASE("a file name that is a path is refused") {
  for (const char* name : {"", ".", "..", "a/b", "/etc/passwd", "../x"}) {
    wire::FileBlob file;
    file.name = name;
    CHECK_FALSE(wire::decode<wire::FileBlob>(wire::encode(file)).ok());
  }
  wire::FileBlob file;
  file.name = "model.safetensors";
  CHECK(wire::decode<wire::FileBlob>(wire::encode(file)).ok());
  file.name = std::string("a\0b", 3);
  CHECK_FALSE(wire::decode<wire::FileBlob>(wire::encode(file)).ok());
}

TEST_CASE("a thousand random messages have the same bytes on every machine") {
  // Changes whenever a message's fields change: then take the new value from x86-64, and let Arm64 confirm it.
  Rng rng(7);
  crypto::Hasher hasher;
  for (int repeat = 0; repeat < 50; ++repeat) {
    for (std::size_t i = 0; i < std::variant_size_v<wire::Message>; ++i) {
      const wire::Message message = wire::random_message(rng, i, 20);
      const RoundId round{rng.next_u64()};  // not inside the call: the order of arguments is the compiler's choice
      hasher.update(*wire::encode_frame(message, round, rng.next_u64()));
    }
  }
  CHECK(hasher.finish().hex() == "62b19b86ad0ef79c0d08ebe6545e44e9e06ea0b55241c61d757a409ce47ddcd8");
}

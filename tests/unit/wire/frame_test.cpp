#include "core/wire/frame.h"

#include <doctest/doctest.h>

#include <functional>

#include "core/wire/message.h"
#include "support/support.h"

using namespace covey;
using namespace covey::wire;

namespace {

Bytes good_frame() {
  ErrorReply message;
  message.complaint = Complaint::not_found;
  message.message = "no such blob";
  message.versions = {1, 2};
  return *encode_frame(message, RoundId{5}, 9);
}

void put_u32(Bytes& frame, std::size_t at, std::uint32_t value) {
  for (std::size_t i = 0; i < 4; ++i) frame[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
}

}  // namespace

TEST_CASE("the header lies byte for byte where the format says") {
  FrameHeader header;
  header.type = 48;
  header.round = 0x0102030405060708;
  header.sequence = 0x1112131415161718;
  const Bytes payload = {0xaa, 0xbb};
  const auto frame = build_frame(header, payload);
  REQUIRE_OK(frame);
  CHECK(to_hex(*frame) ==
        "43564559"
        "0100"
        "3000"
        "00000000"
        "02000000"
        "0807060504030201"
        "1817161514131211"
        "aabb");
  const auto view = parse_frame(*frame);
  REQUIRE_OK(view);
  CHECK(view->header.round == header.round);
  CHECK(view->header.sequence == header.sequence);
  CHECK(view->header.length == 2);
  CHECK(view->payload.data() == frame->data() + kFrameHeaderBytes);
}

TEST_CASE("bad frames are refused, each by one line that says why") {
  struct Case {
    const char* name;
    std::function<void(Bytes&)> damage;
    ErrorCode code;
    const char* says;
  };
  const auto payload = [](std::size_t i) { return kFrameHeaderBytes + i; };
  const Case cases[] = {
      {"empty", [](Bytes& f) { f.clear(); }, ErrorCode::corrupt_data, "fewer than its header"},
      {"one byte", [](Bytes& f) { f.resize(1); }, ErrorCode::corrupt_data, "fewer than its header"},
      {"header cut", [](Bytes& f) { f.resize(31); }, ErrorCode::corrupt_data, "fewer than its header"},
      {"other magic", [](Bytes& f) { f[0] = 'X'; }, ErrorCode::corrupt_data, "CVEY"},
      {"magic in lower case", [](Bytes& f) { f[3] = 'y'; }, ErrorCode::corrupt_data, "CVEY"},
      {"version 0", [](Bytes& f) { f[4] = 0; }, ErrorCode::unsupported, "spoken: 1"},
      {"version 2", [](Bytes& f) { f[4] = 2; }, ErrorCode::unsupported, "version 2 is not spoken here; spoken: 1"},
      {"version 65281", [](Bytes& f) { f[5] = 0xff; }, ErrorCode::unsupported, "spoken: 1"},
      {"type 0", [](Bytes& f) { f[6] = 0; }, ErrorCode::corrupt_data, "type 0 is unknown"},
      {"type 49", [](Bytes& f) { f[6] = 49; }, ErrorCode::corrupt_data, "type 49 is unknown"},
      {"a type kept for later phases", [](Bytes& f) { f[6] = 95; }, ErrorCode::corrupt_data, "type 95 is unknown"},
      {"type 65535", [](Bytes& f) { f[6] = f[7] = 0xff; }, ErrorCode::corrupt_data, "type 65535 is unknown"},
      {"a flag", [](Bytes& f) { f[8] = 1; }, ErrorCode::corrupt_data, "flags 1 are unknown"},
      {"the highest flag", [](Bytes& f) { f[11] = 0x80; }, ErrorCode::corrupt_data, "flags"},
      {"length one short", [](Bytes& f) { --f[12]; }, ErrorCode::corrupt_data, "follow"},
      {"length one long", [](Bytes& f) { ++f[12]; }, ErrorCode::corrupt_data, "follow"},
      {"length 1 GiB", [](Bytes& f) { put_u32(f, 12, 1U << 30); }, ErrorCode::corrupt_data, "says 1073741824"},
      {"length 4 GiB - 1", [](Bytes& f) { put_u32(f, 12, ~0U); }, ErrorCode::corrupt_data, "says 4294967295"},
      {"payload cut", [](Bytes& f) { f.pop_back(); }, ErrorCode::corrupt_data, "follow"},
      {"a byte more", [](Bytes& f) { f.push_back(0); }, ErrorCode::corrupt_data, "follow"},
      {"too large", [](Bytes& f) { f.resize(kFrameBytesMax + 1); }, ErrorCode::resource_exhausted, "294913 bytes"},
      {"unknown complaint", [&](Bytes& f) { f[payload(0)] = 99; }, ErrorCode::corrupt_data, "unknown choice"},
      {"text of 1 GiB", [&](Bytes& f) { put_u32(f, payload(1), 1U << 30); }, ErrorCode::corrupt_data,
       "error_reply: byte 5: claims 1073741824 elements"},
      {"text that swallows the list", [&](Bytes& f) { put_u32(f, payload(1), 20); }, ErrorCode::corrupt_data,
       "error_reply: byte 25: needs 4 bytes where 0 are left"},
      {"list of 2^31 numbers", [&](Bytes& f) { put_u32(f, payload(17), 1U << 31); }, ErrorCode::corrupt_data,
       "error_reply: byte 21: claims 2147483648 elements"},
      {"list one short", [&](Bytes& f) { put_u32(f, payload(17), 1); }, ErrorCode::corrupt_data, "2 bytes follow"},
  };
  CHECK(decode_frame(good_frame()).ok());
  for (const Case& c : cases) {
    CAPTURE(c.name);
    Bytes frame = good_frame();
    c.damage(frame);
    const auto refused = decode_frame(frame);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().code == c.code);
    CHECK_MESSAGE(refused.error().message.find(c.says) != std::string::npos, refused.error().message);
    CHECK(refused.error().message.find('\n') == std::string::npos);
  }
}

TEST_CASE("what is answered to a bad frame names the versions we speak") {
  Bytes frame = good_frame();
  frame[4] = 9;
  const ErrorReply reply = complaint_about(decode_frame(frame).error());
  CHECK(reply.complaint == Complaint::unknown_version);
  CHECK(reply.versions == std::vector<std::uint16_t>{1});
  CHECK(reply.message.find("version 9") != std::string::npos);
  frame.resize(3);
  CHECK(complaint_about(decode_frame(frame).error()).complaint == Complaint::malformed);
  frame.resize(kFrameBytesMax + 1);
  CHECK(complaint_about(decode_frame(frame).error()).complaint == Complaint::too_large);
}

TEST_CASE("a frame of exactly the largest size passes, one byte more is refused on both sides") {
  FrameHeader header;
  header.type = 48;
  const auto largest = build_frame(header, Bytes(kFrameBytesMax - kFrameHeaderBytes));
  REQUIRE_OK(largest);
  CHECK(largest->size() == kFrameBytesMax);
  CHECK(parse_frame(*largest).ok());
  CHECK(build_frame(header, Bytes(kFrameBytesMax - kFrameHeaderBytes + 1)).error().code ==
        ErrorCode::resource_exhausted);
  SubmitChunk chunk;
  chunk.bytes.resize(kChunkBytes);
  CHECK(decode_frame(*encode_frame(chunk)).ok());
  ManifestReply manifest;
  manifest.manifest.chunks.resize(8192);
  CHECK(decode_frame(*encode_frame(manifest)).ok());
}

TEST_CASE("every type number names one message and has a name") {
  int known = 0;
  for (std::uint32_t number = 0; number <= 0xffff; ++number) {
    const auto type = known_type(static_cast<std::uint16_t>(number));
    if (!type) continue;
    ++known;
    CHECK(static_cast<std::uint32_t>(*type) == number);
    CHECK(std::string(to_string(*type)) != "unknown");
  }
  CHECK(known == std::variant_size_v<Message>);
  CHECK(type_of(Message(Enroll{})) == MessageType::enroll);
  CHECK(type_of(Message(Welcome{})) == MessageType::welcome);
  CHECK(type_of(Message(TaskOffer{})) == MessageType::task_offer);
  CHECK(type_of(Message(SubmitChunk{})) == MessageType::submit_chunk);
  CHECK(type_of(Message(Receipt{})) == MessageType::receipt);
  CHECK(type_of(Message(ChunkReply{})) == MessageType::chunk_reply);
  CHECK(type_of(Message(ErrorReply{})) == MessageType::error_reply);
}

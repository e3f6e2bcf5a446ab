// What must hold for every message and every damaged frame: round trips, no crash, bounded memory.
#include <doctest/doctest.h>

#include <limits>

#include "core/wire/codec.h"
#include "core/wire/message.h"
#include "property/counting_allocator.h"
#include "property/random_message.h"
#include "support/support.h"

using namespace covey;
using namespace covey::wire;

namespace {

constexpr std::size_t kAlternatives = std::variant_size_v<Message>;

std::size_t allowed(std::size_t frame_bytes) {
  return 2 * frame_bytes + 64 * 1024;
}

/// Decodes; whatever is accepted must encode to the same bytes. Returns whether it was accepted.
bool decode_checked(const Bytes& frame) {
  test::start_counting_allocations();
  const auto decoded = decode_frame(frame);
  const std::size_t peak = test::peak_allocated_bytes();
  CHECK_MESSAGE(peak <= allowed(frame.size()), "frame " << frame.size() << " peak " << peak);
  if (!decoded.ok()) {
    CHECK_FALSE(decoded.error().message.empty());
    CHECK(decoded.error().message.find('\n') == std::string::npos);
    return false;
  }
  const auto again = encode_frame(decoded->message, decoded->round, decoded->sequence);
  REQUIRE_OK(again);
  CHECK(*again == frame);
  return true;
}

}  // namespace

TEST_CASE("random messages of every type come back as they were") {
  Rng rng(20261121);
  for (int repeat = 0; repeat < 40; ++repeat) {
    for (std::size_t i = 0; i < kAlternatives; ++i) {
      const Message message = random_message(rng, i, repeat % 2 == 0 ? 6 : 200);
      const RoundId round{rng.next_u64()};
      const auto frame = encode_frame(message, round, 7);
      REQUIRE_OK(frame);
      const auto back = decode_frame(*frame);
      REQUIRE_OK(back);
      CHECK(back->round == round);
      CHECK(back->sequence == 7);
      REQUIRE(back->message.index() == message.index());
      CHECK(type_of(back->message) == type_of(message));
      CHECK(decode_checked(*frame));
    }
  }
}

TEST_CASE("every truncation of a frame is refused") {
  Rng rng(1);
  for (std::size_t i = 0; i < kAlternatives; ++i) {
    Bytes frame = *encode_frame(random_message(rng, i, 12));
    while (!frame.empty()) {
      frame.pop_back();
      CHECK_FALSE(decode_checked(frame));
    }
  }
}

TEST_CASE("a truncated payload under a header that agrees with it is refused too") {
  Rng rng(2);
  for (std::size_t i = 0; i < kAlternatives; ++i) {
    const Bytes frame = *encode_frame(random_message(rng, i, 12));
    const FrameView view = *parse_frame(frame);
    for (std::size_t size = 0; size < view.payload.size(); ++size) {
      CHECK_FALSE(decode_checked(*build_frame(view.header, view.payload.first(size))));
    }
    Bytes longer(view.payload.begin(), view.payload.end());
    longer.push_back(0);
    CHECK_FALSE(decode_checked(*build_frame(view.header, longer)));
  }
}

TEST_CASE("every single flipped bit gives a valid message or a refusal, within the memory allowed") {
  Rng rng(3);
  std::size_t accepted = 0;
  std::size_t refused = 0;
  for (std::size_t i = 0; i < kAlternatives; ++i) {
    Bytes frame = *encode_frame(random_message(rng, i, 10));
    for (std::size_t bit = 0; bit < frame.size() * 8; ++bit) {
      frame[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
      ++(decode_checked(frame) ? accepted : refused);
      frame[bit / 8] ^= static_cast<std::uint8_t>(1U << (bit % 8));
    }
  }
  CHECK(accepted > 0);
  CHECK(refused > 0);
}

TEST_CASE("several random bytes changed at once neither crash nor take memory") {
  Rng rng(4);
  for (int repeat = 0; repeat < 4000; ++repeat) {
    Bytes frame = *encode_frame(random_message(rng, rng.below(kAlternatives), 10));
    const std::uint64_t changes = 1 + rng.below(8);
    for (std::uint64_t c = 0; c < changes; ++c) {
      const std::size_t at =
          rng.below(4) == 0 ? rng.below(frame.size()) : kFrameHeaderBytes + rng.below(frame.size() - kFrameHeaderBytes);
      frame[at] = rng.below(2) == 0 ? std::uint8_t{0xff} : static_cast<std::uint8_t>(rng.next_u32());
    }
    decode_checked(frame);
  }
}

TEST_CASE("the largest frames of small elements stay within the memory allowed") {
  // A list of empty things is where memory outgrows bytes: one FileBlob takes 44 bytes on the wire and 72 in memory.
  for (const std::uint16_t number : std::initializer_list<std::uint16_t>{4, 16, 18, 33, 48, 65, 66, 67, 68, 70, 71}) {
    for (const std::uint8_t fill : {std::uint8_t{0}, std::uint8_t{1}, std::uint8_t{0xff}}) {
      FrameHeader header;
      header.type = number;
      decode_checked(*build_frame(header, Bytes(kFrameBytesMax - kFrameHeaderBytes, fill)));
    }
  }
  RoundPlan plan;
  plan.task = "t";
  plan.adapter.name = "a";
  plan.model.resize(512);
  for (FileBlob& file : plan.model) file.name = "f";
  const Bytes bytes = encode(plan);
  test::start_counting_allocations();
  REQUIRE_OK(decode<RoundPlan>(bytes));
  CHECK(test::peak_allocated_bytes() <= allowed(bytes.size()));
}

TEST_CASE("the counter of allocations counts: a planted megabyte is seen") {
  test::start_counting_allocations();
  {
    const Bytes planted(1 << 20);
    CHECK(planted.size() == 1 << 20);
  }
  CHECK(test::peak_allocated_bytes() >= 1 << 20);
}

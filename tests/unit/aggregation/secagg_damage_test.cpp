// Damaged messages in both directions: a machine refuses, or the message was harmless. Never a crash, and never a sum
// that is not the one in the clear. Runs under sanitizers (label parser).
#include <algorithm>

#include "core/base/rng.h"
#include "core/wire/message.h"
#include "simulations/secagg_world.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;
using namespace covey::simulations;

namespace {

/// Another message of the same type, made by changing bytes of its frame; empty where no decoder takes it.
std::optional<wire::Message> damaged(const wire::Message& message, Rng& rng) {
  auto frame = wire::encode_frame(message);
  if (!frame.ok()) return std::nullopt;
  for (std::uint64_t changes = 1 + rng.below(3); changes > 0; --changes) {
    const std::size_t at = wire::kFrameHeaderBytes + rng.below(frame->size() - wire::kFrameHeaderBytes);
    (*frame)[at] = rng.below(2) == 0 ? static_cast<std::uint8_t>(rng.next_u32())
                                     : static_cast<std::uint8_t>((*frame)[at] ^ (1U << rng.below(8)));
  }
  auto decoded = wire::decode_frame(*frame);
  if (!decoded.ok() || decoded->message.index() != message.index()) return std::nullopt;
  return std::move(decoded->message);
}

SecAggWorldOptions six(std::uint64_t seed) {
  SecAggWorldOptions options;
  options.devices = 6;
  options.values = 4;
  options.weight_max = 3;
  options.survivors_min = 3;
  options.seed = seed;
  return options;
}

}  // namespace

TEST_CASE("damaged messages of the coordinator end a device's session or change nothing") {
  Rng rng(11);
  int completed = 0;
  int refused = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SecAggWorld world(six(seed));
    world.tamper = [&](std::uint32_t device, std::optional<wire::Message>& message) {
      if (!message || device != seed % 6) return;
      if (auto other = damaged(*message, rng); other) message = std::move(other);
    };
    const auto sum = world.run();
    for (const auto& device : world.devices) refused += device.client->reason() != wire::SecureReason::none ? 1 : 0;
    if (!sum.ok()) continue;
    ++completed;
    CHECK(*sum == *world.clear_sum(world.counted_masked()));
  }
  CHECK(completed > 30);
  CHECK(refused > 30);
}

TEST_CASE("damaged messages of a device are not counted, or the round's sum is that of what was counted, or it ends") {
  Rng rng(12);
  int completed = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SecAggWorld world(six(seed));
    const std::uint32_t bad = seed % 6;
    world.damage = [&](std::uint32_t device, wire::Message& message) {
      if (device != bad) return;
      if (auto other = damaged(message, rng); other) message = *std::move(other);
    };
    const auto sum = world.run();
    if (!sum.ok()) continue;
    ++completed;
    CHECK(*sum == *world.clear_sum(world.counted_masked()));
  }
  CHECK(completed > 30);
}

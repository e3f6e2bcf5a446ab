// Any bytes as a frame, and as the payload of each message: refused, or accepted and encoded to the same bytes.
#include <algorithm>
#include <cstdlib>

#include "core/wire/codec.h"
#include "core/wire/message.h"

using namespace covey;

namespace {

void check(ByteSpan frame) {
  const auto decoded = wire::decode_frame(frame);
  if (!decoded.ok()) {
    if (decoded.error().message.empty()) std::abort();
    return;
  }
  const auto again = wire::encode_frame(decoded->message, decoded->round, decoded->sequence);
  if (!again.ok() || !std::equal(again->begin(), again->end(), frame.begin(), frame.end())) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteSpan bytes(data, size);
  check(bytes);
  if (size < 1) return 0;
  // The header's checks would stop nearly all random bytes: here the first byte picks a type and the rest is its
  // payload.
  wire::FrameHeader header;
  header.type = data[0];
  const auto frame = wire::build_frame(header, bytes.subspan(1));
  if (frame.ok()) check(*frame);
  (void)wire::decode<wire::RoundPlan>(bytes);
  (void)wire::decode<wire::RosterEpoch>(bytes);
  (void)wire::decode<wire::ClearUpdate>(bytes);
  (void)wire::decode<wire::MaskedUpdate>(bytes);
  return 0;
}

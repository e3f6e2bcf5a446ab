#include "core/wire/signing.h"

namespace covey::wire {
namespace {

void append(Bytes& out, ByteSpan bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append(Bytes& out, std::uint64_t value) {
  for (int i = 0; i < 8; ++i) out.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

}  // namespace

Bytes signed_part(const Enroll& message) {
  Bytes out;
  append(out, message.invite);
  append(out, message.identity);
  append(out, message.curve);
  append(out, as_byte_span(message.name));
  return out;
}

Bytes signed_part(const Hello& message) {
  Bytes out;
  append(out, message.identity);
  append(out, message.curve);
  append(out, static_cast<std::uint64_t>(message.sent_ms));
  append(out, message.nonce);
  append(out, message.roster_epoch);
  return out;
}

Bytes signed_part(const Welcome& message, const Nonce& nonce) {
  Bytes out;
  append(out, nonce);
  append(out, static_cast<std::uint64_t>(message.server_ms));
  append(out, message.roster_epoch);
  return out;
}

}  // namespace covey::wire

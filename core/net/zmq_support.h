/// Internal to core/net: the process's one ZeroMQ context, and what both ends share.
#pragma once

#include <cstdint>
#include <string>
#include <zmq.hpp>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/wire/frame.h"

namespace covey::net {

inline constexpr std::size_t kCurveOverheadBytes = 33;  ///< nonce, tag and flags around each frame
/// ZMQ_MAXMSGSIZE, so that the largest frame of wire/frame.h still passes in its CURVE box.
inline constexpr std::int64_t kMaxMessageBytes = wire::kFrameBytesMax + 64;

namespace internal {

/// Made on first use and never ended: the end of a second context can crash libsodium's generator in libzmq 4.3.4.
zmq::context_t& process_context();

/// The last ZeroMQ error as ours, with `what` in front.
Error zmq_error(const std::string& what);

/// A message that owns `frame` without copying it.
zmq::message_t message_of(Bytes frame);

inline ByteSpan bytes_of(const zmq::message_t& message) {
  return {static_cast<const std::uint8_t*>(message.data()), message.size()};
}

/// Bytes that a single-part CURVE message of `payload` bytes takes on the wire (ZMTP 3.1 header, nonce, tag, flags).
constexpr std::uint64_t wire_bytes(std::size_t payload) {
  const std::uint64_t body = payload + kCurveOverheadBytes;
  return body + (body > 255 ? 9 : 2);
}

/// Reads one event of a socket monitor without waiting. False where none is left.
struct MonitorEvent {
  std::uint16_t event = 0;
  std::int32_t value = 0;  ///< a descriptor for most events
};
bool read_monitor(zmq::socket_t& monitor, MonitorEvent& event);

}  // namespace internal
}  // namespace covey::net

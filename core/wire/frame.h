/// The frame around every message: one transport part, little-endian, 32 bytes of header and the payload.
///
///   0  magic "CVEY"   4  version u16   6  type u16   8  flags u32   12  length u32   16  round u64   24  sequence u64
///
/// Source: security.md section 3. Magic and version keep their places in every version, so that each side can tell the
/// other what it speaks. Nothing is allocated before a frame is found good. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey::wire {

inline constexpr std::size_t kFrameHeaderBytes = 32;
inline constexpr std::size_t kFrameBytesMax = 288 * 1024;  ///< header included; ZMQ_MAXMSGSIZE
inline constexpr std::uint16_t kFrameVersion = 1;          ///< the only one spoken today

struct FrameHeader {
  std::uint16_t version = kFrameVersion;
  std::uint16_t type = 0;      ///< a MessageType
  std::uint32_t flags = 0;     ///< none is defined yet
  std::uint32_t length = 0;    ///< of the payload
  std::uint64_t round = 0;     ///< 0 = no round
  std::uint64_t sequence = 0;  ///< counts a sender's frames on one connection; an answer repeats the question's
};

struct FrameView {
  FrameHeader header;
  ByteSpan payload;  ///< inside the bytes given to parse_frame()
};

/// @errors unsupported: a version we do not speak (the message names those we do); resource_exhausted: larger than
/// kFrameBytesMax; corrupt_data: too short, another magic, unknown type or flags, or a length that differs from what
/// follows the header.
Result<FrameView> parse_frame(ByteSpan frame);

/// Header and payload as one byte string; length and version are filled in.
/// @errors resource_exhausted: the frame would be larger than kFrameBytesMax.
Result<Bytes> build_frame(FrameHeader header, ByteSpan payload);

}  // namespace covey::wire

/// Messages in frames: what drivers call. Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <optional>

#include "core/base/bytes.h"
#include "core/base/ids.h"
#include "core/base/result.h"
#include "core/wire/frame.h"
#include "core/wire/messages.h"

namespace covey::wire {

/// The message whose frames carry this number; empty for unknown ones.
std::optional<MessageType> known_type(std::uint16_t number);
MessageType type_of(const Message& message);
/// "task_offer", for logs.
const char* to_string(MessageType type);

struct Envelope {
  RoundId round;               ///< from the header; 0 = no round
  std::uint64_t sequence = 0;  ///< from the header
  Message message;
};

/// @errors resource_exhausted: larger than a frame may be.
Result<Bytes> encode_frame(const Message& message, RoundId round = {}, std::uint64_t sequence = 0);
/// @errors those of parse_frame() and decode(); the message names the message's type.
Result<Envelope> decode_frame(ByteSpan frame);

/// What to answer where decode_frame() failed: unknown_version with the versions spoken, too_large, or malformed.
ErrorReply complaint_about(const Error& error);

}  // namespace covey::wire

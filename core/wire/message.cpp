#include "core/wire/message.h"

#include <array>
#include <string>
#include <utility>

#include "core/wire/codec.h"
#include "core/wire/limits.h"

namespace covey::wire {
namespace {

/// In the order of the variant.
constexpr std::array<MessageType, std::variant_size_v<Message>> kTypes = {
    MessageType::enroll,
    MessageType::enrolled,
    MessageType::roster_request,
    MessageType::roster_reply,
    MessageType::hello,
    MessageType::welcome,
    MessageType::signed_endpoint,
    MessageType::check_in,
    MessageType::check_back,
    MessageType::task_offer,
    MessageType::task_answer,
    MessageType::progress,
    MessageType::submit_begin,
    MessageType::submit_next,
    MessageType::submit_chunk,
    MessageType::receipt,
    MessageType::manifest_request,
    MessageType::manifest_reply,
    MessageType::chunk_request,
    MessageType::chunk_reply,
    MessageType::error_reply,
    MessageType::secure_advertise,
    MessageType::secure_list,
    MessageType::secure_boxes,
    MessageType::secure_inbox,
    MessageType::secure_survivors,
    MessageType::secure_agree,
    MessageType::secure_unmask,
    MessageType::secure_shares,
    MessageType::secure_abort,
};

template <class T>
Result<Message> decode_as(ByteSpan payload) {
  COVEY_ASSIGN(T message, decode<T>(payload));
  return Message(std::move(message));
}

/// One decoder per alternative of the variant, in its order.
template <std::size_t... I>
constexpr auto make_decoders(std::index_sequence<I...>) {
  return std::array<Result<Message> (*)(ByteSpan), sizeof...(I)>{&decode_as<std::variant_alternative_t<I, Message>>...};
}
constexpr auto kDecoders = make_decoders(std::make_index_sequence<std::variant_size_v<Message>>());

}  // namespace

std::optional<MessageType> known_type(std::uint16_t number) {
  for (const MessageType type : kTypes) {
    if (static_cast<std::uint16_t>(type) == number) return type;
  }
  return std::nullopt;
}

MessageType type_of(const Message& message) {
  return kTypes[message.index()];
}

Result<Bytes> encode_frame(const Message& message, RoundId round, std::uint64_t sequence) {
  const Bytes payload = std::visit([](const auto& m) { return encode(m); }, message);
  FrameHeader header;
  header.type = static_cast<std::uint16_t>(type_of(message));
  header.round = round.value;
  header.sequence = sequence;
  auto frame = build_frame(header, payload);
  if (!frame.ok()) return frame.error().in(to_string(type_of(message)));
  return frame;
}

Result<Envelope> decode_frame(ByteSpan frame) {
  COVEY_ASSIGN(const FrameView view, parse_frame(frame));
  for (std::size_t i = 0; i < kTypes.size(); ++i) {
    if (static_cast<std::uint16_t>(kTypes[i]) != view.header.type) continue;
    auto message = kDecoders[i](view.payload);
    if (!message.ok()) return message.error().in(to_string(kTypes[i]));
    return Envelope{RoundId{view.header.round}, view.header.sequence, *std::move(message)};
  }
  return Error{ErrorCode::internal, "frame of a known type without a decoder"};  // kTypes covers the variant
}

ErrorReply complaint_about(const Error& error) {
  ErrorReply out;
  out.complaint = error.code == ErrorCode::unsupported          ? Complaint::unknown_version
                  : error.code == ErrorCode::resource_exhausted ? Complaint::too_large
                                                                : Complaint::malformed;
  out.message = error.message.substr(0, kErrorBytesMax);
  out.versions = {kFrameVersion};
  return out;
}

const char* to_string(MessageType type) {
  switch (type) {
    case MessageType::enroll:
      return "enroll";
    case MessageType::enrolled:
      return "enrolled";
    case MessageType::roster_request:
      return "roster_request";
    case MessageType::roster_reply:
      return "roster_reply";
    case MessageType::hello:
      return "hello";
    case MessageType::welcome:
      return "welcome";
    case MessageType::signed_endpoint:
      return "signed_endpoint";
    case MessageType::check_in:
      return "check_in";
    case MessageType::check_back:
      return "check_back";
    case MessageType::task_offer:
      return "task_offer";
    case MessageType::task_answer:
      return "task_answer";
    case MessageType::progress:
      return "progress";
    case MessageType::submit_begin:
      return "submit_begin";
    case MessageType::submit_next:
      return "submit_next";
    case MessageType::submit_chunk:
      return "submit_chunk";
    case MessageType::receipt:
      return "receipt";
    case MessageType::manifest_request:
      return "manifest_request";
    case MessageType::manifest_reply:
      return "manifest_reply";
    case MessageType::chunk_request:
      return "chunk_request";
    case MessageType::chunk_reply:
      return "chunk_reply";
    case MessageType::error_reply:
      return "error_reply";
    case MessageType::secure_advertise:
      return "secure_advertise";
    case MessageType::secure_list:
      return "secure_list";
    case MessageType::secure_boxes:
      return "secure_boxes";
    case MessageType::secure_inbox:
      return "secure_inbox";
    case MessageType::secure_survivors:
      return "secure_survivors";
    case MessageType::secure_agree:
      return "secure_agree";
    case MessageType::secure_unmask:
      return "secure_unmask";
    case MessageType::secure_shares:
      return "secure_shares";
    case MessageType::secure_abort:
      return "secure_abort";
  }
  return "unknown";
}

const char* to_string(PrivacyMode mode) {
  switch (mode) {
    case PrivacyMode::robust:
      return "robust";
    case PrivacyMode::grouped:
      return "grouped";
    case PrivacyMode::secure:
      return "secure";
  }
  return "unknown";
}

const char* to_string(RefusalReason reason) {
  switch (reason) {
    case RefusalReason::none:
      return "none";
    case RefusalReason::policy:
      return "policy";
    case RefusalReason::memory:
      return "memory";
    case RefusalReason::no_data:
      return "no_data";
    case RefusalReason::mode:
      return "mode";
    case RefusalReason::budget:
      return "budget";
    case RefusalReason::bad_plan:
      return "bad_plan";
    case RefusalReason::busy:
      return "busy";
    case RefusalReason::failed:
      return "failed";
  }
  return "unknown";
}

const char* to_string(ReceiptStatus status) {
  switch (status) {
    case ReceiptStatus::accepted:
      return "accepted";
    case ReceiptStatus::late:
      return "late";
    case ReceiptStatus::refused:
      return "refused";
    case ReceiptStatus::conflicting:
      return "conflicting";
  }
  return "unknown";
}

const char* to_string(SecureReason reason) {
  switch (reason) {
    case SecureReason::none:
      return "none";
    case SecureReason::ended:
      return "ended";
    case SecureReason::round_seen:
      return "round_seen";
    case SecureReason::wrong_round:
      return "wrong_round";
    case SecureReason::wrong_version:
      return "wrong_version";
    case SecureReason::plan_differs:
      return "plan_differs";
    case SecureReason::stale_roster:
      return "stale_roster";
    case SecureReason::malformed:
      return "malformed";
    case SecureReason::too_few_devices:
      return "too_few_devices";
    case SecureReason::too_many_devices:
      return "too_many_devices";
    case SecureReason::self_missing:
      return "self_missing";
    case SecureReason::listed_twice:
      return "listed_twice";
    case SecureReason::self_changed:
      return "self_changed";
    case SecureReason::unknown_device:
      return "unknown_device";
    case SecureReason::bad_signature:
      return "bad_signature";
    case SecureReason::parameters_differ:
      return "parameters_differ";
    case SecureReason::bad_key:
      return "bad_key";
    case SecureReason::too_few_shares:
      return "too_few_shares";
    case SecureReason::already_masked:
      return "already_masked";
    case SecureReason::declared_dead:
      return "declared_dead";
    case SecureReason::too_few_neighbours:
      return "too_few_neighbours";
    case SecureReason::survivors_differ:
      return "survivors_differ";
    case SecureReason::too_few_signatures:
      return "too_few_signatures";
    case SecureReason::request_differs:
      return "request_differs";
    case SecureReason::wrong_shape:
      return "wrong_shape";
    case SecureReason::bad_share:
      return "bad_share";
    case SecureReason::unexpected:
      return "unexpected";
    case SecureReason::conflicting:
      return "conflicting";
    case SecureReason::not_drawn:
      return "not_drawn";
  }
  return "unknown";
}

const char* to_string(Complaint complaint) {
  switch (complaint) {
    case Complaint::unknown_version:
      return "unknown_version";
    case Complaint::malformed:
      return "malformed";
    case Complaint::not_enrolled:
      return "not_enrolled";
    case Complaint::bad_signature:
      return "bad_signature";
    case Complaint::revoked:
      return "revoked";
    case Complaint::unexpected:
      return "unexpected";
    case Complaint::not_found:
      return "not_found";
    case Complaint::too_large:
      return "too_large";
    case Complaint::clock_skew:
      return "clock_skew";
  }
  return "unknown";
}

}  // namespace covey::wire

#include "core/wire/signing.h"

#include <utility>

#include "core/wire/codec.h"

namespace covey::wire {
namespace {

void append_u64(Bytes& out, std::uint64_t value) {
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
  append_u64(out, static_cast<std::uint64_t>(message.sent_ms));
  append(out, message.nonce);
  append_u64(out, message.roster_epoch);
  return out;
}

Bytes signed_part(const Welcome& message, const Nonce& nonce) {
  Bytes out;
  append(out, nonce);
  append_u64(out, static_cast<std::uint64_t>(message.server_ms));
  append_u64(out, message.roster_epoch);
  return out;
}

void sign(Enroll& m, const crypto::IdentityKey& device) {
  m.identity = device.public_key().bytes;
  m.signature = device.sign_in(kEnrollDomain, signed_part(m)).bytes;
}
void sign(Hello& m, const crypto::IdentityKey& device) {
  m.identity = device.public_key().bytes;
  m.signature = device.sign_in(kHelloDomain, signed_part(m)).bytes;
}
bool signature_ok(const Enroll& m) {
  return crypto::verify_in(kEnrollDomain, crypto::PublicKey{m.identity}, signed_part(m),
                           crypto::Signature{m.signature});
}
bool signature_ok(const Hello& m) {
  return crypto::verify_in(kHelloDomain, crypto::PublicKey{m.identity}, signed_part(m), crypto::Signature{m.signature});
}

void sign(Welcome& m, const Nonce& nonce, const crypto::IdentityKey& coordinator) {
  m.signature = coordinator.sign_in(kWelcomeDomain, signed_part(m, nonce)).bytes;
}
bool signature_ok(const Welcome& m, const Nonce& nonce, const Key& coordinator) {
  return crypto::verify_in(kWelcomeDomain, crypto::PublicKey{coordinator}, signed_part(m, nonce),
                           crypto::Signature{m.signature});
}

SignedRosterEpoch sign_epoch(const RosterEpoch& epoch, const crypto::IdentityKey& roster) {
  SignedRosterEpoch out;
  out.epoch = encode(epoch);
  out.signature = roster.sign_in(kRosterDomain, out.epoch).bytes;
  return out;
}

Result<RosterEpoch> open_epoch(const SignedRosterEpoch& document, const Key& roster) {
  if (!crypto::verify_in(kRosterDomain, crypto::PublicKey{roster}, document.epoch,
                         crypto::Signature{document.signature})) {
    return Error{ErrorCode::permission_denied, "roster epoch: not signed by the pinned roster key"};
  }
  auto epoch = decode<RosterEpoch>(document.epoch);
  if (!epoch.ok()) return epoch.error().in("roster epoch");
  return epoch;
}

Hash hash_of(const SignedRosterEpoch& document) {
  return crypto::hash(encode(document)).bytes;
}

SignedEndpoint sign_endpoint(const EndpointNotice& notice, const crypto::IdentityKey& coordinator) {
  SignedEndpoint out;
  out.notice = encode(notice);
  out.signature = coordinator.sign_in(kEndpointDomain, out.notice).bytes;
  return out;
}

Result<EndpointNotice> open_endpoint(const SignedEndpoint& document, const Key& coordinator) {
  if (!crypto::verify_in(kEndpointDomain, crypto::PublicKey{coordinator}, document.notice,
                         crypto::Signature{document.signature})) {
    return Error{ErrorCode::permission_denied, "endpoint notice: not signed by the pinned coordinator key"};
  }
  auto notice = decode<EndpointNotice>(document.notice);
  if (!notice.ok()) return notice.error().in("endpoint notice");
  return notice;
}

TaskOffer sign_plan(Bytes encoded_plan, const crypto::IdentityKey& coordinator) {
  TaskOffer out;
  out.signature = coordinator.sign_in(kPlanDomain, encoded_plan).bytes;
  out.plan = std::move(encoded_plan);
  return out;
}

Result<RoundPlan> open_plan(const TaskOffer& offer, const Key& coordinator) {
  if (!crypto::verify_in(kPlanDomain, crypto::PublicKey{coordinator}, offer.plan, crypto::Signature{offer.signature})) {
    return Error{ErrorCode::permission_denied, "round plan: not signed by the pinned coordinator key"};
  }
  auto plan = decode<RoundPlan>(offer.plan);
  if (!plan.ok()) return plan.error().in("round plan");
  return plan;
}

Hash plan_hash(ByteSpan encoded_plan) {
  return crypto::hash(encoded_plan).bytes;
}

std::uint64_t draw_of(const Hash& epoch_root, RoundId round, const Key& identity) {
  const auto hash =
      crypto::Hasher("covey sortition 1").update(epoch_root).update_u64(round.value).update(identity).finish();
  std::uint64_t out = 0;
  for (std::size_t i = 0; i < 8; ++i) out = out << 8 | hash.bytes[i];
  return out;
}

Hash content_hash(ByteSpan encoded_update) {
  return crypto::hash(encoded_update).bytes;
}

Hash invite_hash(ByteSpan secret) {
  return crypto::hash(secret).bytes;
}

}  // namespace covey::wire

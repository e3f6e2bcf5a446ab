/// What exactly is signed, so that both sides sign and check the same bytes. A plan and a roster epoch are signed as
/// the encoded bytes that travel; the others as the concatenation below. Always by crypto::IdentityKey::sign_in(domain,
/// ...).
///
///   hello.signature = identity.sign_in(kHelloDomain, signed_part(hello)).bytes;
///   offer.signature = coordinator.sign_in(kPlanDomain, offer.plan).bytes;
#pragma once

#include <string_view>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/crypto/hash.h"
#include "core/crypto/identity.h"
#include "core/wire/messages.h"

namespace covey::wire {

inline constexpr std::string_view kEnrollDomain = "covey enroll 1";
inline constexpr std::string_view kHelloDomain = "covey hello 1";
inline constexpr std::string_view kWelcomeDomain = "covey welcome 1";
inline constexpr std::string_view kPlanDomain = "covey plan 1";
inline constexpr std::string_view kRosterDomain = "covey roster 1";
inline constexpr std::string_view kEndpointDomain = "covey endpoint 1";

/// Every field but the signature: keys, hashes and nonces as they are, numbers as 8 bytes little-endian, a text last.
Bytes signed_part(const Enroll& message);
Bytes signed_part(const Hello& message);
/// `nonce` is that of the Hello it answers, so that an old Welcome proves nothing.
Bytes signed_part(const Welcome& message, const Nonce& nonce);

/// Sets m.identity to the key's, then signs.
void sign(Enroll& m, const crypto::IdentityKey& device);
void sign(Hello& m, const crypto::IdentityKey& device);
[[nodiscard]] bool signature_ok(const Enroll& m);
[[nodiscard]] bool signature_ok(const Hello& m);

void sign(Welcome& m, const Nonce& nonce, const crypto::IdentityKey& coordinator);
[[nodiscard]] bool signature_ok(const Welcome& m, const Nonce& nonce, const Key& coordinator);

SignedRosterEpoch sign_epoch(const RosterEpoch& epoch, const crypto::IdentityKey& roster);
/// @errors permission_denied: not signed by `roster`; corrupt_data: no RosterEpoch.
Result<RosterEpoch> open_epoch(const SignedRosterEpoch& document, const Key& roster);
/// What the next epoch's `previous` must hold.
Hash hash_of(const SignedRosterEpoch& document);

SignedEndpoint sign_endpoint(const EndpointNotice& notice, const crypto::IdentityKey& coordinator);
/// @errors permission_denied: not signed by `coordinator`; corrupt_data: no EndpointNotice.
Result<EndpointNotice> open_endpoint(const SignedEndpoint& document, const Key& coordinator);

/// Takes the plan's bytes as they are stored; left_ms is the caller's to set, and not signed.
TaskOffer sign_plan(Bytes encoded_plan, const crypto::IdentityKey& coordinator);
/// @errors permission_denied: not signed by `coordinator`; corrupt_data: no RoundPlan.
Result<RoundPlan> open_plan(const TaskOffer& offer, const Key& coordinator);
/// What ClearUpdate::plan holds.
Hash plan_hash(ByteSpan encoded_plan);
/// Sortition: the draw of a device in a round, uniform over all 64-bit numbers and nobody's choice but the roster
/// signer's. Drawn are those below SecurePlan::drawn_below. @param epoch_root  hash_of() of the plan's roster epoch.
std::uint64_t draw_of(const Hash& epoch_root, RoundId round, const Key& identity);
/// What SubmitBegin::content and Receipt::content hold.
Hash content_hash(ByteSpan encoded_update);
/// What Enroll::invite holds; the invite's secret itself never travels.
Hash invite_hash(ByteSpan secret);

}  // namespace covey::wire

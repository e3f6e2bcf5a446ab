/// What exactly is signed, so that both sides sign and check the same bytes. A plan and a roster epoch are signed as
/// the encoded bytes that travel; the others as the concatenation below. Always by crypto::IdentityKey::sign_in(domain,
/// ...).
///
///   hello.signature = identity.sign_in(kHelloDomain, signed_part(hello)).bytes;
///   offer.signature = coordinator.sign_in(kPlanDomain, offer.plan).bytes;
#pragma once

#include <string_view>

#include "core/base/bytes.h"
#include "core/wire/messages.h"

namespace covey::wire {

inline constexpr std::string_view kEnrollDomain = "covey enroll 1";
inline constexpr std::string_view kHelloDomain = "covey hello 1";
inline constexpr std::string_view kWelcomeDomain = "covey welcome 1";
inline constexpr std::string_view kPlanDomain = "covey plan 1";
inline constexpr std::string_view kRosterDomain = "covey roster 1";

/// Every field but the signature: keys, hashes and nonces as they are, numbers as 8 bytes little-endian, a text last.
Bytes signed_part(const Enroll& message);
Bytes signed_part(const Hello& message);
/// `nonce` is that of the Hello it answers, so that an old Welcome proves nothing.
Bytes signed_part(const Welcome& message, const Nonce& nonce);

}  // namespace covey::wire

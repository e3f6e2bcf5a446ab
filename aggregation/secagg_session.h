/// What both halves of secure aggregation derive from the plan and the advertise list: the session's hash, what is
/// signed, and the keys of boxes and masks. Source: Bonawitz et al., CCS 2017, figure 4; security.md section 4.
/// Pure functions, thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "aggregation/secagg_params.h"
#include "aggregation/update.h"
#include "core/base/result.h"
#include "core/base/secret.h"
#include "core/crypto/exchange.h"
#include "core/crypto/hash.h"
#include "core/crypto/identity.h"
#include "core/wire/codec.h"
#include "core/wire/messages.h"

namespace covey::aggregation {

/// Everything of a round's plan that secure aggregation needs; the same on both sides.
struct SecAggSetup {
  RoundId round;
  wire::Hash plan{};  ///< of the encoded plan, which names model and adapter by content: masks are bound to it
  std::uint64_t roster_epoch = 0;
  SecAggAssumptions assumptions;
  std::uint32_t survivors_min = 0;  ///< n_min
  UpdateSpec spec;                  ///< spec.contributors_max bounds a session's list
  std::uint32_t bits = 0;           ///< b
  std::uint32_t groups = 1;         ///< sessions that the devices of the list are dealt into: grouped.h
  wire::Hash whole{};               ///< of a group's session: hash of the list that it was dealt from

  /// @param values  P: update_values().
  /// @errors invalid_argument: the plan is impossible; says which field.
  static Result<SecAggSetup> of(const wire::RoundPlan& plan, const wire::Hash& plan_hash, std::size_t values);
  /// 1 + P.
  [[nodiscard]] std::size_t words() const { return spec.values + 1; }
  /// Bounds of the advertise list, of all groups together.
  [[nodiscard]] std::uint64_t devices_max() const { return std::uint64_t{spec.contributors_max} * groups; }
  [[nodiscard]] std::uint64_t devices_min() const { return std::uint64_t{survivors_min} * groups; }
};

/// Whether an identity is active in the roster as of the plan's epoch.
using SecAggRoster = std::function<bool(const wire::Key& identity)>;

/// Ed25519 check of a signature in a domain; crypto::verify_in unless a test remembers answers.
using SecAggVerify =
    std::function<bool(std::string_view domain, const wire::Key& key, ByteSpan message, const wire::Signature&)>;

inline constexpr std::string_view kSecAggAdvertiseDomain = "covey secagg advertise 1";
inline constexpr std::string_view kSecAggAgreeDomain = "covey secagg agree 1";

/// By which a message is known to be the same again.
template <class M>
wire::Hash digest(const M& message) {
  return crypto::hash(wire::encode(message)).bytes;
}

/// What a device signs when it advertises: round, version, plan, roster epoch, and its keys.
Bytes signed_part(const SecAggSetup& setup, const wire::SecureKeys& keys);
/// What a device signs when it agrees to a survivor set (named by its complement, ascending indices).
Bytes signed_part(const wire::Hash& session, std::span<const std::uint16_t> dead);

/// @param whole  SecAggSetup::whole: zero where the list is not of a group.
wire::Hash session_hash(const wire::SecureList& list, const wire::Hash& whole = {});
/// Seed of the graph's order.
crypto::Hash256 order_seed(const wire::Hash& session);

/// H(b). 32 bytes of b.
wire::Hash commitment_to(ByteSpan self_seed);
/// The seed of a device's own mask in this session.
SecretBytes self_mask_seed(ByteSpan self_seed, const wire::Hash& session);
/// The seed of the mask that two devices share in this session, equal on both sides where both trained on one plan:
/// each puts in the hash of its own.
/// @errors invalid_argument: the peer's key gives no secret.
Result<SecretBytes> pair_mask_seed(const crypto::ExchangeKey& own, const wire::Key& peer, const wire::Hash& session,
                                   const wire::Hash& plan);

/// What a device makes from the entropy of one session, each part by a subkey of its own.
struct SessionSecrets {
  crypto::ExchangeKey mask_key;
  crypto::ExchangeKey share_key;
  SecretBytes self_seed;  ///< b
  wire::Nonce nonce{};
  SecretBytes split_mask;  ///< polynomials of the mask secret
  SecretBytes split_self;  ///< and of b
};
/// @param seed  32 bytes. @errors invalid_argument: another length.
Result<SessionSecrets> session_secrets(ByteSpan seed);

/// The two shares that `from` gives to `to`, sealed under a key that only these two know.
struct SharePair {
  wire::SecretShare mask{};  ///< of the mask secret
  wire::SecretShare self{};  ///< of b
};
/// The key of the boxes between two devices in this session, both ways.
/// @errors invalid_argument: the peer's key gives no secret.
Result<SecretBytes> box_key(const crypto::ExchangeKey& own, const wire::Key& peer, const wire::Hash& session);
/// At most one box for each direction of a key.
wire::ShareBox seal_shares(const SecretBytes& key, const wire::Hash& session, std::uint16_t from, std::uint16_t to,
                           const SharePair& shares);
/// @errors permission_denied: another session, other devices, or changed bytes.
Result<SharePair> open_shares(const SecretBytes& key, const wire::Hash& session, std::uint16_t from, std::uint16_t to,
                              const wire::ShareBox& box);

/// One mask to add or subtract.
struct MaskTerm {
  SecretBytes seed;  ///< 32 bytes
  bool negative = false;
};

}  // namespace covey::aggregation

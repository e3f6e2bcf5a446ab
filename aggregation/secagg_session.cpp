#include "aggregation/secagg_session.h"

#include <string.h>  // explicit_bzero

#include <algorithm>
#include <string>
#include <utility>

#include "aggregation/secagg_words.h"
#include "aggregation/serial.h"
#include "aggregation/shamir.h"
#include "core/base/assert.h"
#include "core/crypto/aead.h"
#include "core/crypto/hash.h"
#include "core/wire/codec.h"

namespace covey::aggregation {
namespace {

static_assert(wire::kSecretShareBytes == kShamirShareBytes);

constexpr std::size_t kNonceBytes = 24;
constexpr std::size_t kTagBytes = crypto::kBoxOverheadBytes - kNonceBytes;
static_assert(wire::kShareBoxBytes == 2 * kShamirShareBytes + kTagBytes);

/// A purpose and the session, as the context of a key agreement.
std::string bound_to(std::string_view purpose, const wire::Hash& session) {
  std::string out(purpose);
  out.push_back('\0');
  out.append(as_text(session));
  return out;
}

/// One box is made per direction and session, and the key is of the session: the direction is nonce enough.
Bytes box_nonce(std::uint16_t from, std::uint16_t to) {
  Bytes out;
  put_u32(out, from);
  put_u32(out, to);
  out.resize(kNonceBytes);
  return out;
}

Bytes box_context(const wire::Hash& session, std::uint16_t from, std::uint16_t to) {
  Bytes out(session.begin(), session.end());
  put_u32(out, from);
  put_u32(out, to);
  return out;
}

}  // namespace

Result<SecAggSetup> SecAggSetup::of(const wire::RoundPlan& plan, const wire::Hash& plan_hash, std::size_t values) {
  SecAggSetup out;
  out.round = plan.round;
  out.plan = plan_hash;
  out.roster_epoch = plan.roster_epoch;
  out.assumptions = {plan.secure.corrupt_fraction, plan.secure.dropout_fraction};
  out.survivors_min = plan.secure.survivors_min;
  if ((plan.mode == wire::PrivacyMode::grouped) != (plan.secure.groups > 0) || plan.secure.groups == 1) {
    return Error{ErrorCode::invalid_argument, "plan: groups are for mode grouped, which needs at least two"};
  }
  out.groups = std::max(plan.secure.groups, 1U);
  out.spec = UpdateSpec::of(plan, values);
  COVEY_ASSIGN(out.bits, modulus_bits(out.spec));
  if (out.survivors_min < 2 || out.devices_min() > plan.cohort_invited) {
    return Error{ErrorCode::invalid_argument, "plan: survivors_min is " + std::to_string(out.survivors_min) +
                                                  "; it must be from 2 to the cohort's " +
                                                  std::to_string(plan.cohort_invited / out.groups)};
  }
  // The largest cohort must have a k and t; a smaller one is looked at when it has advertised.
  COVEY_TRY(secagg_params(out.spec.contributors_max, out.assumptions));
  return out;
}

Bytes signed_part(const SecAggSetup& setup, const wire::SecureKeys& keys) {
  Bytes out;
  put_u64(out, setup.round.value);
  put_u64(out, wire::kSecureVersion);
  append(out, setup.plan);
  put_u64(out, setup.roster_epoch);
  append(out, keys.identity);
  append(out, keys.mask_key);
  append(out, keys.share_key);
  append(out, keys.nonce);
  append(out, keys.commitment);
  return out;
}

Bytes signed_part(const wire::Hash& session, std::span<const std::uint16_t> dead) {
  Bytes out(session.begin(), session.end());
  put_u64(out, dead.size());
  for (const std::uint16_t index : dead) put_u32(out, index);
  return out;
}

wire::Hash session_hash(const wire::SecureList& list, const wire::Hash& whole) {
  const Bytes encoded = wire::encode(list);
  if (whole == wire::Hash{}) return crypto::hash_in("covey secagg session 1", encoded).bytes;
  return crypto::Hasher("covey secagg group session 1").update(whole).update(encoded).finish().bytes;
}

crypto::Hash256 order_seed(const wire::Hash& session) {
  return crypto::hash_in("covey secagg order 1", session);
}

wire::Hash commitment_to(ByteSpan self_seed) {
  return crypto::hash_in("covey secagg commit 1", self_seed).bytes;
}

SecretBytes self_mask_seed(ByteSpan self_seed, const wire::Hash& session) {
  COVEY_ASSERT(self_seed.size() == kShamirSecretBytes);
  const auto context = bound_to("covey secagg self 1", session);
  auto seed = crypto::keyed_hash(self_seed, as_byte_span(context));
  if (!seed.ok()) return SecretBytes(kShamirSecretBytes);  // 32 bytes always have a keyed hash
  SecretBytes out(seed->span());
  explicit_bzero(seed->bytes.data(), seed->bytes.size());
  return out;
}

Result<SecretBytes> pair_mask_seed(const crypto::ExchangeKey& own, const wire::Key& peer, const wire::Hash& session,
                                   const wire::Hash& plan) {
  std::string context = bound_to("covey secagg mask 1", session);
  context.append(as_text(plan));
  return own.agree(crypto::ExchangePublicKey{peer}, context);
}

Result<SessionSecrets> session_secrets(ByteSpan seed) {
  std::uint64_t id = 0;
  const auto next = [&](std::size_t size = 32) { return crypto::derive_key(seed, "secagg", ++id, size); };
  COVEY_ASSIGN(const SecretBytes mask_secret, next());
  COVEY_ASSIGN(const SecretBytes share_secret, next());
  COVEY_ASSIGN(const SecretBytes nonce_bytes, next(sizeof(wire::Nonce)));
  COVEY_ASSIGN(SecretBytes self_seed, next());
  COVEY_ASSIGN(SecretBytes split_mask, next());
  COVEY_ASSIGN(SecretBytes split_self, next());
  COVEY_ASSIGN(auto mask_key, crypto::ExchangeKey::from_secret(mask_secret.span()));
  COVEY_ASSIGN(auto share_key, crypto::ExchangeKey::from_secret(share_secret.span()));
  wire::Nonce nonce{};
  std::copy_n(nonce_bytes.data(), nonce.size(), nonce.begin());
  return SessionSecrets{std::move(mask_key),   std::move(share_key), std::move(self_seed), nonce,
                        std::move(split_mask), std::move(split_self)};
}

Result<SecretBytes> box_key(const crypto::ExchangeKey& own, const wire::Key& peer, const wire::Hash& session) {
  return own.agree(crypto::ExchangePublicKey{peer}, bound_to("covey secagg box 1", session));
}

wire::ShareBox seal_shares(const SecretBytes& key, const wire::Hash& session, std::uint16_t from, std::uint16_t to,
                           const SharePair& shares) {
  COVEY_ASSERT(key.size() == 32);
  SecretBytes plain(2 * kShamirShareBytes);
  std::ranges::copy(shares.mask, plain.data());
  std::ranges::copy(shares.self, plain.data() + kShamirShareBytes);
  const auto sealed =
      crypto::seal_with_nonce(key.span(), box_nonce(from, to), plain.span(), box_context(session, from, to));
  wire::ShareBox out{};
  COVEY_ASSERT(sealed.ok());  // the lengths are ours
  // Both sides know the nonce: it does not travel.
  if (sealed.ok()) std::copy(sealed->begin() + kNonceBytes, sealed->end(), out.begin());
  return out;
}

Result<SharePair> open_shares(const SecretBytes& key, const wire::Hash& session, std::uint16_t from, std::uint16_t to,
                              const wire::ShareBox& box) {
  Bytes sealed = box_nonce(from, to);
  append(sealed, box);
  COVEY_ASSIGN(const SecretBytes plain, crypto::open(key.span(), sealed, box_context(session, from, to)));
  SharePair out;
  std::copy_n(plain.data(), kShamirShareBytes, out.mask.begin());
  std::copy_n(plain.data() + kShamirShareBytes, kShamirShareBytes, out.self.begin());
  return out;
}

}  // namespace covey::aggregation

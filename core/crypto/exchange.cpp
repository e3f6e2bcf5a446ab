#include "core/crypto/exchange.h"

#include <sodium.h>

#include <algorithm>
#include <string>

#include "core/crypto/random.h"
#include "core/crypto/sodium.h"

namespace covey::crypto {

ExchangeKey ExchangeKey::generate() {
  return *from_secret(random_secret(crypto_scalarmult_SCALARBYTES).span());
}

Result<ExchangeKey> ExchangeKey::from_secret(ByteSpan secret) {
  internal::ready();
  if (secret.size() != crypto_scalarmult_SCALARBYTES) {
    return Error{ErrorCode::invalid_argument,
                 "X25519 secret has " + std::to_string(secret.size()) + " bytes instead of 32"};
  }
  ExchangeKey out;
  out.secret_ = SecretBytes(secret);
  crypto_scalarmult_base(out.public_.bytes.data(), out.secret_.data());
  return out;
}

Result<SecretBytes> ExchangeKey::agree_raw(const ExchangePublicKey& peer) const {
  COVEY_ASSERT(!secret_.empty());
  SecretBytes out(crypto_scalarmult_BYTES);
  // libsodium returns -1 where the result is zero, which any small-order key forces.
  if (secret_.empty() || crypto_scalarmult(out.data(), secret_.data(), peer.bytes.data()) != 0) {
    return Error{ErrorCode::invalid_argument,
                 "X25519: key " + peer.brief() + " is of small order and gives no secret; refuse its sender"};
  }
  return out;
}

Result<SecretBytes> ExchangeKey::agree(const ExchangePublicKey& peer, std::string_view context) const {
  COVEY_ASSIGN(const SecretBytes raw, agree_raw(peer));
  const auto [low, high] = std::minmax(public_, peer);
  SecretBytes out(crypto_generichash_BYTES);
  crypto_generichash_state state;
  crypto_generichash_init(&state, raw.data(), raw.size(), out.size());
  crypto_generichash_update(&state, low.bytes.data(), low.bytes.size());
  crypto_generichash_update(&state, high.bytes.data(), high.bytes.size());
  crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(context.data()), context.size());
  crypto_generichash_final(&state, out.data(), out.size());
  sodium_memzero(&state, sizeof state);
  return out;
}

}  // namespace covey::crypto

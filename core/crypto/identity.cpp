#include "core/crypto/identity.h"

#include <sodium.h>

#include <string>

#include "core/crypto/random.h"
#include "core/crypto/sodium.h"

namespace covey::crypto {
namespace {

Bytes with_domain(std::string_view domain, ByteSpan message) {
  Bytes out;
  out.reserve(domain.size() + 1 + message.size());
  out.insert(out.end(), domain.begin(), domain.end());
  out.push_back(0);
  out.insert(out.end(), message.begin(), message.end());
  return out;
}

}  // namespace

IdentityKey IdentityKey::generate() {
  return *from_seed(random_secret(crypto_sign_SEEDBYTES).span());
}

Result<IdentityKey> IdentityKey::from_seed(ByteSpan seed) {
  internal::ready();
  if (seed.size() != crypto_sign_SEEDBYTES) {
    return Error{ErrorCode::invalid_argument,
                 "identity seed has " + std::to_string(seed.size()) + " bytes instead of 32"};
  }
  IdentityKey out;
  out.secret_ = SecretBytes(crypto_sign_SECRETKEYBYTES);
  crypto_sign_seed_keypair(out.public_.bytes.data(), out.secret_.data(), seed.data());
  return out;
}

SecretBytes IdentityKey::seed() const {
  SecretBytes out(crypto_sign_SEEDBYTES);
  crypto_sign_ed25519_sk_to_seed(out.data(), secret_.data());
  return out;
}

Signature IdentityKey::sign(ByteSpan message) const {
  Signature out;
  COVEY_ASSERT(secret_.size() == crypto_sign_SECRETKEYBYTES);  // a moved-from key signs nothing
  if (secret_.empty()) return out;
  crypto_sign_detached(out.bytes.data(), nullptr, message.data(), message.size(), secret_.data());
  return out;
}

Signature IdentityKey::sign_in(std::string_view domain, ByteSpan message) const {
  return sign(with_domain(domain, message));
}

bool verify(const PublicKey& key, ByteSpan message, const Signature& signature) {
  internal::ready();
  return crypto_sign_verify_detached(signature.bytes.data(), message.data(), message.size(), key.bytes.data()) == 0;
}

bool verify_in(std::string_view domain, const PublicKey& key, ByteSpan message, const Signature& signature) {
  return verify(key, with_domain(domain, message), signature);
}

}  // namespace covey::crypto

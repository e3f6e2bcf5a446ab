/// X25519 key agreement (RFC 7748) between two parties that know each other's public keys. Thread-safe for const use.
#pragma once

#include <string_view>

#include "core/base/result.h"
#include "core/base/secret.h"
#include "core/crypto/types.h"

namespace covey::crypto {

/// One side's key pair. Move-only; wiped when it goes.
class ExchangeKey {
 public:
  static ExchangeKey generate();
  /// @errors invalid_argument: not 32 bytes.
  static Result<ExchangeKey> from_secret(ByteSpan secret);

  [[nodiscard]] const ExchangePublicKey& public_key() const { return public_; }
  /// For sharing it out and rebuilding it; wiped by its owner.
  [[nodiscard]] SecretBytes secret() const { return secret_.clone(); }

  /// 32 bytes that both sides get, bound to both public keys and to `context`:
  /// BLAKE2b-256 keyed with the X25519 result, over the smaller public key, the larger one, and the context.
  /// @errors invalid_argument: the peer's key is of small order (the X25519 result is zero).
  [[nodiscard]] Result<SecretBytes> agree(const ExchangePublicKey& peer, std::string_view context) const;
  /// The X25519 result itself. Hash it before use. @errors as agree().
  [[nodiscard]] Result<SecretBytes> agree_raw(const ExchangePublicKey& peer) const;

 private:
  ExchangeKey() = default;
  SecretBytes secret_;
  ExchangePublicKey public_;
};

}  // namespace covey::crypto

/// Ed25519 identities (RFC 8032) of devices, coordinators and rosters: sign and verify. Signatures are deterministic.
/// Thread-safe for const use.
#pragma once

#include <string_view>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret.h"
#include "core/crypto/types.h"

namespace covey::crypto {

/// A signing key. Move-only; wiped when it goes.
class IdentityKey {
 public:
  static IdentityKey generate();
  /// The key of a 32-byte seed; the same seed gives the same key. @errors invalid_argument: another length.
  static Result<IdentityKey> from_seed(ByteSpan seed);

  [[nodiscard]] const PublicKey& public_key() const { return public_; }
  [[nodiscard]] DeviceId device_id() const { return crypto::device_id(public_); }
  /// The 32 bytes that from_seed() takes: for key files only.
  [[nodiscard]] SecretBytes seed() const;
  [[nodiscard]] Signature sign(ByteSpan message) const;
  /// Signs `domain`, a zero byte, then the message: a signature made for one meaning is worth nothing for another.
  [[nodiscard]] Signature sign_in(std::string_view domain, ByteSpan message) const;

 private:
  IdentityKey() = default;
  SecretBytes secret_;
  PublicKey public_;
};

/// False for a wrong signature, and for keys of small order, which would accept many.
[[nodiscard]] bool verify(const PublicKey& key, ByteSpan message, const Signature& signature);
[[nodiscard]] bool verify_in(std::string_view domain, const PublicKey& key, ByteSpan message,
                             const Signature& signature);

}  // namespace covey::crypto

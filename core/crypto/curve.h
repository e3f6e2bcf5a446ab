/// Key pairs of ZeroMQ's CURVE mechanism (Curve25519; rfc.zeromq.org/spec/26) and their Z85 text (spec/32).
/// Thread-safe for const use.
#pragma once

#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/base/secret.h"
#include "core/crypto/types.h"

namespace covey::crypto {

/// Move-only; wiped when it goes.
class CurveKeyPair {
 public:
  static CurveKeyPair generate();
  /// The pair whose 32-byte secret key this is. @errors invalid_argument: another length.
  static Result<CurveKeyPair> from_secret(ByteSpan secret);
  /// A pair that both who issued and who holds a 32-byte secret (an invite) can compute; `purpose` separates several
  /// pairs of one secret. The secret cannot be found from the pair. @errors invalid_argument: another length.
  static Result<CurveKeyPair> derive(ByteSpan secret, std::string_view purpose);

  [[nodiscard]] const CurvePublicKey& public_key() const { return public_; }
  /// 32 bytes, for ZMQ_CURVE_SECRETKEY. Valid while this object lives.
  [[nodiscard]] ByteSpan secret_key() const { return secret_.span(); }
  [[nodiscard]] SecretBytes secret_copy() const { return secret_.clone(); }

 private:
  CurveKeyPair() = default;
  SecretBytes secret_;
  CurvePublicKey public_;
};

/// 40 characters for 32 bytes. @errors invalid_argument: the length is no multiple of 4.
Result<std::string> z85_encode(ByteSpan bytes);
/// @errors corrupt_data: length no multiple of 5, a character outside the alphabet, or a group above 2^32 - 1.
Result<Bytes> z85_decode(std::string_view text);
std::string to_z85(const CurvePublicKey& key);
/// @errors corrupt_data: not 40 characters of Z85.
Result<CurvePublicKey> curve_key_from_z85(std::string_view text);

}  // namespace covey::crypto

/// BLAKE2b-256 (RFC 7693), plain and keyed, and subkeys of one secret. libsodium's crypto_generichash and crypto_kdf.
/// Pure functions of their input, the same on every machine. Thread-safe; a Hasher is not.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret.h"
#include "core/crypto/types.h"

namespace covey::crypto {

Hash256 hash(ByteSpan data);
inline Hash256 hash(std::string_view text) {
  return hash(as_byte_span(text));
}
/// `domain` is hashed in front of the data, ended by a zero byte: one meaning's bytes never pass for another's.
Hash256 hash_in(std::string_view domain, ByteSpan data);
/// A message authentication code, 16 to 64 bytes of key. @errors invalid_argument: key of another length.
Result<Hash256> keyed_hash(ByteSpan key, ByteSpan data);

/// Incremental form of hash(): update() any number of times, then finish() once.
class Hasher {
 public:
  Hasher();
  /// Starts as hash_in(domain, ...).
  explicit Hasher(std::string_view domain);
  Hasher& update(ByteSpan data);
  Hasher& update(std::string_view text) { return update(as_byte_span(text)); }
  /// As 8 bytes, little-endian.
  Hasher& update_u64(std::uint64_t value);
  /// The hash of all updates. The object then starts afresh, without a domain.
  Hash256 finish();

 private:
  alignas(64) std::array<std::uint8_t, 384> state_{};  ///< crypto_generichash_state, checked in hash.cpp
};

/// Subkey number `id` of a 32-byte master secret under `context` (at most 8 characters), `size` in [16, 64] bytes.
/// @errors invalid_argument: a length outside these.
Result<SecretBytes> derive_key(ByteSpan master, std::string_view context, std::uint64_t id, std::size_t size = 32);

}  // namespace covey::crypto

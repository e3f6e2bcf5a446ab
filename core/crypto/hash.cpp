#include "core/crypto/hash.h"

#include <sodium.h>

#include <cstring>
#include <string>

#include "core/crypto/sodium.h"

namespace covey::crypto {
namespace {

static_assert(sizeof(crypto_generichash_state) <= 384 && alignof(crypto_generichash_state) <= 64);

crypto_generichash_state* as_state(std::array<std::uint8_t, 384>& storage) {
  return reinterpret_cast<crypto_generichash_state*>(storage.data());
}

}  // namespace

Hash256 hash(ByteSpan data) {
  internal::ready();
  Hash256 out;
  crypto_generichash(out.bytes.data(), out.bytes.size(), data.data(), data.size(), nullptr, 0);
  return out;
}

Hash256 hash_in(std::string_view domain, ByteSpan data) {
  return Hasher(domain).update(data).finish();
}

Result<Hash256> keyed_hash(ByteSpan key, ByteSpan data) {
  internal::ready();
  if (key.size() < crypto_generichash_KEYBYTES_MIN || key.size() > crypto_generichash_KEYBYTES_MAX) {
    return Error{ErrorCode::invalid_argument,
                 "keyed hash: key has " + std::to_string(key.size()) + " bytes; give 16 to 64"};
  }
  Hash256 out;
  crypto_generichash(out.bytes.data(), out.bytes.size(), data.data(), data.size(), key.data(), key.size());
  return out;
}

Hasher::Hasher() {
  internal::ready();
  crypto_generichash_init(as_state(state_), nullptr, 0, Hash256::kSize);
}

Hasher::Hasher(std::string_view domain) : Hasher() {
  const std::uint8_t end = 0;
  update(domain).update(ByteSpan(&end, 1));
}

Hasher& Hasher::update(ByteSpan data) {
  crypto_generichash_update(as_state(state_), data.data(), data.size());
  return *this;
}

Hasher& Hasher::update_u64(std::uint64_t value) {
  std::array<std::uint8_t, 8> raw{};
  for (std::size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<std::uint8_t>(value >> (8 * i));
  return update(ByteSpan(raw));
}

Hash256 Hasher::finish() {
  Hash256 out;
  crypto_generichash_final(as_state(state_), out.bytes.data(), out.bytes.size());
  crypto_generichash_init(as_state(state_), nullptr, 0, Hash256::kSize);
  return out;
}

Result<SecretBytes> derive_key(ByteSpan master, std::string_view context, std::uint64_t id, std::size_t size) {
  internal::ready();
  if (master.size() != crypto_kdf_KEYBYTES || context.size() > crypto_kdf_CONTEXTBYTES || size < crypto_kdf_BYTES_MIN ||
      size > crypto_kdf_BYTES_MAX) {
    return Error{ErrorCode::invalid_argument,
                 "derive_key: needs a 32-byte master, a context of at most 8 characters and a size of 16 to 64"};
  }
  std::array<char, crypto_kdf_CONTEXTBYTES> padded{};
  std::memcpy(padded.data(), context.data(), context.size());
  SecretBytes out(size);
  crypto_kdf_derive_from_key(out.data(), out.size(), id, padded.data(), master.data());
  return out;
}

}  // namespace covey::crypto

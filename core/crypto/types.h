/// Fixed-size byte strings with a meaning: keys, signatures, hashes. Public values only; secrets are SecretBytes.
/// Comparable and hashable, never converted silently. Plain values, thread-safe as such.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>

#include "core/base/bytes.h"
#include "core/base/ids.h"

namespace covey::crypto {

template <typename Tag, std::size_t N>
struct FixedBytes {
  static constexpr std::size_t kSize = N;
  std::array<std::uint8_t, N> bytes{};

  auto operator<=>(const FixedBytes&) const = default;
  [[nodiscard]] ByteSpan span() const { return bytes; }
  [[nodiscard]] std::string hex() const { return to_hex(bytes); }
  /// The first 8 bytes in hexadecimal: for logs and tables.
  [[nodiscard]] std::string brief() const { return to_hex(ByteSpan(bytes).first(8)); }
  [[nodiscard]] bool is_zero() const { return bytes == std::array<std::uint8_t, N>{}; }

  /// Empty where `source` has another length.
  static std::optional<FixedBytes> from(ByteSpan source) {
    if (source.size() != N) return std::nullopt;
    FixedBytes out;
    std::memcpy(out.bytes.data(), source.data(), N);
    return out;
  }
  /// Empty where `text` is not 2 N hexadecimal digits.
  static std::optional<FixedBytes> from_hex(std::string_view text) {
    const auto raw = covey::from_hex(text);
    return raw ? from(*raw) : std::nullopt;
  }
};

using Hash256 = FixedBytes<struct Hash256Tag, 32>;                      ///< BLAKE2b-256
using PublicKey = FixedBytes<struct PublicKeyTag, 32>;                  ///< Ed25519
using Signature = FixedBytes<struct SignatureTag, 64>;                  ///< Ed25519, detached
using ExchangePublicKey = FixedBytes<struct ExchangePublicKeyTag, 32>;  ///< X25519
using CurvePublicKey = FixedBytes<struct CurvePublicKeyTag, 32>;        ///< ZeroMQ CURVE

/// A device is named by its identity key.
inline DeviceId device_id(const PublicKey& key) {
  return DeviceId{key.bytes};
}
inline PublicKey public_key(const DeviceId& id) {
  return PublicKey{id.key};
}

}  // namespace covey::crypto

template <typename Tag, std::size_t N>
struct std::hash<covey::crypto::FixedBytes<Tag, N>> {
  std::size_t operator()(const covey::crypto::FixedBytes<Tag, N>& value) const noexcept {
    std::size_t out = 0;  // keys and hashes are uniform already
    std::memcpy(&out, value.bytes.data(), sizeof out);
    return out;
  }
};

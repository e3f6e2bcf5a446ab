/// Strong types for the numbers that must not be mixed up.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

#include "core/base/bytes.h"

namespace covey {

/// A 64-bit number with a meaning. Comparable and hashable, never converted silently.
template <typename Tag>
struct StrongId {
  std::uint64_t value = 0;
  auto operator<=>(const StrongId&) const = default;
};

using RoundId = StrongId<struct RoundTag>;         ///< rounds of one task count 1, 2, 3, ...; 0 = none
using ModelVersion = StrongId<struct VersionTag>;  ///< adapter versions; 0 = the initial adapter

/// A device's identity: its Ed25519 public key (32 bytes).
struct DeviceId {
  std::array<std::uint8_t, 32> key{};
  auto operator<=>(const DeviceId&) const = default;
  /// The first 8 bytes in hexadecimal: for logs and tables.
  [[nodiscard]] std::string brief() const { return to_hex(std::span(key).first(8)); }
  [[nodiscard]] std::string hex() const { return to_hex(key); }
};

}  // namespace covey

template <typename Tag>
struct std::hash<covey::StrongId<Tag>> {
  std::size_t operator()(covey::StrongId<Tag> id) const noexcept { return std::hash<std::uint64_t>{}(id.value); }
};
template <>
struct std::hash<covey::DeviceId> {
  std::size_t operator()(const covey::DeviceId& id) const noexcept {
    std::size_t out = 0;  // the key is uniform already: its first bytes are a hash
    std::memcpy(&out, id.key.data(), sizeof out);
    return out;
  }
};

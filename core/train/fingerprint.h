/// FNV-1a, 64 bits: tells inputs apart and finds damage. Not a defence: checkpoints are sealed by their owner.
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include "core/base/bytes.h"

namespace covey::train {

class Fingerprint {
 public:
  void bytes(ByteSpan data) {
    for (const std::uint8_t byte : data) value_ = (value_ ^ byte) * 0x100000001b3ULL;
  }
  template <typename T>
  void number(const T& value) {
    static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);  // no padding, no pointers
    bytes({reinterpret_cast<const std::uint8_t*>(&value), sizeof value});
  }
  template <typename T>
  void array(std::span<const T> values) {
    number(values.size());
    bytes({reinterpret_cast<const std::uint8_t*>(values.data()), values.size_bytes()});
  }
  [[nodiscard]] std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325ULL;
};

}  // namespace covey::train

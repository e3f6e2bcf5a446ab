/// Inside of aggregation: little-endian state for the store. No lengths are trusted: a reader that runs short says so.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

#include "core/base/bytes.h"

namespace covey::aggregation {

inline void put_u64(Bytes& out, std::uint64_t value) {
  for (int shift = 0; shift < 64; shift += 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
}
inline void put_u32(Bytes& out, std::uint32_t value) {
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<std::uint8_t>(value >> shift));
}
inline void put_f32s(Bytes& out, std::span<const float> values) {
  for (const float value : values) put_u32(out, std::bit_cast<std::uint32_t>(value));
}

/// Reads past the end give 0 and make ok() false.
class StateReader {
 public:
  explicit StateReader(ByteSpan bytes) : left_(bytes) {}
  std::uint64_t u64() { return number(8); }
  std::uint32_t u32() { return static_cast<std::uint32_t>(number(4)); }
  float f32() { return std::bit_cast<float>(u32()); }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] std::size_t left() const { return left_.size(); }

 private:
  std::uint64_t number(std::size_t bytes) {
    if (left_.size() < bytes) {
      ok_ = false;
      left_ = {};
      return 0;
    }
    std::uint64_t out = 0;
    for (std::size_t i = bytes; i-- > 0;) out = out << 8 | left_[i];
    left_ = left_.subspan(bytes);
    return out;
  }
  ByteSpan left_;
  bool ok_ = true;
};

}  // namespace covey::aggregation

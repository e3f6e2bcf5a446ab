#include "aggregation/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/assert.h"

namespace covey::aggregation {

std::vector<std::int32_t> quantize(std::span<const float> x, double factor, std::int32_t magnitude_max,
                                   const RandomBits& random) {
  constexpr double kTwoTo32 = 4294967296.0;
  std::vector<std::int32_t> q(x.size());
  std::array<std::uint32_t, 1024> words{};
  for (std::size_t begin = 0; begin < x.size(); begin += words.size()) {
    const std::size_t count = std::min(words.size(), x.size() - begin);
    random(std::span(words).first(count));
    for (std::size_t i = 0; i < count; ++i) {
      const double y = static_cast<double>(x[begin + i]) * factor;
      const double below = std::floor(y);
      const bool up = static_cast<double>(words[i]) < (y - below) * kTwoTo32;
      const auto rounded = static_cast<std::int64_t>(below) + (up ? 1 : 0);
      q[begin + i] = static_cast<std::int32_t>(std::clamp<std::int64_t>(rounded, -magnitude_max, magnitude_max));
    }
  }
  return q;
}

std::size_t packed_size(std::size_t count, std::uint32_t bits) {
  return (count * bits + 7) / 8;
}

Bytes pack_signed(std::span<const std::int32_t> q, std::uint32_t bits) {
  COVEY_ASSERT(bits >= kValueBitsMin && bits <= kValueBitsMax);
  const std::uint32_t mask = (std::uint32_t{1} << bits) - 1;
  Bytes out;
  out.reserve(packed_size(q.size(), bits));
  std::uint64_t window = 0;  // bits that are not written yet, lowest first
  std::uint32_t filled = 0;
  for (const std::int32_t value : q) {
    COVEY_ASSERT(value < (1 << (bits - 1)) && value > -(1 << (bits - 1)));
    window |= static_cast<std::uint64_t>(static_cast<std::uint32_t>(value) & mask) << filled;
    for (filled += bits; filled >= 8; filled -= 8) {
      out.push_back(static_cast<std::uint8_t>(window));
      window >>= 8;
    }
  }
  if (filled > 0) out.push_back(static_cast<std::uint8_t>(window));
  return out;
}

Result<std::vector<std::int32_t>> unpack_signed(ByteSpan packed, std::size_t count, std::uint32_t bits) {
  COVEY_ASSERT(bits >= kValueBitsMin && bits <= kValueBitsMax && count <= kValuesMax);
  if (packed.size() != packed_size(count, bits)) {
    return Error{ErrorCode::invalid_argument, "update: has " + std::to_string(packed.size()) + " bytes of words, " +
                                                  std::to_string(packed_size(count, bits)) + " are due"};
  }
  const std::uint32_t mask = (std::uint32_t{1} << bits) - 1;
  const std::uint32_t sign = std::uint32_t{1} << (bits - 1);
  std::vector<std::int32_t> q(count);
  std::uint64_t window = 0;
  std::uint32_t filled = 0;
  std::size_t next = 0;
  for (std::int32_t& value : q) {
    for (; filled < bits; filled += 8) window |= static_cast<std::uint64_t>(packed[next++]) << filled;
    const std::uint32_t word = static_cast<std::uint32_t>(window) & mask;
    if (word == sign) return Error{ErrorCode::invalid_argument, "update: a word is out of range"};
    value = (word & sign) != 0 ? static_cast<std::int32_t>(word) - static_cast<std::int32_t>(mask) - 1
                               : static_cast<std::int32_t>(word);
    window >>= bits;
    filled -= bits;
  }
  if (window != 0) return Error{ErrorCode::invalid_argument, "update: the bits behind the last word are not 0"};
  return q;
}

}  // namespace covey::aggregation

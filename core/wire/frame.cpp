#include "core/wire/frame.h"

#include <algorithm>
#include <array>
#include <string>
#include <type_traits>

#include "core/wire/message.h"

namespace covey::wire {
namespace {

constexpr std::array<std::uint8_t, 4> kMagic = {'C', 'V', 'E', 'Y'};
constexpr std::uint32_t kKnownFlags = 0;

template <class T>
T get(ByteSpan bytes, std::size_t at) {
  std::uint64_t value = 0;
  for (std::size_t i = sizeof(T); i-- > 0;) value = value << 8 | bytes[at + i];
  return static_cast<T>(value);
}

template <class T>
void put(Bytes& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out.push_back(static_cast<std::uint8_t>(static_cast<std::uint64_t>(value) >> (8 * i)));
  }
}

Error too_large(std::size_t bytes) {
  return {ErrorCode::resource_exhausted, "frame has " + std::to_string(bytes) + " bytes, more than the " +
                                             std::to_string(kFrameBytesMax) + " allowed"};
}

Error corrupt(const std::string& what) {
  return {ErrorCode::corrupt_data, "frame: " + what};
}

}  // namespace

Result<FrameView> parse_frame(ByteSpan frame) {
  if (frame.size() > kFrameBytesMax) return too_large(frame.size());
  if (frame.size() < kFrameHeaderBytes) {
    return corrupt("has " + std::to_string(frame.size()) + " bytes, fewer than its header's 32");
  }
  if (!std::equal(kMagic.begin(), kMagic.end(), frame.begin())) return corrupt("does not begin with CVEY");
  FrameView out;
  out.header.version = get<std::uint16_t>(frame, 4);
  if (out.header.version != kFrameVersion) {
    return Error{ErrorCode::unsupported, "frame: version " + std::to_string(out.header.version) +
                                             " is not spoken here; spoken: " + std::to_string(kFrameVersion)};
  }
  out.header.type = get<std::uint16_t>(frame, 6);
  out.header.flags = get<std::uint32_t>(frame, 8);
  out.header.length = get<std::uint32_t>(frame, 12);
  out.header.round = get<std::uint64_t>(frame, 16);
  out.header.sequence = get<std::uint64_t>(frame, 24);
  if (!known_type(out.header.type)) return corrupt("type " + std::to_string(out.header.type) + " is unknown");
  if ((out.header.flags & ~kKnownFlags) != 0)
    return corrupt("flags " + std::to_string(out.header.flags) + " are unknown");
  if (out.header.length != frame.size() - kFrameHeaderBytes) {
    return corrupt("says " + std::to_string(out.header.length) + " bytes of payload, " +
                   std::to_string(frame.size() - kFrameHeaderBytes) + " follow");
  }
  out.payload = frame.subspan(kFrameHeaderBytes);
  return out;
}

Result<Bytes> build_frame(FrameHeader header, ByteSpan payload) {
  if (payload.size() > kFrameBytesMax - kFrameHeaderBytes) return too_large(payload.size() + kFrameHeaderBytes);
  Bytes out;
  out.reserve(kFrameHeaderBytes + payload.size());
  out.insert(out.end(), kMagic.begin(), kMagic.end());
  put(out, kFrameVersion);
  put(out, header.type);
  put(out, header.flags);
  put(out, static_cast<std::uint32_t>(payload.size()));
  put(out, header.round);
  put(out, header.sequence);
  out.insert(out.end(), payload.begin(), payload.end());
  return out;
}

}  // namespace covey::wire

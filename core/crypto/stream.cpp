#include "core/crypto/stream.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <bit>

#include "core/base/assert.h"
#include "core/crypto/sodium.h"

namespace covey::crypto {

static_assert(kStreamSeedBytes == crypto_stream_chacha20_KEYBYTES);

void stream_words(ByteSpan seed, std::uint64_t first, std::span<std::uint32_t> out) {
  internal::ready();
  COVEY_ASSERT(seed.size() == kStreamSeedBytes && first % kStreamBlockWords == 0);
  std::ranges::fill(out, 0U);
  static constexpr std::array<std::uint8_t, crypto_stream_chacha20_NONCEBYTES> kNonce{};
  auto* bytes = reinterpret_cast<std::uint8_t*>(out.data());
  crypto_stream_chacha20_xor_ic(bytes, bytes, out.size_bytes(), kNonce.data(), first / kStreamBlockWords, seed.data());
  if constexpr (std::endian::native == std::endian::big) {
    for (std::uint32_t& word : out) word = __builtin_bswap32(word);
  }
}

}  // namespace covey::crypto

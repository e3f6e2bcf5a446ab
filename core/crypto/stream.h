/// ChaCha20 (Bernstein 2008; 64-bit counter, 64-bit nonce) as a source of pseudorandom words: one 256-bit seed names
/// one sequence of 32-bit words, any part of which can be made on its own. libsodium's crypto_stream_chacha20_xor_ic.
/// Pure functions, the same bits on every machine. Thread-safe.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/bytes.h"

namespace covey::crypto {

inline constexpr std::size_t kStreamSeedBytes = 32;
/// Words of one ChaCha20 block: where a part may begin.
inline constexpr std::uint64_t kStreamBlockWords = 16;

/// out[i] = word first + i of the seed's sequence (little-endian words of the key stream under nonce 0).
/// A seed is used for one sequence only: derive another one for another purpose.
/// @param seed   32 bytes. @param first  a multiple of kStreamBlockWords.
void stream_words(ByteSpan seed, std::uint64_t first, std::span<std::uint32_t> out);

}  // namespace covey::crypto

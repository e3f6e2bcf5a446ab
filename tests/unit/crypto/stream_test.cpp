// Expected key stream: draft-agl-tls-chacha20poly1305-04, section 7 (64-bit nonce of zero); block 3 from a ChaCha20
// written for this purpose in Python.
#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "core/crypto/stream.h"
#include "support/support.h"

using namespace covey;
using namespace covey::crypto;

TEST_CASE("the words of a seed are ChaCha20's key stream") {
  const Bytes zero(32);
  std::array<std::uint32_t, 16> words{};
  stream_words(zero, 0, words);
  CHECK(words[0] == 0xade0b876);  // 76 b8 e0 ad ...
  CHECK(words[1] == 0x903df1a0);
  CHECK(words[2] == 0xe56a5d40);
  CHECK(words[3] == 0x28bd8653);
  Bytes one(32);
  one[31] = 1;
  stream_words(one, 0, words);
  CHECK(words[0] == 0x5af04045);  // 45 40 f0 5a ...
  CHECK(words[1] == 0x96b21f9f);
}

TEST_CASE("a later block of the stream is the one its counter names") {
  Bytes seed(32);
  for (std::size_t i = 0; i < seed.size(); ++i) seed[i] = static_cast<std::uint8_t>(i);
  std::array<std::uint32_t, 2> words{};
  stream_words(seed, 48, words);
  CHECK(words[0] == 0xc011abe7);
  CHECK(words[1] == 0x7e3b3cf7);
}

TEST_CASE("any part of a stream is the same as within the whole, and seeds differ") {
  Bytes seed(32, 7);
  std::vector<std::uint32_t> whole(4096);
  stream_words(seed, 0, whole);
  for (const std::size_t first : {0U, 16U, 1024U, 4080U}) {
    for (const std::size_t count : {1U, 15U, 16U}) {
      std::vector<std::uint32_t> part(count, 0xffffffff);  // what was there before does not matter
      stream_words(seed, first, part);
      CHECK(std::equal(part.begin(), part.end(), whole.begin() + static_cast<std::ptrdiff_t>(first)));
    }
  }
  seed[31] ^= 1;
  std::vector<std::uint32_t> other(4096);
  stream_words(seed, 0, other);
  std::size_t equal = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) equal += whole[i] == other[i] ? 1 : 0;
  CHECK(equal < 3);
}

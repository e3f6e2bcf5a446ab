#include "aggregation/secagg_masks.h"

#include <string.h>  // explicit_bzero

#include <algorithm>
#include <array>

#include "core/crypto/stream.h"

namespace covey::aggregation {
namespace {

constexpr std::size_t kPartWords = 4096;
constexpr std::size_t kTileWords = std::size_t{16} * kPartWords;

void add_to_tile(std::span<std::uint32_t> words, std::size_t first, std::size_t count,
                 std::span<const MaskTerm> terms) {
  std::array<std::uint32_t, kPartWords> part;  // NOLINT: filled before it is read
  for (const MaskTerm& term : terms) {
    for (std::size_t begin = first; begin < first + count; begin += kPartWords) {
      const std::size_t size = std::min(kPartWords, first + count - begin);
      crypto::stream_words(term.seed.span(), begin, std::span(part).first(size));
      std::uint32_t* out = words.data() + begin;
      if (term.negative) {
        for (std::size_t i = 0; i < size; ++i) out[i] -= part[i];
      } else {
        for (std::size_t i = 0; i < size; ++i) out[i] += part[i];
      }
    }
  }
  explicit_bzero(part.data(), sizeof part);
}

}  // namespace

void add_masks(std::span<std::uint32_t> words, std::span<const MaskTerm> terms, ThreadPool* pool) {
  const std::size_t tiles = (words.size() + kTileWords - 1) / kTileWords;
  const auto one = [&](std::size_t tile) {
    const std::size_t first = tile * kTileWords;
    add_to_tile(words, first, std::min(kTileWords, words.size() - first), terms);
  };
  if (pool != nullptr) {
    pool->parallel_for(tiles, one);
  } else {
    for (std::size_t tile = 0; tile < tiles; ++tile) one(tile);
  }
}

}  // namespace covey::aggregation

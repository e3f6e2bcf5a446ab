#include "core/train/direction.h"

#include <algorithm>

#include "core/base/rng.h"

namespace covey::train {
namespace {

constexpr std::uint64_t kStream = 0x4449524543544E;  // "DIRECTN": apart from what else a seed may be used for

}  // namespace

void add_direction(ThreadPool& pool, std::span<const Piece> pieces, std::uint64_t seed, float scale) {
  const CounterRng rng(seed, kStream);
  for_tiles(pool, pieces, [&](const Piece&, std::int64_t offset, std::span<float> values) {
    rng.add_normal(values, scale, static_cast<std::uint64_t>(offset));
  });
}

void combine(std::span<const SeededTerm> terms, std::int64_t first, std::span<float> out) {
  std::fill(out.begin(), out.end(), 0.0F);
  for (const SeededTerm& term : terms) {
    CounterRng(term.seed, kStream).add_normal(out, term.weight, static_cast<std::uint64_t>(first));
  }
}

}  // namespace covey::train

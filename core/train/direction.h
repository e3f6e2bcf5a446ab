/// Random directions in the space of the P trained values, named by a seed: z ~ N(0, I), element i of direction `seed`
/// in O(1), the same bits on every machine (core/base/rng.h). Nothing of size P is ever stored for one.
#pragma once

#include <cstdint>
#include <span>

#include "core/base/thread_pool.h"
#include "core/train/parameters.h"

namespace covey::train {

/// weight * z(seed): a gradient estimate is a sum of a few.
struct SeededTerm {
  std::uint64_t seed = 0;
  float weight = 0;
};

/// values[i] += scale * z_i, in place, over all pieces. The same bits with any number of threads.
void add_direction(ThreadPool& pool, std::span<const Piece> pieces, std::uint64_t seed, float scale);

/// out[i] = sum over terms, in their order, of weight * z_(first + i).
void combine(std::span<const SeededTerm> terms, std::int64_t first, std::span<float> out);

}  // namespace covey::train

/// Cuts a range into fixed pieces over the pool. Internal to core/kernels.
#pragma once

#include <cstddef>

#include "core/base/thread_pool.h"

namespace covey::kernels {

/// Elements in a piece of cheap work. A multiple of 16, so that whole vectors never straddle two pieces.
inline constexpr std::size_t kGrain = 16384;

/// Calls fn(begin, end) for consecutive pieces of [0, n) of `grain` each; on the calling thread where they are so few
/// that waking another would cost more.
template <typename F>
void for_pieces(ThreadPool& pool, std::size_t n, std::size_t grain, F&& fn) {
  if (grain == 0) grain = 1;
  const auto run = [&](std::size_t piece) {
    const std::size_t begin = piece * grain;
    fn(begin, begin + grain < n ? begin + grain : n);
  };
  const std::size_t pieces = (n + grain - 1) / grain;
  if (pieces < 3) {
    for (std::size_t piece = 0; piece < pieces; ++piece) run(piece);
  } else {
    pool.parallel_for(pieces, run);
  }
}

/// Rows of `width` floats: pieces of about 64 KiB.
template <typename F>
void for_rows(ThreadPool& pool, int rows, int width, F&& fn) {
  const std::size_t grain = 1 + 16384 / static_cast<std::size_t>(width > 0 ? width : 1);
  for_pieces(pool, static_cast<std::size_t>(rows), grain,
             [&](std::size_t begin, std::size_t end) { fn(static_cast<int>(begin), static_cast<int>(end)); });
}

}  // namespace covey::kernels

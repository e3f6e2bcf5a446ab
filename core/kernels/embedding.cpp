#include "core/kernels/embedding.h"

#include <cstring>

#include "core/kernels/tiles.h"

namespace covey::kernels {

void embedding_forward(ThreadPool& pool, int N, int H, const std::int32_t* ids, const float* table, float* y) {
  const auto width = static_cast<std::size_t>(H);
  for_rows(pool, N, H, [&](int begin, int end) {
    for (int n = begin; n < end; ++n) {
      if (ids[n] < 0) continue;
      std::memcpy(y + static_cast<std::size_t>(n) * width, table + static_cast<std::size_t>(ids[n]) * width,
                  width * sizeof(float));
    }
  });
}

void embedding_add(ThreadPool& pool, int N, int H, const std::int32_t* ids, int offset, const float* table, float* y) {
  const auto width = static_cast<std::size_t>(H);
  for_rows(pool, N, H, [&](int begin, int end) {
    for (int n = begin; n < end; ++n) {
      float* to = y + static_cast<std::size_t>(n) * width;
      const float* from = table + static_cast<std::size_t>(ids[n] + offset) * width;
      for (std::size_t i = 0; i < width; ++i) to[i] += from[i];
    }
  });
}

void embedding_backward(ThreadPool& pool, int N, int H, const std::int32_t* ids, const float* dy, float* dtable,
                        int offset) {
  const auto width = static_cast<std::size_t>(H);
  for_pieces(pool, width, 64, [&](std::size_t begin, std::size_t end) {
    for (int n = 0; n < N; ++n) {
      if (ids[n] < 0) continue;
      float* to = dtable + static_cast<std::size_t>(ids[n] + offset) * width;
      const float* from = dy + static_cast<std::size_t>(n) * width;
      for (std::size_t i = begin; i < end; ++i) to[i] += from[i];
    }
  });
}

}  // namespace covey::kernels

#include "core/kernels/norm.h"

#include "core/kernels/isa.h"
#include "core/kernels/tiles.h"

namespace covey::kernels {

void rmsnorm_forward(ThreadPool& pool, int N, int H, const float* x, const float* weight, float eps, float* y,
                     float* inverse) {
  for_rows(pool, N, H,
           [&](int begin, int end) { isa_table().rmsnorm_forward(begin, end, H, x, weight, eps, y, inverse); });
}

void rmsnorm_recompute(ThreadPool& pool, int N, int H, const float* x, const float* weight, const float* inverse,
                       float* y) {
  for_rows(pool, N, H,
           [&](int begin, int end) { isa_table().rmsnorm_recompute(begin, end, H, x, weight, inverse, y); });
}

void rmsnorm_backward(ThreadPool& pool, int N, int H, const float* dy, const float* x, const float* weight,
                      const float* inverse, float* dx) {
  for_rows(pool, N, H,
           [&](int begin, int end) { isa_table().rmsnorm_backward(begin, end, H, dy, x, weight, inverse, dx); });
}

void rmsnorm_jvp(ThreadPool& pool, int N, int H, const float* x, const float* weight, const float* inverse,
                 const float* x_t, float* y_t) {
  for_rows(pool, N, H,
           [&](int begin, int end) { isa_table().rmsnorm_jvp(begin, end, H, x, weight, inverse, x_t, y_t); });
}

void rmsnorm_backward_weight(ThreadPool& pool, int N, int H, const float* dy, const float* x, const float* inverse,
                             float* dweight) {
  for_pieces(pool, static_cast<std::size_t>(H), 64, [&](std::size_t begin, std::size_t end) {
    for (std::size_t n = 0; n < static_cast<std::size_t>(N); ++n) {
      const std::size_t at = n * static_cast<std::size_t>(H);
      for (std::size_t i = begin; i < end; ++i) dweight[i] += dy[at + i] * (x[at + i] * inverse[n]);
    }
  });
}

}  // namespace covey::kernels

#include "core/kernels/elementwise.h"

#include "core/kernels/isa.h"
#include "core/kernels/tiles.h"

namespace covey::kernels {
namespace {
constexpr std::size_t kGrain = 16384;  // a multiple of 16, so that whole vectors never straddle two pieces
}

void swiglu_forward(ThreadPool& pool, std::size_t n, const float* gate, const float* up, float* h) {
  for_pieces(pool, n, kGrain,
             [&](std::size_t begin, std::size_t end) { isa_table().swiglu_forward(begin, end, gate, up, h); });
}

void swiglu_backward(ThreadPool& pool, std::size_t n, const float* dh, float* gate, float* up) {
  for_pieces(pool, n, kGrain,
             [&](std::size_t begin, std::size_t end) { isa_table().swiglu_backward(begin, end, dh, gate, up); });
}

void swiglu_jvp(ThreadPool& pool, std::size_t n, const float* gate, const float* up, const float* gate_t,
                const float* up_t, float* h_t) {
  for_pieces(pool, n, kGrain, [&](std::size_t begin, std::size_t end) {
    isa_table().swiglu_jvp(begin, end, gate, up, gate_t, up_t, h_t);
  });
}

void add(ThreadPool& pool, std::size_t n, const float* x, float* y) {
  for_pieces(pool, n, 4 * kGrain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) y[i] += x[i];
  });
}

void add_bias(ThreadPool& pool, int N, int C, const float* bias, float* y) {
  for_rows(pool, N, C, [&](int begin, int end) {
    for (std::size_t n = static_cast<std::size_t>(begin); n < static_cast<std::size_t>(end); ++n) {
      float* row = y + n * static_cast<std::size_t>(C);
      for (std::size_t c = 0; c < static_cast<std::size_t>(C); ++c) row[c] += bias[c];
    }
  });
}

void bias_backward(ThreadPool& pool, int N, int C, const float* dy, float* dbias) {
  for_pieces(pool, static_cast<std::size_t>(C), 64, [&](std::size_t begin, std::size_t end) {
    for (std::size_t n = 0; n < static_cast<std::size_t>(N); ++n) {
      const float* row = dy + n * static_cast<std::size_t>(C);
      for (std::size_t c = begin; c < end; ++c) dbias[c] += row[c];
    }
  });
}

}  // namespace covey::kernels

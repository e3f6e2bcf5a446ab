/// Dense f32 matrix products. All matrices row-major; cut into tiles that depend on the shape alone, so
/// the bits are the same for any number of threads (they may differ between instruction sets).
#pragma once

#include "core/base/thread_pool.h"

namespace covey::kernels {

struct GemmOptions {
  float alpha = 1;
  bool accumulate = false;  ///< add to what `y` holds instead of overwriting it
  long a_row = 0;           ///< floats from one row of the first operand to the next; 0: contiguous
  long b_row = 0;           ///< of the second
  long y_row = 0;           ///< of the result
};

/// y (M,N) = alpha x (M,K) w (N,K)^T: a linear layer's forward pass, w as [out, in].
void gemm_nt(ThreadPool& pool, int M, int N, int K, const float* x, const float* w, float* y, GemmOptions options = {});
/// y (M,N) = alpha a (M,K) b (K,N): its input gradient, dX = dY W.
void gemm_nn(ThreadPool& pool, int M, int N, int K, const float* a, const float* b, float* y, GemmOptions options = {});
/// y (M,N) = alpha a (K,M)^T b (K,N): its weight gradient, dW = dY^T X.
void gemm_tn(ThreadPool& pool, int M, int N, int K, const float* a, const float* b, float* y, GemmOptions options = {});

}  // namespace covey::kernels

/// SwiGLU and the few additions a transformer needs. All arrays (n) unless said otherwise.
#pragma once

#include <cstddef>

#include "core/base/thread_pool.h"

namespace covey::kernels {

/// h = silu(gate) * up. Source: Shazeer, 2020.
void swiglu_forward(ThreadPool& pool, std::size_t n, const float* gate, const float* up, float* h);
/// Overwrites gate and up with their gradients.
void swiglu_backward(ThreadPool& pool, std::size_t n, const float* dh, float* gate, float* up);
/// h_t: the derivative of h along (gate_t, up_t).
void swiglu_jvp(ThreadPool& pool, std::size_t n, const float* gate, const float* up, const float* gate_t,
                const float* up_t, float* h_t);

/// y += x.
void add(ThreadPool& pool, std::size_t n, const float* x, float* y);
/// y (N,C) += bias (C), to every row.
void add_bias(ThreadPool& pool, int N, int C, const float* bias, float* y);
/// dbias (C) += the sum of dy's rows.
void bias_backward(ThreadPool& pool, int N, int C, const float* dy, float* dbias);

}  // namespace covey::kernels

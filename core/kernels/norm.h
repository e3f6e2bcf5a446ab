/// Root-mean-square normalization. Source: Zhang and Sennrich, 2019. y = x / sqrt(mean(x^2) + eps) * weight.
#pragma once

#include "core/base/thread_pool.h"

namespace covey::kernels {

/// x, y (N,H), may be the same; weight (H); inverse (N): 1 / sqrt(mean + eps), kept for the backward pass.
void rmsnorm_forward(ThreadPool& pool, int N, int H, const float* x, const float* weight, float eps, float* y,
                     float* inverse);
/// y again from the kept inverse: the same bits.
void rmsnorm_recompute(ThreadPool& pool, int N, int H, const float* x, const float* weight, const float* inverse,
                       float* y);
/// dx (N,H) += the gradient with respect to x. dx must not be dy.
void rmsnorm_backward(ThreadPool& pool, int N, int H, const float* dy, const float* x, const float* weight,
                      const float* inverse, float* dx);
/// y_t (N,H): the derivative of y along x_t.
void rmsnorm_jvp(ThreadPool& pool, int N, int H, const float* x, const float* weight, const float* inverse,
                 const float* x_t, float* y_t);
/// dweight (H) += the gradient with respect to the weight.
void rmsnorm_backward_weight(ThreadPool& pool, int N, int H, const float* dy, const float* x, const float* inverse,
                             float* dweight);

}  // namespace covey::kernels

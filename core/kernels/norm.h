/// Normalization of rows, or of each head's part of a row. With w = weight + weight_offset (1 where there is none):
///   rms    y = x / sqrt(mean(x^2) + eps) * w                        Zhang and Sennrich, 2019
///   layer  y = (x - mean(x)) / sqrt(var(x) + eps) * w + bias        Ba et al., 2016
///   affine y = x * w + bias                                         MobileBERT's "no norm", Sun et al., 2020
#pragma once

#include <cstdint>

#include "core/base/thread_pool.h"

namespace covey::kernels {

enum class NormKind : std::uint8_t { rms, layer, affine };

/// N rows with `heads` groups of H elements each; group h of row n begins at n * x_row + h * H.
struct NormArgs {
  NormKind kind = NormKind::rms;
  int N = 0;
  int H = 0;
  int heads = 1;
  long x_row = 0;                 ///< floats from one row of x to the next; 0: heads * H. dx and x_t have the same
  long y_row = 0;                 ///< of y, dy and y_t
  const float* weight = nullptr;  ///< (H), (heads, H) with own_weights, or nullptr
  const float* bias = nullptr;    ///< the same shape, or nullptr
  float weight_offset = 0;        ///< 1: Gemma's weights count from one
  bool own_weights = false;       ///< every head has its own
  float eps = 0;
};

/// Kept for the backward pass, (N, heads) each: 1 / sqrt(...), and the mean (layer only).
struct NormStats {
  float* inverse = nullptr;
  float* mean = nullptr;
};

/// x and y may be the same.
void norm_forward(ThreadPool& pool, const NormArgs& args, const float* x, float* y, const NormStats& stats);
/// y again from the kept statistics: the same bits.
void norm_recompute(ThreadPool& pool, const NormArgs& args, const float* x, float* y, const NormStats& stats);
/// dx: the gradient with respect to x, added to what is there where `accumulate`. dx must not be dy.
void norm_backward(ThreadPool& pool, const NormArgs& args, const float* dy, const float* x, const NormStats& stats,
                   bool accumulate, float* dx);
/// y_t: the derivative of y along x_t.
void norm_jvp(ThreadPool& pool, const NormArgs& args, const float* x, const NormStats& stats, const float* x_t,
              float* y_t);
/// dweight and dbias (either may be nullptr), of the weight's shape, += their gradients.
void norm_backward_weight(ThreadPool& pool, const NormArgs& args, const float* dy, const float* x,
                          const NormStats& stats, float* dweight, float* dbias);

}  // namespace covey::kernels

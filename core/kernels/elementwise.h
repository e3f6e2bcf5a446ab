/// The few additions, scalings and shifts a model needs besides its matrices. All arrays (n) unless said otherwise.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/base/thread_pool.h"

namespace covey::kernels {

/// y += x.
void add(ThreadPool& pool, std::size_t n, const float* x, float* y);
/// y (N,C) += bias (C), to every row.
void add_bias(ThreadPool& pool, int N, int C, const float* bias, float* y);
/// dbias (C) += the sum of dy's rows.
void bias_backward(ThreadPool& pool, int N, int C, const float* dy, float* dbias);

/// y *= factor.
void scale(ThreadPool& pool, std::size_t n, float factor, float* y);

/// y (N,C) = (accumulate: +=) x * factor, where factor (C) is one for each column. x and y may be the same.
struct ColumnArgs {
  int N = 0;
  int C = 0;
  long x_row = 0;  ///< floats from one row of x to the next; 0: C
  long y_row = 0;
  bool accumulate = false;
};
void scale_columns(ThreadPool& pool, const ColumnArgs& args, const float* factor, const float* x, float* y);
/// out (C) += the sum over rows of x * y.
void column_dots(ThreadPool& pool, const ColumnArgs& args, const float* x, const float* y, float* out);

/// RWKV's token shift: y (N,H) = x * mix + before * (1 - mix), where `before` is the row above, or zero where
/// position (N) is 0. `first` replaces the row above row 0 (a decoder's state), where given. `of_above`: the mix is the
/// row above's share (version 7), not the row's own (version 4).
struct ShiftArgs {
  int N = 0;
  int H = 0;
  const std::int32_t* position = nullptr;
  const float* mix = nullptr;  ///< (H)
  const float* first = nullptr;
  bool of_above = false;
};
void shift_forward(ThreadPool& pool, const ShiftArgs& args, const float* x, float* y);
/// dx = (accumulate: +=) the gradient with respect to x.
void shift_backward(ThreadPool& pool, const ShiftArgs& args, const float* dy, bool accumulate, float* dx);
/// dmix (H) += its gradient.
void shift_backward_mix(ThreadPool& pool, const ShiftArgs& args, const float* dy, const float* x, float* dmix);

/// MobileBERT's trigram: y (N, 3 E) = the row below, the row itself, the row above, each x (N,E); zero outside the
/// sequence. Sequences begin where
/// position is 0.
struct TrigramArgs {
  int N = 0;
  int E = 0;
  const std::int32_t* position = nullptr;
  const float* padding = nullptr;        ///< (E): what stands below a sequence's last row where it is `padded`
  const std::uint8_t* padded = nullptr;  ///< (N): 1 at such last rows
};
void trigram_forward(ThreadPool& pool, const TrigramArgs& args, const float* x, float* y);
void trigram_backward(ThreadPool& pool, const TrigramArgs& args, const float* dy, float* dx);

}  // namespace covey::kernels

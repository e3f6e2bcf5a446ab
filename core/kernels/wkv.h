/// RWKV version 4's weighted average over the past, per channel. Source: Peng et al., 2023, "RWKV".
/// With w = -exp(decay) and u = first: y_t = (A_t + e^(u+k_t) v_t) / (B_t + e^(u+k_t)), A_(t+1) = e^w A_t + e^(k_t)
/// v_t, B likewise without v. States are kept as (A, B) / e^p and p, so nothing overflows.
#pragma once

#include <span>

#include "core/base/thread_pool.h"
#include "core/kernels/attention.h"

namespace covey::kernels {

struct WkvArgs {
  std::span<const AttentionRow> rows;  ///< q_begin and q_count of each sequence
  int width = 0;                       ///< A: channels
  const float* decay = nullptr;        ///< (A)
  const float* first = nullptr;        ///< (A)
  const float* k = nullptr;            ///< (N,A)
  const float* v = nullptr;            ///< (N,A)
  float* carried = nullptr;  ///< (3,A): state before the first row, becomes the one after the last; one sequence only
};

/// y (N,A); states (N, 3 A): A, B and p before each step, for the backward pass; nullptr: not kept.
void wkv_forward(ThreadPool& pool, const WkvArgs& args, float* y, float* states);

struct WkvBackward {
  const float* y = nullptr;
  const float* states = nullptr;
  const float* dy = nullptr;
  float* dk = nullptr;  ///< overwritten, as dv
  float* dv = nullptr;
  float* ddecay = nullptr;  ///< (rows, A), overwritten; nullptr: not wanted, as dfirst
  float* dfirst = nullptr;
};
void wkv_backward(ThreadPool& pool, const WkvArgs& args, const WkvBackward& grads);
/// y_t: the derivative of y along (k_t, v_t).
void wkv_jvp(ThreadPool& pool, const WkvArgs& args, const float* k_t, const float* v_t, float* y_t);

/// What `carried` holds before anything was seen.
void wkv_clear(int width, float* carried);

}  // namespace covey::kernels

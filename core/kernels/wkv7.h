/// RWKV version 7's memory: per head a matrix S (D,D), value by key, that decays, forgets what it held under a key and
/// takes the new value ("generalized delta rule"). Source: Peng et al., 2025, "RWKV-7 Goose".
/// With n = k * key_scale / |k * key_scale| per head, d = exp(-e^(-1/2) sigmoid(w)), k' = k (1 + (a - 1) key_rate):
///   S_t = S_(t-1) (diag(d) - n (a n)^T) + v k'^T        y_t = S_t r
/// D is a multiple of 16 and at most kWkv7HeadMax (asserted).
#pragma once

#include <span>

#include "core/base/thread_pool.h"
#include "core/kernels/attention.h"

namespace covey::kernels {

constexpr int kWkv7HeadMax = 256;
/// Every so many positions the state is kept; the backward pass makes those between again.
constexpr int kWkv7Chunk = 16;

struct Wkv7Args {
  std::span<const AttentionRow> rows;  ///< q_begin and q_count of each sequence
  int heads = 0;
  int D = 0;
  const float* key_scale = nullptr;  ///< (A), A = heads * D
  const float* key_rate = nullptr;   ///< (A)
  const float* r = nullptr;          ///< (N,A), as those below
  const float* w = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* a = nullptr;  ///< rates, from 0 to 1
  float* carried = nullptr;  ///< (heads,D,D): state before the first row, becomes the one after; one sequence only
};

/// y (N,A); states (N, A D / kWkv7Chunk): the state after every full chunk of a sequence; nullptr: not kept.
/// @cost O(N A D) time.
void wkv7_forward(ThreadPool& pool, const Wkv7Args& args, float* y, float* states);

/// Gradients (N,A) that are nullptr are not wanted; `add_*` says that they are added to what is there.
struct Wkv7Backward {
  const float* states = nullptr;
  const float* dy = nullptr;
  float *dr = nullptr, *dw = nullptr, *dk = nullptr, *dv = nullptr, *da = nullptr;
  bool add_r = false, add_w = false, add_k = false, add_v = false, add_a = false;
  float* dkey_scale = nullptr;  ///< (rows, A), overwritten; nullptr: not wanted, as dkey_rate
  float* dkey_rate = nullptr;
};
/// @cost four times the forward pass; per thread (kWkv7Chunk + 2) D D floats on the heap.
void wkv7_backward(ThreadPool& pool, const Wkv7Args& args, const Wkv7Backward& grads);

/// The inputs' tangents, (N,A) each.
struct Wkv7Tangent {
  const float *r = nullptr, *w = nullptr, *k = nullptr, *v = nullptr, *a = nullptr;
};
/// y_t: the derivative of y along `tangent`.
void wkv7_jvp(ThreadPool& pool, const Wkv7Args& args, const Wkv7Tangent& tangent, float* y_t);

/// What the current token adds on its own, per head: y += (sum over D of r k' weight) v, with k' as above.
struct Wkv7Bonus {
  int N = 0;
  int heads = 0;
  int D = 0;
  const float* key_rate = nullptr;                                     ///< (A)
  const float* weight = nullptr;                                       ///< (A)
  const float *r = nullptr, *k = nullptr, *v = nullptr, *a = nullptr;  ///< (N,A)
};
void wkv7_bonus_forward(ThreadPool& pool, const Wkv7Bonus& args, float* y);
/// Uses dy, dr, dk, dv, da and their flags, and dkey_rate and dweight, (A) each, which are added to.
void wkv7_bonus_backward(ThreadPool& pool, const Wkv7Bonus& args, const Wkv7Backward& grads, float* dkey_rate,
                         float* dweight);
/// y_t += the derivative along the tangents of r, k, v and a.
void wkv7_bonus_jvp(ThreadPool& pool, const Wkv7Bonus& args, const Wkv7Tangent& tangent, float* y_t);

/// y = x + (other - x) * share, all (n).
void lerp_forward(ThreadPool& pool, std::size_t n, const float* x, const float* other, const float* share, float* y);
/// Gradients that are nullptr are not wanted; add[i] as above, in the order x, other, share.
void lerp_backward(ThreadPool& pool, std::size_t n, const float* x, const float* other, const float* share,
                   const float* dy, float* const grads[3], const bool add[3]);
void lerp_jvp(ThreadPool& pool, std::size_t n, const float* x, const float* other, const float* share, const float* x_t,
              const float* other_t, const float* share_t, float* y_t);

}  // namespace covey::kernels

/// Grouped-query attention over packed rows: causal or not, with an optional sliding window, biases by distance and a
/// soft cap; no T x T matrix is made. Source: Dao et al., "FlashAttention", 2022 (blocks with a running maximum; the
/// backward pass recomputes from the kept log-sum-exp); Ainslie et al., "GQA", 2023; Press et al., "ALiBi", 2022;
/// Raffel et al., 2020 (relative biases).
#pragma once

#include <span>

#include "core/base/thread_pool.h"

namespace covey::kernels {

/// One sequence: its queries are the last q_count of its kv_count positions (causal), or look at all of them.
struct AttentionRow {
  int q_begin = 0;  ///< first row of q, out and lse
  int q_count = 0;
  int kv_begin = 0;  ///< first row of k and v
  int kv_count = 0;
};

/// Where head h of row n begins: n * row + h * head. Zero in both: contiguous.
struct HeadStride {
  long row = 0;
  long head = 0;
};

struct AttentionShape {
  std::span<const AttentionRow> rows;
  int heads = 0;
  int kv_heads = 0;  ///< divides heads
  int D = 0;
  int window = 0;  ///< a query at i sees keys i-W+1..i (causal only); 0 = all before it
  float scale = 1;
  bool causal = true;
  float soft_cap = 0;             ///< scores become cap * tanh(score / cap); 0: none. After the biases
  const float* slopes = nullptr;  ///< (heads): scores += slope * (key - query)
  /// (heads, 2 * reach - 1): scores += distance_bias[h][key - query + reach - 1]; all distances are below reach.
  const float* distance_bias = nullptr;
  int reach = 0;
  HeadStride q_at = {};  ///< of q, dq and q_t
  HeadStride k_at = {};
  HeadStride v_at = {};
};

/// q as (N, heads, D); k, v as (N_kv, kv_heads, D), each with its stride; out (N, heads, D) contiguous; lse (N, heads):
/// log-sum-exp of the final scores, for the backward pass.
void attention_forward(ThreadPool& pool, const AttentionShape& shape, const float* q, const float* k, const float* v,
                       float* out, float* lse);

struct AttentionBackward {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* out = nullptr;
  const float* lse = nullptr;
  const float* dout = nullptr;
  float* dq = nullptr;  ///< as q, overwritten
  float* dk = nullptr;  ///< as k, overwritten
  float* dv = nullptr;
  /// (rows, heads, 2 * reach - 1), zeroed by the caller, += gradients of distance_bias, a part per row of the batch;
  /// nullptr: not wanted.
  float* dbias = nullptr;
};
struct AttentionJvp {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* out = nullptr;
  const float* lse = nullptr;
  const float* q_t = nullptr;
  const float* k_t = nullptr;
  const float* v_t = nullptr;
  float* out_t = nullptr;  ///< (N, heads, D): the derivative of out along (q_t, k_t, v_t)
};
void attention_jvp(ThreadPool& pool, const AttentionShape& shape, const AttentionJvp& args);
void attention_backward(ThreadPool& pool, const AttentionShape& shape, const AttentionBackward& args);

}  // namespace covey::kernels

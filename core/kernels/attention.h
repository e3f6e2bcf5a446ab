/// Causal grouped-query attention over packed rows, with an optional sliding window; no T x T matrix is made.
/// Source: Dao et al., "FlashAttention", 2022 (blocks with a running maximum; the backward pass recomputes from the
/// kept log-sum-exp); Ainslie et al., "GQA", 2023.
#pragma once

#include <span>

#include "core/base/thread_pool.h"

namespace covey::kernels {

/// One sequence: its queries are the last q_count of its kv_count positions.
struct AttentionRow {
  int q_begin = 0;  ///< first row of q, out and lse
  int q_count = 0;
  int kv_begin = 0;  ///< first row of k and v
  int kv_count = 0;
};

struct AttentionShape {
  std::span<const AttentionRow> rows;
  int heads = 0;
  int kv_heads = 0;  ///< divides heads
  int D = 0;
  int window = 0;  ///< a query at i sees keys i-W+1..i; 0 = all before it
  float scale = 1;
};

/// q, out (N, heads, D); k, v (N_kv, kv_heads, D); lse (N, heads): log-sum-exp of the scaled scores, for the backward
/// pass.
void attention_forward(ThreadPool& pool, const AttentionShape& shape, const float* q, const float* k, const float* v,
                       float* out, float* lse);

struct AttentionBackward {
  const float* q = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* out = nullptr;
  const float* lse = nullptr;
  const float* dout = nullptr;
  float* dq = nullptr;  ///< (N, heads, D), overwritten
  float* dk = nullptr;  ///< (N_kv, kv_heads, D), overwritten
  float* dv = nullptr;
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

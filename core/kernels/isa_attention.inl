// Attention, one block of queries at a time. Included inside a namespace by isa_body.h.

/// What one block of queries against one block of keys needs; positions count within the sequence.
struct Block {
  const AttentionShape& shape;
  AttentionRow row;
  int head;
  int kv_head;
  int query_begin;  ///< index among the row's queries
  int query_count;

  long q_offset() const { return (row.q_begin + query_begin) * shape.q_at.row + head * shape.q_at.head; }
  long k_offset(int key) const { return (row.kv_begin + key) * shape.k_at.row + kv_head * shape.k_at.head; }
  long v_offset(int key) const { return (row.kv_begin + key) * shape.v_at.row + kv_head * shape.v_at.head; }
  long q_stride() const { return shape.q_at.row; }
  long k_stride() const { return shape.k_at.row; }
  long v_stride() const { return shape.v_at.row; }
  /// Of out and what is shaped like it.
  long out_offset() const { return (static_cast<long>(row.q_begin + query_begin) * shape.heads + head) * shape.D; }
  long out_stride() const { return static_cast<long>(shape.heads) * shape.D; }
  int position(int i) const { return row.kv_count - row.q_count + query_begin + i; }
  int first_key(int i) const {
    const int first = shape.window > 0 ? position(i) - shape.window + 1 : 0;
    return first > 0 ? first : 0;
  }
  int last_key(int i) const { return shape.causal ? position(i) : row.kv_count - 1; }
  int keys_begin() const { return first_key(0) / kKeyBlock * kKeyBlock; }
  int keys_end() const { return last_key(query_count - 1) + 1; }
};

/// Scores that a bias or a cap changes, in place; keys beyond `keys` are left alone.
static void change_scores(const Block& b, int key, int keys, float* scores) {
  const AttentionShape& shape = b.shape;
  for (int i = 0; i < b.query_count; ++i) {
    float* s = scores + static_cast<long>(i) * kKeyBlock;
    const int away = key - b.position(i);
    if (shape.slopes != nullptr) {
      const float slope = shape.slopes[b.head];
      for (int j = 0; j < keys; ++j) s[j] += slope * static_cast<float>(away + j);
    }
    if (shape.distance_bias != nullptr) {
      const float* bias = shape.distance_bias + static_cast<long>(b.head) * (2 * shape.reach - 1) + shape.reach - 1;
      for (int j = 0; j < keys; ++j) s[j] += bias[away + j];
    }
    if (shape.soft_cap > 0) {
      for (int j = 0; j < keys; j += 16) store(s + j, shape.soft_cap * tanh16(load(s + j) / shape.soft_cap));
    }
  }
}

/// scores (query_count, keys; stride kKeyBlock) = scale q k^T and what follows, -inf where the query may not look.
static void block_scores(const Block& b, int key, int keys, const float* q, const float* k, float* scores) {
  GemmTile t{GemmOp::nt, b.query_count, keys, b.shape.D, q + b.q_offset(), b.q_stride(), k + b.k_offset(key),
             b.k_stride(), scores, kKeyBlock, b.shape.scale, false};
  gemm(t);
  if (b.shape.slopes != nullptr || b.shape.distance_bias != nullptr || b.shape.soft_cap > 0) {
    change_scores(b, key, keys, scores);
  }
  for (int i = 0; i < b.query_count; ++i) {
    float* s = scores + static_cast<long>(i) * kKeyBlock;
    const int first = b.first_key(i);
    const int last = b.last_key(i);
    for (int j = 0; j < keys; ++j) {
      if (key + j < first || key + j > last) s[j] = -__builtin_inff();
    }
    for (int j = keys; j < kKeyBlock; ++j) s[j] = -__builtin_inff();
  }
}

static void attention_forward(const AttentionShape& shape, const AttentionRow& r, int head, int query_begin, const float* q,
                              const float* k, const float* v, float* out, float* lse) {
  const int left = r.q_count - query_begin;
  const Block b{shape, r, head, head / (shape.heads / shape.kv_heads), query_begin,
                left < kQueryBlock ? left : kQueryBlock};
  alignas(64) float scores[kQueryBlock * kKeyBlock];
  float top[kQueryBlock];
  float total[kQueryBlock];
  for (int i = 0; i < b.query_count; ++i) {
    top[i] = -__builtin_inff();
    total[i] = 0;
    __builtin_memset(out + b.out_offset() + i * b.out_stride(), 0, sizeof(float) * static_cast<std::size_t>(shape.D));
  }
  for (int key = b.keys_begin(); key < b.keys_end(); key += kKeyBlock) {
    const int keys = b.keys_end() - key < kKeyBlock ? b.keys_end() - key : kKeyBlock;
    block_scores(b, key, keys, q, k, scores);
    for (int i = 0; i < b.query_count; ++i) {
      float* s = scores + static_cast<long>(i) * kKeyBlock;
      V16 m = load(s);
      for (int j = 16; j < kKeyBlock; j += 16) m = max16(m, load(s + j));
      const float block_top = max_lanes(m);
      const float new_top = block_top > top[i] ? block_top : top[i];
      if (new_top == -__builtin_inff()) {  // nothing to see in this block, nor before it
        __builtin_memset(s, 0, sizeof(float) * kKeyBlock);
        continue;
      }
      V16 sum{};
      for (int j = 0; j < kKeyBlock; j += 16) {
        const V16 p = exp16(load(s + j) - new_top);
        store(s + j, p);
        sum += p;
      }
      if (new_top != top[i]) {
        const float shrink = exp16(splat(top[i] - new_top))[0];
        total[i] *= shrink;
        float* o = out + b.out_offset() + i * b.out_stride();
        for (int d = 0; d < shape.D; ++d) o[d] *= shrink;
        top[i] = new_top;
      }
      total[i] += sum_lanes(sum);
    }
    gemm({GemmOp::nn, b.query_count, shape.D, keys, scores, kKeyBlock, v + b.v_offset(key), b.v_stride(),
          out + b.out_offset(), b.out_stride(), 1.0F, true});
  }
  for (int i = 0; i < b.query_count; ++i) {
    float* o = out + b.out_offset() + i * b.out_stride();
    const float factor = 1.0F / total[i];
    for (int d = 0; d < shape.D; ++d) o[d] *= factor;
    lse[static_cast<long>(r.q_begin + query_begin + i) * shape.heads + head] = top[i] + ::logf(total[i]);
  }
}

/// The cap's slope where its result is s; -inf (masked) stays finite.
static inline V16 cap_slope(V16 s, float cap) {
  const V16 t = s / cap;
  const V16 slope = 1.0F - t * t;
  return slope > splat(0) ? slope : V16{};
}

/// Gradients of one block of queries of one head; adds to dk and dv.
static void attention_backward_block(const Block& b, const AttentionBackward& a) {
  alignas(64) float p[kQueryBlock * kKeyBlock];
  alignas(64) float ds[kQueryBlock * kKeyBlock];
  float dot[kQueryBlock];  // sum over D of dout * out
  const int D = b.shape.D;
  for (int i = 0; i < b.query_count; ++i) {
    const long at = b.out_offset() + i * b.out_stride();
    V16 sum{};
    long d = 0;
    for (; d + 16 <= D; d += 16) sum += load(a.dout + at + d) * load(a.out + at + d);
    sum += load_part(a.dout + at + d, D - d, 0) * load_part(a.out + at + d, D - d, 0);
    dot[i] = sum_lanes(sum);
    __builtin_memset(a.dq + b.q_offset() + i * b.q_stride(), 0, sizeof(float) * static_cast<std::size_t>(D));
  }
  const float cap = b.shape.soft_cap;
  for (int key = b.keys_begin(); key < b.keys_end(); key += kKeyBlock) {
    const int keys = b.keys_end() - key < kKeyBlock ? b.keys_end() - key : kKeyBlock;
    block_scores(b, key, keys, a.q, a.k, p);
    gemm({GemmOp::nt, b.query_count, keys, D, a.dout + b.out_offset(), b.out_stride(), a.v + b.v_offset(key),
          b.v_stride(), ds, kKeyBlock, 1.0F, false});
    for (int i = 0; i < b.query_count; ++i) {
      const float lse = a.lse[static_cast<long>(b.row.q_begin + b.query_begin + i) * b.shape.heads + b.head];
      for (int j = 0; j < keys; j += 16) {
        float* pj = p + static_cast<long>(i) * kKeyBlock + j;
        float* dsj = ds + static_cast<long>(i) * kKeyBlock + j;
        const V16 score = load(pj);
        const V16 w = exp16(score - lse);
        store(pj, w);
        V16 d = w * (load(dsj) - dot[i]);
        if (cap > 0) d *= cap_slope(score, cap);
        store(dsj, d);
      }
      if (a.dbias != nullptr) {
        const int reach = b.shape.reach;
        float* bias = a.dbias + static_cast<long>(b.head) * (2 * reach - 1) + reach - 1 + key - b.position(i);
        for (int j = 0; j < keys; ++j) bias[j] += ds[static_cast<long>(i) * kKeyBlock + j];
      }
    }
    gemm({GemmOp::tn, keys, D, b.query_count, p, kKeyBlock, a.dout + b.out_offset(), b.out_stride(),
          a.dv + b.v_offset(key), b.v_stride(), 1.0F, true});
    gemm({GemmOp::nn, b.query_count, D, keys, ds, kKeyBlock, a.k + b.k_offset(key), b.k_stride(),
          a.dq + b.q_offset(), b.q_stride(), b.shape.scale, true});
    gemm({GemmOp::tn, keys, D, b.query_count, ds, kKeyBlock, a.q + b.q_offset(), b.q_stride(),
          a.dk + b.k_offset(key), b.k_stride(), b.shape.scale, true});
  }
}

static void attention_backward(const AttentionShape& shape, const AttentionRow& r, int kv_head, const AttentionBackward& a) {
  const std::size_t bytes = sizeof(float) * static_cast<std::size_t>(shape.D);
  for (int key = 0; key < r.kv_count; ++key) {
    __builtin_memset(a.dk + (r.kv_begin + key) * shape.k_at.row + kv_head * shape.k_at.head, 0, bytes);
    __builtin_memset(a.dv + (r.kv_begin + key) * shape.v_at.row + kv_head * shape.v_at.head, 0, bytes);
  }
  const int group = shape.heads / shape.kv_heads;
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int i = 0; i < r.q_count; i += kQueryBlock) {
      const int left = r.q_count - i;
      attention_backward_block({shape, r, head, kv_head, i, left < kQueryBlock ? left : kQueryBlock}, a);
    }
  }
}

static void attention_jvp(const AttentionShape& shape, const AttentionRow& r, int head, int query_begin,
                          const AttentionJvp& a) {
  const int left = r.q_count - query_begin;
  const Block b{shape, r, head, head / (shape.heads / shape.kv_heads), query_begin,
                left < kQueryBlock ? left : kQueryBlock};
  alignas(64) float p[kQueryBlock * kKeyBlock];
  alignas(64) float st[kQueryBlock * kKeyBlock];
  float moved[kQueryBlock];  // sum over keys of p times the score's derivative
  const int D = shape.D;
  for (int i = 0; i < b.query_count; ++i) {
    moved[i] = 0;
    __builtin_memset(a.out_t + b.out_offset() + i * b.out_stride(), 0, sizeof(float) * static_cast<std::size_t>(D));
  }
  for (int key = b.keys_begin(); key < b.keys_end(); key += kKeyBlock) {
    const int keys = b.keys_end() - key < kKeyBlock ? b.keys_end() - key : kKeyBlock;
    block_scores(b, key, keys, a.q, a.k, p);
    __builtin_memset(st, 0, sizeof st);
    gemm({GemmOp::nt, b.query_count, keys, D, a.q_t + b.q_offset(), b.q_stride(), a.k + b.k_offset(key),
          b.k_stride(), st, kKeyBlock, shape.scale, false});
    gemm({GemmOp::nt, b.query_count, keys, D, a.q + b.q_offset(), b.q_stride(), a.k_t + b.k_offset(key),
          b.k_stride(), st, kKeyBlock, shape.scale, true});
    for (int i = 0; i < b.query_count; ++i) {
      const float lse = a.lse[static_cast<long>(r.q_begin + query_begin + i) * shape.heads + head];
      V16 sum{};
      for (int j = 0; j < kKeyBlock; j += 16) {
        float* pj = p + static_cast<long>(i) * kKeyBlock + j;
        float* sj = st + static_cast<long>(i) * kKeyBlock + j;
        const V16 score = load(pj);
        const V16 w = exp16(score - lse);
        V16 t = w * load(sj);
        if (shape.soft_cap > 0) t *= cap_slope(score, shape.soft_cap);
        store(pj, w);
        store(sj, t);
        sum += t;
      }
      moved[i] += sum_lanes(sum);
    }
    gemm({GemmOp::nn, b.query_count, D, keys, p, kKeyBlock, a.v_t + b.v_offset(key), b.v_stride(),
          a.out_t + b.out_offset(), b.out_stride(), 1.0F, true});
    gemm({GemmOp::nn, b.query_count, D, keys, st, kKeyBlock, a.v + b.v_offset(key), b.v_stride(),
          a.out_t + b.out_offset(), b.out_stride(), 1.0F, true});
  }
  for (int i = 0; i < b.query_count; ++i) {
    const long at = b.out_offset() + i * b.out_stride();
    for (int d = 0; d < D; ++d) a.out_t[at + d] -= moved[i] * a.out[at + d];
  }
}

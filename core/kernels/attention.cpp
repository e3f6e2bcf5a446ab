#include "core/kernels/attention.h"

#include "core/kernels/isa.h"

namespace covey::kernels {
namespace {

/// On the calling thread where there is too little to do: one short query is not worth waking a thread.
template <typename F>
void for_tiles(ThreadPool& pool, const AttentionShape& shape, std::size_t tiles, F&& run) {
  double work = 0;
  for (const auto& row : shape.rows) work += static_cast<double>(row.q_count) * row.kv_count * shape.D * shape.heads;
  if (work < 1 << 17) {
    for (std::size_t tile = 0; tile < tiles; ++tile) run(tile);
  } else {
    pool.parallel_for(tiles, run);
  }
}

}  // namespace

void attention_forward(ThreadPool& pool, const AttentionShape& shape, const float* q, const float* k, const float* v,
                       float* out, float* lse) {
  // One tile per row and head; its blocks of queries follow each other.
  const auto heads = static_cast<std::size_t>(shape.heads);
  for_tiles(pool, shape, shape.rows.size() * heads, [&](std::size_t tile) {
    const AttentionRow& row = shape.rows[tile / heads];
    for (int i = 0; i < row.q_count; i += kQueryBlock) {
      isa_table().attention_forward(shape, row, static_cast<int>(tile % heads), i, q, k, v, out, lse);
    }
  });
}

void attention_jvp(ThreadPool& pool, const AttentionShape& shape, const AttentionJvp& args) {
  const auto heads = static_cast<std::size_t>(shape.heads);
  for_tiles(pool, shape, shape.rows.size() * heads, [&](std::size_t tile) {
    const AttentionRow& row = shape.rows[tile / heads];
    for (int i = 0; i < row.q_count; i += kQueryBlock) {
      isa_table().attention_jvp(shape, row, static_cast<int>(tile % heads), i, args);
    }
  });
}

void attention_backward(ThreadPool& pool, const AttentionShape& shape, const AttentionBackward& args) {
  // Heads that share keys share a tile: their dk and dv are summed in order.
  const auto kv_heads = static_cast<std::size_t>(shape.kv_heads);
  for_tiles(pool, shape, shape.rows.size() * kv_heads, [&](std::size_t tile) {
    isa_table().attention_backward(shape, shape.rows[tile / kv_heads], static_cast<int>(tile % kv_heads), args);
  });
}

}  // namespace covey::kernels

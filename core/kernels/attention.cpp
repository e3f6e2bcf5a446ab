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

AttentionShape whole(AttentionShape shape) {
  const auto fill = [&](HeadStride& at, int heads) {
    if (at.head == 0) at.head = shape.D;
    if (at.row == 0) at.row = heads * at.head;
  };
  fill(shape.q_at, shape.heads);
  fill(shape.k_at, shape.kv_heads);
  fill(shape.v_at, shape.kv_heads);
  return shape;
}

}  // namespace

void attention_forward(ThreadPool& pool, const AttentionShape& given, const float* q, const float* k, const float* v,
                       float* out, float* lse) {
  // One tile per row and head; its blocks of queries follow each other.
  const AttentionShape shape = whole(given);
  const auto heads = static_cast<std::size_t>(shape.heads);
  for_tiles(pool, shape, shape.rows.size() * heads, [&](std::size_t tile) {
    const AttentionRow& row = shape.rows[tile / heads];
    for (int i = 0; i < row.q_count; i += kQueryBlock) {
      isa_table().attention_forward(shape, row, static_cast<int>(tile % heads), i, q, k, v, out, lse);
    }
  });
}

void attention_jvp(ThreadPool& pool, const AttentionShape& given, const AttentionJvp& args) {
  const AttentionShape shape = whole(given);
  const auto heads = static_cast<std::size_t>(shape.heads);
  for_tiles(pool, shape, shape.rows.size() * heads, [&](std::size_t tile) {
    const AttentionRow& row = shape.rows[tile / heads];
    for (int i = 0; i < row.q_count; i += kQueryBlock) {
      isa_table().attention_jvp(shape, row, static_cast<int>(tile % heads), i, args);
    }
  });
}

void attention_backward(ThreadPool& pool, const AttentionShape& given, const AttentionBackward& args) {
  // Heads that share keys share a tile: their dk and dv are summed in order.
  const AttentionShape shape = whole(given);
  const auto kv_heads = static_cast<std::size_t>(shape.kv_heads);
  const auto bias_size = static_cast<std::size_t>(shape.heads) * static_cast<std::size_t>(2 * shape.reach - 1);
  for_tiles(pool, shape, shape.rows.size() * kv_heads, [&](std::size_t tile) {
    AttentionBackward own = args;
    if (own.dbias != nullptr) own.dbias += tile / kv_heads * bias_size;
    isa_table().attention_backward(shape, shape.rows[tile / kv_heads], static_cast<int>(tile % kv_heads), own);
  });
}

}  // namespace covey::kernels

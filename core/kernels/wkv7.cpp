#include "core/kernels/wkv7.h"

#include <algorithm>
#include <vector>

#include "core/base/assert.h"
#include "core/kernels/isa.h"
#include "core/kernels/tiles.h"

namespace covey::kernels {
namespace {

/// One tile per sequence and head, with its own matrices.
template <typename F>
void for_heads(ThreadPool& pool, const Wkv7Args& args, int matrices, F&& run) {
  COVEY_ASSERT(args.D % 16 == 0 && args.D <= kWkv7HeadMax);
  const auto heads = static_cast<std::size_t>(args.heads);
  const auto size = static_cast<std::size_t>(matrices * args.D * args.D);
  pool.parallel_for(args.rows.size() * heads, [&](std::size_t tile) {
    std::vector<float> scratch(size);
    run(tile / heads, static_cast<int>(tile % heads), scratch.data());
  });
}

void put(float* to, bool add, std::size_t at, float value) {
  if (to != nullptr) to[at] = add ? to[at] + value : value;
}

}  // namespace

void wkv7_forward(ThreadPool& pool, const Wkv7Args& args, float* y, float* states) {
  for_heads(pool, args, args.carried == nullptr ? 1 : 0, [&](std::size_t row, int head, float* scratch) {
    isa_table().wkv7_forward(args, args.rows[row], head, y, states, scratch);
  });
}

void wkv7_backward(ThreadPool& pool, const Wkv7Args& args, const Wkv7Backward& grads) {
  const auto A = static_cast<std::size_t>(args.heads * args.D);
  for (float* sums : {grads.dkey_scale, grads.dkey_rate}) {
    if (sums != nullptr) std::fill(sums, sums + args.rows.size() * A, 0.0F);
  }
  for_heads(pool, args, kWkv7Chunk + 2, [&](std::size_t row, int head, float* scratch) {
    Wkv7Backward own = grads;
    if (own.dkey_scale != nullptr) own.dkey_scale += row * A;
    if (own.dkey_rate != nullptr) own.dkey_rate += row * A;
    isa_table().wkv7_backward(args, args.rows[row], head, own, scratch);
  });
}

void wkv7_jvp(ThreadPool& pool, const Wkv7Args& args, const Wkv7Tangent& tangent, float* y_t) {
  for_heads(pool, args, 2, [&](std::size_t row, int head, float* scratch) {
    isa_table().wkv7_jvp(args, args.rows[row], head, tangent, y_t, scratch);
  });
}

namespace {

/// Rows of heads: `run` gets where a head begins, and its first channel.
template <typename F>
void for_bonus(ThreadPool& pool, const Wkv7Bonus& b, F&& run) {
  const int A = b.heads * b.D;
  for_rows(pool, b.N, A, [&](int begin, int end) {
    for (int n = begin; n < end; ++n) {
      for (int h = 0; h < b.heads; ++h) {
        run(static_cast<std::size_t>(n) * static_cast<std::size_t>(A) + static_cast<std::size_t>(h * b.D),
            static_cast<std::size_t>(h * b.D));
      }
    }
  });
}

}  // namespace

void wkv7_bonus_forward(ThreadPool& pool, const Wkv7Bonus& b, float* y) {
  const auto D = static_cast<std::size_t>(b.D);
  for_bonus(pool, b, [&](std::size_t at, std::size_t c) {
    float sum = 0;
    for (std::size_t i = 0; i < D; ++i) {
      sum += b.r[at + i] * b.k[at + i] * (1.0F + (b.a[at + i] - 1.0F) * b.key_rate[c + i]) * b.weight[c + i];
    }
    for (std::size_t i = 0; i < D; ++i) y[at + i] += sum * b.v[at + i];
  });
}

void wkv7_bonus_backward(ThreadPool& pool, const Wkv7Bonus& b, const Wkv7Backward& g, float* dkey_rate,
                         float* dweight) {
  const auto D = static_cast<std::size_t>(b.D);
  const auto one = [&](std::size_t at, std::size_t c) {
    float sum = 0;
    float d = 0;
    for (std::size_t i = 0; i < D; ++i) {
      sum += b.r[at + i] * b.k[at + i] * (1.0F + (b.a[at + i] - 1.0F) * b.key_rate[c + i]) * b.weight[c + i];
      d += g.dy[at + i] * b.v[at + i];
    }
    for (std::size_t i = 0; i < D; ++i) {
      const float rate = b.a[at + i] - 1.0F;
      const float factor = 1.0F + rate * b.key_rate[c + i];
      const float r = b.r[at + i];
      const float k = b.k[at + i];
      const float dw = d * b.weight[c + i];
      if (dweight != nullptr) dweight[c + i] += d * r * k * factor;
      if (dkey_rate != nullptr) dkey_rate[c + i] += dw * r * k * rate;
      put(g.dv, g.add_v, at + i, sum * g.dy[at + i]);
      put(g.dr, g.add_r, at + i, dw * k * factor);
      put(g.dk, g.add_k, at + i, dw * r * factor);
      put(g.da, g.add_a, at + i, dw * r * k * b.key_rate[c + i]);
    }
  };
  if (dweight == nullptr && dkey_rate == nullptr) return for_bonus(pool, b, one);
  // Sums over positions: a head at a time, in their order.
  pool.parallel_for(static_cast<std::size_t>(b.heads), [&](std::size_t h) {
    const std::size_t A = static_cast<std::size_t>(b.heads) * D;
    for (std::size_t n = 0; n < static_cast<std::size_t>(b.N); ++n) one(n * A + h * D, h * D);
  });
}

void wkv7_bonus_jvp(ThreadPool& pool, const Wkv7Bonus& b, const Wkv7Tangent& x, float* y_t) {
  const auto D = static_cast<std::size_t>(b.D);
  for_bonus(pool, b, [&](std::size_t at, std::size_t c) {
    float sum = 0;
    float moved = 0;
    for (std::size_t i = 0; i < D; ++i) {
      const float r = b.r[at + i];
      const float k = b.k[at + i];
      const float factor = 1.0F + (b.a[at + i] - 1.0F) * b.key_rate[c + i];
      sum += r * k * factor * b.weight[c + i];
      moved += (x.r[at + i] * k * factor + r * x.k[at + i] * factor + r * k * x.a[at + i] * b.key_rate[c + i]) *
               b.weight[c + i];
    }
    for (std::size_t i = 0; i < D; ++i) y_t[at + i] += moved * b.v[at + i] + sum * x.v[at + i];
  });
}

void lerp_forward(ThreadPool& pool, std::size_t n, const float* x, const float* other, const float* share, float* y) {
  for_pieces(pool, n, kGrain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) y[i] = x[i] + (other[i] - x[i]) * share[i];
  });
}

void lerp_backward(ThreadPool& pool, std::size_t n, const float* x, const float* other, const float* share,
                   const float* dy, float* const grads[3], const bool add[3]) {
  for_pieces(pool, n, kGrain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const float d = dy[i];
      put(grads[0], add[0], i, d * (1.0F - share[i]));
      put(grads[1], add[1], i, d * share[i]);
      put(grads[2], add[2], i, d * (other[i] - x[i]));
    }
  });
}

void lerp_jvp(ThreadPool& pool, std::size_t n, const float* x, const float* other, const float* share, const float* x_t,
              const float* other_t, const float* share_t, float* y_t) {
  for_pieces(pool, n, kGrain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      y_t[i] = x_t[i] + (other_t[i] - x_t[i]) * share[i] + (other[i] - x[i]) * share_t[i];
    }
  });
}

}  // namespace covey::kernels

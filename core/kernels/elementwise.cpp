#include "core/kernels/elementwise.h"

#include <cstring>
#include <utility>

#include "core/kernels/tiles.h"

namespace covey::kernels {
namespace {

/// How much of a row, and of the one above it, a shift takes.
struct Shares {
  float own, above;
};

Shares shares(const ShiftArgs& a, long i) {
  return a.of_above ? Shares{1.0F - a.mix[i], a.mix[i]} : Shares{a.mix[i], 1.0F - a.mix[i]};
}

}  // namespace

void add(ThreadPool& pool, std::size_t n, const float* x, float* y) {
  for_pieces(pool, n, 4 * kGrain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) y[i] += x[i];
  });
}

void add_bias(ThreadPool& pool, int N, int C, const float* bias, float* y) {
  for_rows(pool, N, C, [&](int begin, int end) {
    for (std::size_t n = static_cast<std::size_t>(begin); n < static_cast<std::size_t>(end); ++n) {
      float* row = y + n * static_cast<std::size_t>(C);
      for (std::size_t c = 0; c < static_cast<std::size_t>(C); ++c) row[c] += bias[c];
    }
  });
}

void bias_backward(ThreadPool& pool, int N, int C, const float* dy, float* dbias) {
  for_pieces(pool, static_cast<std::size_t>(C), 64, [&](std::size_t begin, std::size_t end) {
    for (std::size_t n = 0; n < static_cast<std::size_t>(N); ++n) {
      const float* row = dy + n * static_cast<std::size_t>(C);
      for (std::size_t c = begin; c < end; ++c) dbias[c] += row[c];
    }
  });
}

void scale(ThreadPool& pool, std::size_t n, float factor, float* y) {
  for_pieces(pool, n, 4 * kGrain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) y[i] *= factor;
  });
}

void scale_columns(ThreadPool& pool, const ColumnArgs& a, const float* factor, const float* x, float* y) {
  const long x_row = a.x_row > 0 ? a.x_row : a.C;
  const long y_row = a.y_row > 0 ? a.y_row : a.C;
  for_rows(pool, a.N, a.C, [&](int begin, int end) {
    for (long n = begin; n < end; ++n) {
      const float* from = x + n * x_row;
      float* to = y + n * y_row;
      for (long c = 0; c < a.C; ++c) to[c] = a.accumulate ? to[c] + from[c] * factor[c] : from[c] * factor[c];
    }
  });
}

void column_dots(ThreadPool& pool, const ColumnArgs& a, const float* x, const float* y, float* out) {
  const long x_row = a.x_row > 0 ? a.x_row : a.C;
  const long y_row = a.y_row > 0 ? a.y_row : a.C;
  for_pieces(pool, static_cast<std::size_t>(a.C), 64, [&](std::size_t begin, std::size_t end) {
    for (long n = 0; n < a.N; ++n) {
      for (long c = static_cast<long>(begin); c < static_cast<long>(end); ++c)
        out[c] += x[n * x_row + c] * y[n * y_row + c];
    }
  });
}

void shift_forward(ThreadPool& pool, const ShiftArgs& a, const float* x, float* y) {
  for_rows(pool, a.N, a.H, [&](int begin, int end) {
    for (long n = begin; n < end; ++n) {
      const float* before = a.position[n] == 0 ? nullptr : (n == 0 ? a.first : x + (n - 1) * a.H);
      for (long i = 0; i < a.H; ++i) {
        const float above = before == nullptr ? 0.0F : before[i];
        const Shares s = shares(a, i);
        y[n * a.H + i] = x[n * a.H + i] * s.own + above * s.above;
      }
    }
  });
}

void shift_backward(ThreadPool& pool, const ShiftArgs& a, const float* dy, bool accumulate, float* dx) {
  for_rows(pool, a.N, a.H, [&](int begin, int end) {
    for (long n = begin; n < end; ++n) {
      const bool below = n + 1 < a.N && a.position[n + 1] > 0;
      for (long i = 0; i < a.H; ++i) {
        const Shares s = shares(a, i);
        float d = dy[n * a.H + i] * s.own;
        if (below) d += dy[(n + 1) * a.H + i] * s.above;
        dx[n * a.H + i] = accumulate ? dx[n * a.H + i] + d : d;
      }
    }
  });
}

void shift_backward_mix(ThreadPool& pool, const ShiftArgs& a, const float* dy, const float* x, float* dmix) {
  for_pieces(pool, static_cast<std::size_t>(a.H), 64, [&](std::size_t begin, std::size_t end) {
    for (long n = 0; n < a.N; ++n) {
      for (long i = static_cast<long>(begin); i < static_cast<long>(end); ++i) {
        const float above = a.position[n] == 0 ? 0.0F : x[(n - 1) * a.H + i];
        const float d = dy[n * a.H + i] * (x[n * a.H + i] - above);
        dmix[i] += a.of_above ? -d : d;
      }
    }
  });
}

void trigram_forward(ThreadPool& pool, const TrigramArgs& a, const float* x, float* y) {
  const std::size_t bytes = sizeof(float) * static_cast<std::size_t>(a.E);
  for_rows(pool, a.N, 3 * a.E, [&](int begin, int end) {
    for (long n = begin; n < end; ++n) {
      float* to = y + n * 3 * a.E;
      const bool last = n + 1 >= a.N || a.position[n + 1] == 0;
      const float* below = !last ? x + (n + 1) * a.E : (a.padded[n] != 0 ? a.padding : nullptr);
      const float* above = a.position[n] > 0 ? x + (n - 1) * a.E : nullptr;
      std::memcpy(to + a.E, x + n * a.E, bytes);
      for (const auto& [part, from] : {std::pair{to, below}, std::pair{to + 2 * a.E, above}}) {
        if (from == nullptr) {
          std::memset(part, 0, bytes);
        } else {
          std::memcpy(part, from, bytes);
        }
      }
    }
  });
}

void trigram_backward(ThreadPool& pool, const TrigramArgs& a, const float* dy, float* dx) {
  for_rows(pool, a.N, 3 * a.E, [&](int begin, int end) {
    for (long n = begin; n < end; ++n) {
      const bool last = n + 1 >= a.N || a.position[n + 1] == 0;
      const float* own = dy + n * 3 * a.E;
      for (long i = 0; i < a.E; ++i) {
        float d = own[a.E + i];
        if (a.position[n] > 0) d += dy[(n - 1) * 3 * a.E + i];  // it stood below the row above
        if (!last) d += dy[(n + 1) * 3 * a.E + 2 * a.E + i];    // and above the row below
        dx[n * a.E + i] = d;
      }
    }
  });
}

}  // namespace covey::kernels

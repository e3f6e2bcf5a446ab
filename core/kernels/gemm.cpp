#include "core/kernels/gemm.h"

#include "core/kernels/isa.h"

namespace covey::kernels {
namespace {

/// Work below this many multiplications is not worth a hand-over to another thread.
constexpr double kTileWork = 1 << 20;

struct Tiling {
  int m;
  int n;
};

/// From the shape alone. Every tile packs its columns of the second operand: so it has all rows, unless there would be
/// too few tiles for the threads of a small machine to end at one time. Results of few columns pack next to nothing.
Tiling choose_tiling(int M, int N, int K) {
  constexpr double kTilesEnough = 12;
  constexpr int kColumns = kGemmColumns;
  Tiling t{M < 1024 ? M : 1024, N < kColumns ? N : kColumns};
  const auto tiles = [&] { return static_cast<double>((M + t.m - 1) / t.m) * ((N + t.n - 1) / t.n); };
  const double least = N <= 16 ? kTileWork / 4 : kTileWork;
  while (tiles() < kTilesEnough && static_cast<double>(t.m) * t.n * K > 2 * least) {
    if (t.m > 240 || (t.n <= 32 && t.m > 96)) {
      t.m = (t.m / 2 + 11) / 12 * 12;
    } else if (t.n > 32) {
      t.n = t.n > 64 ? 64 : 32;
    } else {
      break;
    }
  }
  return t;
}

void gemm(ThreadPool& pool, GemmOp op, int M, int N, int K, const float* a, const float* b, float* y,
          const GemmOptions& options) {
  if (M == 0 || N == 0) return;
  const Tiling t = choose_tiling(M, N, K);
  const int across = (N + t.n - 1) / t.n;
  const int down = (M + t.m - 1) / t.m;
  const IsaTable& isa = isa_table();
  const auto run = [&](std::size_t tile) {
    const int m0 = static_cast<int>(tile) / across * t.m;
    const int n0 = static_cast<int>(tile) % across * t.n;
    GemmTile g;
    g.op = op;
    g.m = M - m0 < t.m ? M - m0 : t.m;
    g.n = N - n0 < t.n ? N - n0 : t.n;
    g.k = K;
    g.lda = options.a_row > 0 ? options.a_row : (op == GemmOp::tn ? M : K);
    g.a = op == GemmOp::tn ? a + m0 : a + m0 * g.lda;
    g.ldb = options.b_row > 0 ? options.b_row : (op == GemmOp::nt ? K : N);
    g.b = op == GemmOp::nt ? b + n0 * g.ldb : b + n0;
    g.ldc = options.y_row > 0 ? options.y_row : N;
    g.c = y + m0 * g.ldc + n0;
    g.alpha = options.alpha;
    g.accumulate = options.accumulate;
    isa.gemm(g);
  };
  const auto tiles = static_cast<std::size_t>(across) * static_cast<std::size_t>(down);
  if (static_cast<double>(M) * N * K < kTileWork) {
    for (std::size_t tile = 0; tile < tiles; ++tile) run(tile);
  } else {
    pool.parallel_for(tiles, run);
  }
}

}  // namespace

void gemm_nt(ThreadPool& pool, int M, int N, int K, const float* x, const float* w, float* y, GemmOptions options) {
  gemm(pool, GemmOp::nt, M, N, K, x, w, y, options);
}
void gemm_nn(ThreadPool& pool, int M, int N, int K, const float* a, const float* b, float* y, GemmOptions options) {
  gemm(pool, GemmOp::nn, M, N, K, a, b, y, options);
}
void gemm_tn(ThreadPool& pool, int M, int N, int K, const float* a, const float* b, float* y, GemmOptions options) {
  gemm(pool, GemmOp::tn, M, N, K, a, b, y, options);
}

}  // namespace covey::kernels

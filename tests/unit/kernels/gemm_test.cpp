#include "core/kernels/gemm.h"

#include <cstring>

#include "core/base/cpu.h"
#include "core/kernels/isa.h"
#include "tests/support/support.h"
#include "tests/unit/kernels/reference.h"

namespace covey::kernels {
namespace {

/// Largest |difference| against sums in double, over K's square root: rounding grows no faster for random values.
double worst(int M, int N, int K, const std::vector<float>& y, const std::vector<float>& before, double alpha, auto&& a,
             auto&& b) {
  double largest = 0;
  for (int m = 0; m < M; ++m) {
    for (int n = 0; n < N; ++n) {
      double sum = 0;
      for (int k = 0; k < K; ++k) sum += static_cast<double>(a(m, k)) * static_cast<double>(b(k, n));
      const auto at = static_cast<std::size_t>(m * N + n);
      const double expected = alpha * sum + static_cast<double>(before[at]);
      largest = std::max(largest, std::abs(static_cast<double>(y[at]) - expected));
    }
  }
  return largest / std::sqrt(static_cast<double>(K));
}

}  // namespace

TEST_CASE("The three matrix products agree with sums in double for whole and odd shapes") {
  ThreadPool pool(2);
  const int shapes[][3] = {{1, 1, 1},     {1, 77, 33},     {5, 4, 300}, {64, 64, 64},
                           {33, 129, 65}, {300, 260, 140}, {70, 3, 9}};
  for (const auto& [M, N, K] : shapes) {
    for (const bool accumulate : {false, true}) {
      CAPTURE(M);
      CAPTURE(N);
      CAPTURE(K);
      const auto size = [](int r, int c) { return static_cast<std::size_t>(r * c); };
      const auto a = reference::random(size(M, K), 1);
      const auto b = reference::random(size(K, N), 2);
      const auto start = reference::random(size(M, N), 3);
      const auto before = accumulate ? start : std::vector<float>(size(M, N), 0.0F);
      const GemmOptions options{.alpha = 0.5F, .accumulate = accumulate};
      auto y = start;
      gemm_nt(pool, M, N, K, a.data(), b.data(), y.data(), options);
      CHECK(worst(
                M, N, K, y, before, 0.5, [&](int m, int k) { return a[size(m, K) + static_cast<std::size_t>(k)]; },
                [&](int k, int n) { return b[size(n, K) + static_cast<std::size_t>(k)]; }) < 2e-6);
      y = start;
      gemm_nn(pool, M, N, K, a.data(), b.data(), y.data(), options);
      CHECK(worst(
                M, N, K, y, before, 0.5, [&](int m, int k) { return a[size(m, K) + static_cast<std::size_t>(k)]; },
                [&](int k, int n) { return b[size(k, N) + static_cast<std::size_t>(n)]; }) < 2e-6);
      y = start;
      gemm_tn(pool, M, N, K, a.data(), b.data(), y.data(), options);
      CHECK(worst(
                M, N, K, y, before, 0.5, [&](int m, int k) { return a[size(k, M) + static_cast<std::size_t>(m)]; },
                [&](int k, int n) { return b[size(k, N) + static_cast<std::size_t>(n)]; }) < 2e-6);
    }
  }
}

TEST_CASE("Every instruction set multiplies every shape of tile, inside larger matrices whose rest stays as it was") {
  std::vector<const IsaTable*> tables{&isa_table_base()};
#if defined(__x86_64__)
  if (chosen_isa() >= Isa::avx2) tables.push_back(&isa_table_avx2());
  if (chosen_isa() >= Isa::avx512) tables.push_back(&isa_table_avx512());
#endif
  // Around register tiles (6 or 12 rows; 8, 16 or 32 columns), stretches (288; 2,048 for dots) and narrow results.
  const long shapes[][3] = {{1, 200, 70},  {8, 33, 2100}, {7, 100, 259}, {13, 8, 2053}, {25, 16, 300}, {12, 9, 31},
                            {40, 3, 513},  {19, 1, 100},  {100, 5, 64},  {31, 97, 257}, {37, 131, 16}, {12, 96, 577},
                            {11, 32, 256}, {64, 64, 64},  {1, 1, 17},    {90, 12, 33},  {30, 45, 1}};
  for (std::size_t t = 0; t < tables.size(); ++t) {
    for (const auto& [M, N, K] : shapes) {
      for (const GemmOp op : {GemmOp::nt, GemmOp::nn, GemmOp::tn}) {
        CAPTURE(t);
        CAPTURE(M);
        CAPTURE(N);
        CAPTURE(K);
        CAPTURE(static_cast<int>(op));
        constexpr long kApart = 3;  // rows are longer than the matrix is wide
        GemmTile g;
        g.op = op;
        g.m = M;
        g.n = N;
        g.k = K;
        g.lda = (op == GemmOp::tn ? M : K) + kApart;
        g.ldb = (op == GemmOp::nt ? K : N) + kApart;
        g.ldc = N + kApart;
        const auto size = [](long rows, long stride) { return static_cast<std::size_t>(rows * stride); };
        const auto a = reference::random(size(op == GemmOp::tn ? K : M, g.lda), 1);
        const auto b = reference::random(size(op == GemmOp::nt ? N : K, g.ldb), 2);
        const auto before = reference::random(size(M, g.ldc), 3);
        auto y = before;
        g.a = a.data();
        g.b = b.data();
        g.c = y.data();
        g.alpha = -0.5F;
        g.accumulate = (M + N) % 2 == 0;
        tables[t]->gemm(g);
        double largest = 0;
        bool kept = true;
        for (long m = 0; m < M; ++m) {
          for (long n = 0; n < N; ++n) {
            double sum = 0;
            for (long k = 0; k < K; ++k) {
              sum += static_cast<double>(g.a[op == GemmOp::tn ? k * g.lda + m : m * g.lda + k]) *
                     static_cast<double>(g.b[op == GemmOp::nt ? n * g.ldb + k : k * g.ldb + n]);
            }
            const std::size_t at = size(m, g.ldc) + static_cast<std::size_t>(n);
            const double expected = -0.5 * sum + (g.accumulate ? static_cast<double>(before[at]) : 0.0);
            largest = std::max(largest, std::abs(static_cast<double>(y[at]) - expected));
          }
          const std::size_t rest = size(m, g.ldc) + static_cast<std::size_t>(N);
          kept = kept && std::memcmp(&y[rest], &before[rest], kApart * sizeof(float)) == 0;
        }
        CHECK(largest < 2e-6 * std::sqrt(static_cast<double>(K)));
        CHECK(kept);
      }
    }
  }
}

}  // namespace covey::kernels

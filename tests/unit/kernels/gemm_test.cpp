#include "core/kernels/gemm.h"

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

}  // namespace covey::kernels

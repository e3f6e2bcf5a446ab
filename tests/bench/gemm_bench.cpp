// f32 products against OpenBLAS: `gemm_bench [seconds per measurement]`. Sides alternate, the best of each counts:
// another's work on the machine only ever adds. Run it without OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE, which would pin
// OpenBLAS to old kernels.
#include <cblas.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "core/base/cpu.h"
#include "core/base/rng.h"
#include "core/kernels/gemm.h"

extern "C" void openblas_set_num_threads(int threads);
extern "C" char* openblas_get_corename(void);

namespace {

using namespace covey;           // NOLINT
using namespace covey::kernels;  // NOLINT
using Clock = std::chrono::steady_clock;

/// Best time of each, measured in turns.
std::vector<double> best_of(const std::vector<std::function<void()>>& sides, double seconds) {
  std::vector<double> best(sides.size(), 1e9);
  for (int round = 0; round < 6; ++round) {
    for (std::size_t i = 0; i < sides.size(); ++i) {
      double spent = 0;
      while (spent < seconds / 6) {
        const auto start = Clock::now();
        sides[i]();
        const double t = std::chrono::duration<double>(Clock::now() - start).count();
        best[i] = std::min(best[i], t);
        spent += t;
      }
    }
  }
  return best;
}

struct Shape {
  int M, N, K;
};

enum class Op { nt, nn, tn };

/// @return how many times as fast as OpenBLAS
double compare(Op op, const Shape& s, int threads, double seconds) {
  const auto count = [](int a, int b) { return static_cast<std::size_t>(a) * static_cast<std::size_t>(b); };
  std::vector<float> a(count(s.M, s.K));
  std::vector<float> b(count(s.K, s.N));
  std::vector<float> y(count(s.M, s.N));
  std::vector<float> peer(y.size());
  CounterRng(1).fill_normal(a);
  CounterRng(2).fill_normal(b);
  ThreadPool pool(threads);
  openblas_set_num_threads(threads);
  const auto ours = op == Op::nt ? gemm_nt : (op == Op::nn ? gemm_nn : gemm_tn);
  const auto times =
      best_of({[&] { ours(pool, s.M, s.N, s.K, a.data(), b.data(), y.data(), {}); },
               [&] {
                 cblas_sgemm(CblasRowMajor, op == Op::tn ? CblasTrans : CblasNoTrans,
                             op == Op::nt ? CblasTrans : CblasNoTrans, s.M, s.N, s.K, 1, a.data(),
                             op == Op::tn ? s.M : s.K, b.data(), op == Op::nt ? s.K : s.N, 0, peer.data(), s.N);
               }},
              seconds);
  double worst = 0;
  for (std::size_t i = 0; i < y.size(); ++i) worst = std::max(worst, std::fabs(static_cast<double>(y[i] - peer[i])));
  const double flops = 2.0 * s.M * s.N * s.K / 1e9;
  std::printf("%s %5dx%5dx%5d %2d %9.1f %9.1f %7.2fx   differ by %.1e of a row's size\n",
              op == Op::nt ? "nt" : (op == Op::nn ? "nn" : "tn"), s.M, s.N, s.K, threads, flops / times[0],
              flops / times[1], times[1] / times[0], worst / std::sqrt(s.K));
  std::fflush(stdout);
  return times[1] / times[0];
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.5;
  std::printf("GFLOPS; OpenBLAS for %s, ours for %s\n", openblas_get_corename(), to_string(chosen_isa()));
  std::printf("   %5s %5s %5s %2s %9s %9s %8s\n", "M", "N", "K", "T", "ours", "OpenBLAS", "ratio");
  constexpr Shape kShapes[] = {{512, 4096, 4096}, {512, 3072, 768}, {512, 768, 3072}, {512, 1536, 576},
                               {512, 576, 1536},  {128, 768, 288},  {128, 288, 768},  {1, 4096, 4096},
                               {8, 4096, 4096},   {32, 4096, 4096}};
  constexpr Shape kAdapter[] = {{512, 8, 576}, {512, 576, 8}, {8, 576, 512}, {1536, 8, 512}, {1024, 32000, 288}};
  for (const int threads : {1, 2}) {
    for (const Op op : {Op::nt, Op::nn}) {
      double product = 1;
      for (const Shape& shape : kShapes) product *= compare(op, shape, threads, seconds);
      std::printf("   geometric mean %.3f\n", std::pow(product, 1.0 / std::size(kShapes)));
    }
    std::printf("   adapters and head\n");
    for (const Op op : {Op::nt, Op::nn, Op::tn}) {
      for (const Shape& shape : kAdapter) compare(op, shape, threads, seconds);
    }
  }
}

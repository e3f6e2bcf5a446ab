// W8A8 layers against oneDNN: `int8_bench [seconds per measurement]`. Both sides start from f32 activations and end
// with f32 results: activations quantized per token, int8 product, scales of token and channel. oneDNN 2 has no
// per-token quantization, so its activations go through ours (on its own threads); what it then runs is the fastest of
// its ways: s8 or u8 activations (with zero point), token scales as its post-operation. Weights are prepacked on both
// sides. Sides alternate, the best of each counts: another's work on the machine only ever adds.
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <oneapi/dnnl/dnnl.hpp>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/base/rng.h"
#include "core/kernels/int8.h"
#include "core/kernels/int8_isa.h"

namespace {

using namespace covey;           // NOLINT
using namespace covey::kernels;  // NOLINT
using Clock = std::chrono::steady_clock;

double seconds_of(const std::function<void()>& run) {
  const auto start = Clock::now();
  run();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Best time of each, measured in turns.
std::vector<double> best_of(const std::vector<std::function<void()>>& sides, int threads, double seconds) {
  std::vector<double> best(sides.size(), 1e9);
  for (int round = 0; round < 6; ++round) {
    for (std::size_t i = 0; i < sides.size(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(threads > 1 ? 30 : 0));  // OpenMP's threads spin for 20
      sides[i]();
      double spent = 0;
      while (spent < seconds / 6) {
        const double t = seconds_of(sides[i]);
        best[i] = std::min(best[i], t);
        spent += t;
      }
    }
  }
  return best;
}

/// GOPS of one core that does nothing but vpdpbusd.
#if defined(__x86_64__)
__attribute__((target("avx512f"))) double vnni_peak() {
  if (!cpu_has(Int8Isa::avx512vnni)) return 0;
  constexpr long kTimes = 2000000;
  double best = 1e9;
  for (int i = 0; i < 8; ++i) {
    best = std::min(best, seconds_of([] {
                      for (long n = 0; n < kTimes; ++n) {
                        __asm__ volatile(
                            "vpdpbusd %%zmm16, %%zmm17, %%zmm0\n vpdpbusd %%zmm16, %%zmm17, %%zmm1\n"
                            "vpdpbusd %%zmm16, %%zmm17, %%zmm2\n vpdpbusd %%zmm16, %%zmm17, %%zmm3\n"
                            "vpdpbusd %%zmm16, %%zmm17, %%zmm4\n vpdpbusd %%zmm16, %%zmm17, %%zmm5\n"
                            "vpdpbusd %%zmm16, %%zmm17, %%zmm6\n vpdpbusd %%zmm16, %%zmm17, %%zmm7\n"
                            "vpdpbusd %%zmm16, %%zmm17, %%zmm8\n vpdpbusd %%zmm16, %%zmm17, %%zmm9\n"
                            "vpdpbusd %%zmm16, %%zmm17, %%zmm10\n vpdpbusd %%zmm16, %%zmm17, %%zmm11\n" ::
                                : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                                  "xmm10", "xmm11");
                      }
                    }));
  }
  return 12.0 * 128 * kTimes / best / 1e9;
}
#else
double vnni_peak() {
  return 0;
}
#endif

struct Shape {
  int M, N, K;
};

struct Data {
  std::vector<float> x, y, scales;
  std::vector<std::uint8_t> q;
  std::vector<std::int32_t> raw;
  Int8Weights w;
  std::vector<std::int8_t> plain;  ///< (N, K)
};

Data make(const Shape& s) {
  Data d;
  const auto count = [](int a, int b) { return static_cast<std::size_t>(a) * static_cast<std::size_t>(b); };
  d.x.resize(count(s.M, s.K));
  CounterRng(1).fill_normal(d.x);
  d.y.resize(count(s.M, s.N));
  d.raw.resize(count(s.M, s.N));
  d.q.resize(count(s.M, s.K) * 2);
  d.scales.resize(static_cast<std::size_t>(s.M));
  d.plain.resize(count(s.N, s.K));
  for (std::size_t i = 0; i < d.plain.size(); ++i) {
    d.plain[i] = static_cast<std::int8_t>(static_cast<int>(i * 2654435761U >> 13) % 255 - 127);
  }
  d.w = Int8Weights(s.N, s.K);
  d.w.set_rows(0, s.N, d.plain.data(), std::vector<float>(static_cast<std::size_t>(s.N), 0.01F).data());
  return d;
}

/// One of oneDNN's ways; throws dnnl::error where this version has it not.
class Peer {
 public:
  Peer(const Shape& s, Data& d, bool u8, bool integers, bool row_scales)
      : engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {
    using dt = dnnl::memory::data_type;
    using tag = dnnl::memory::format_tag;
    const dnnl::memory::desc src({s.M, s.K}, u8 ? dt::u8 : dt::s8, tag::ab);
    const dnnl::memory::desc any({s.K, s.N}, dt::s8, tag::any);
    const dnnl::memory::desc dst({s.M, s.N}, integers ? dt::s32 : dt::f32, tag::ab);
    dnnl::primitive_attr attr;
    if (u8) attr.set_zero_points(DNNL_ARG_SRC, 0, {128});
    const dnnl::memory::desc per_row({s.M, 1}, dt::f32, tag::ab);
    if (!integers) {
      attr.set_output_scales(2, std::vector<float>(static_cast<std::size_t>(s.N), 0.01F));
      dnnl::post_ops ops;
      ops.append_binary(dnnl::algorithm::binary_mul, per_row);
      if (row_scales) attr.set_post_ops(ops);
    }
    const dnnl::matmul::primitive_desc pd({src, any, dst}, attr, engine_);
    name = std::string(pd.impl_info_str()) + (u8 ? " u8" : " s8") + (row_scales ? ", own row scales" : "");
    slow = name.starts_with("ref") || name.starts_with("gemm:ref");
    dnnl::memory plain({{s.K, s.N}, dt::s8, tag::ba}, engine_, d.plain.data());
    dnnl::memory packed(pd.weights_desc(), engine_);
    dnnl::reorder(plain, packed).execute(stream_, plain, packed);
    stream_.wait();
    matmul_ = dnnl::matmul(pd);
    void* result = integers ? static_cast<void*>(d.raw.data()) : d.y.data();
    args_ = {{DNNL_ARG_SRC, dnnl::memory(src, engine_, d.q.data())},
             {DNNL_ARG_WEIGHTS, packed},
             {DNNL_ARG_DST, dnnl::memory(dst, engine_, result)}};
    if (row_scales) {
      args_.insert(
          {DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, dnnl::memory(per_row, engine_, d.scales.data())});
    }
  }
  void run() {
    matmul_.execute(stream_, args_);
    stream_.wait();
  }
  std::string name;
  bool slow = false;  ///< the reference implementation

 private:
  dnnl::engine engine_;
  dnnl::stream stream_;
  dnnl::matmul matmul_;
  std::unordered_map<int, dnnl::memory> args_;
};

std::vector<std::shared_ptr<Peer>> ways(const Shape& s, Data& d, bool integers) {
  std::vector<std::shared_ptr<Peer>> all;
  for (const bool u8 : {false, true}) {
    for (const bool row_scales : {false, true}) {
      if (integers && row_scales) continue;
      try {
        auto peer = std::make_shared<Peer>(s, d, u8, integers, row_scales);
        if (!peer->slow) all.push_back(std::move(peer));
      } catch (const dnnl::error&) {  // this version has it not
      }
    }
  }
  return all;
}

void compare(const Shape& s, int threads, double peak, double seconds) {
  Data d = make(s);
  ThreadPool pool(threads);
  omp_set_num_threads(threads);
  const Int8Table& isa = int8_table();
  Int8Quantize q;
  q.width = q.x_row = s.K;
  q.x = d.x.data();
  q.q = d.q.data();
  q.q_row = s.K * isa.element_bytes;
  q.scales = d.scales.data();
  Int8Scratch scratch;
  std::vector<std::function<void()>> sides;
  sides.emplace_back([&] { int8_forward(pool, s.M, d.w, d.x.data(), d.y.data(), scratch); });
  sides.emplace_back([&] { int8_products(pool, isa, s.M, d.w, scratch, d.raw.data()); });
  const auto whole = ways(s, d, false);
  const auto raw = ways(s, d, true);
  for (const auto& way : whole) {
    sides.emplace_back([&, way] {
      const long grain = 1 + 16384 / s.K;
      const long pieces = (s.M + grain - 1) / grain;
#pragma omp parallel for if (pieces > 2)
      for (long i = 0; i < pieces; ++i) isa.quantize(i * grain, std::min<long>(s.M, (i + 1) * grain), q);
      way->run();
      if (way->name.ends_with("scales")) return;
#pragma omp parallel for if (s.M > 8)
      for (int m = 0; m < s.M; ++m) {
        float* y = d.y.data() + static_cast<long>(m) * s.N;
        for (int n = 0; n < s.N; ++n) y[n] *= d.scales[static_cast<std::size_t>(m)];
      }
    });
  }
  for (const auto& way : raw) sides.emplace_back([&, way] { way->run(); });
  const auto times = best_of(sides, threads, seconds);
  if (whole.empty() || raw.empty()) return;
  const double ops = 2.0 * s.M * s.N * s.K / 1e9;
  const double peer = *std::min_element(times.begin() + 2, times.begin() + 2 + static_cast<long>(whole.size()));
  const double peer_raw = *std::min_element(times.begin() + 2 + static_cast<long>(whole.size()), times.end());
  std::printf("%4dx%5dx%5d %2d %9.0f %9.0f %7.2fx %9.0f %9.0f %7.2fx %6.0f%%  %s\n", s.M, s.N, s.K, threads,
              ops / times[0], ops / peer, peer / times[0], ops / times[1], ops / peer_raw, peer_raw / times[1],
              100 * ops / times[1] / peak / threads,
              whole[static_cast<std::size_t>(
                        std::min_element(times.begin() + 2, times.begin() + 2 + static_cast<long>(whole.size())) -
                        times.begin() - 2)]
                  ->name.c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 0.5;
  const double peak = vnni_peak();
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::printf("vpdpbusd peak of a core: %.0f GOPS; int8 variant: %s\n", peak, to_string(chosen_int8_isa()));
  std::printf("%4s %5s %5s %2s %9s %9s %8s %9s %9s %8s %7s\n", "M", "N", "K", "T", "ours", "oneDNN", "ratio", "raw",
              "oneDNN", "ratio", "of peak");
  constexpr Shape kShapes[] = {{512, 4096, 4096}, {512, 3072, 768}, {512, 768, 3072}, {512, 1536, 576},
                               {512, 576, 1536},  {128, 768, 288},  {128, 288, 768},  {1, 4096, 4096},
                               {8, 4096, 4096},   {32, 4096, 4096}, {1, 1536, 576},   {8, 1536, 576},
                               {32, 1536, 576}};
  for (const int threads : {1, 2}) {
    for (const Shape& shape : kShapes) compare(shape, threads, peak, seconds);
  }
}

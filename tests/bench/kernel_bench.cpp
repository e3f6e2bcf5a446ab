// Each kernel alone, on one thread, at smollm135m's sizes (512 rows): `kernel_bench --benchmark_min_time=0.2`.
// Counters: what it computes and moves in a second, and the share of the nearer of two limits that were measured just
// before: a core that does nothing but multiply-add (or vpdpbusd), a core that does nothing but read and write an array
// of the same size. Values are counted as moved once, whatever the caches do.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "core/base/rng.h"
#include "core/kernels/activation.h"
#include "core/kernels/attention.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/embedding.h"
#include "core/kernels/gemm.h"
#include "core/kernels/int8.h"
#include "core/kernels/norm.h"
#include "core/kernels/rope.h"

namespace {

using namespace covey;           // NOLINT
using namespace covey::kernels;  // NOLINT

constexpr int kN = 512, kH = 576, kF = 1536, kHeads = 9, kKvHeads = 3, kD = 64, kV = 49152, kChunk = 168, kRank = 8;

std::vector<float> values(std::size_t n, std::uint64_t seed = 1) {
  std::vector<float> out(n);
  CounterRng(seed).fill_normal(out);
  return out;
}
std::size_t size(int a, int b) {
  return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
}

template <typename F>
double best_seconds(int times, F&& run) {
  double best = 1e9;
  for (int i = 0; i < times; ++i) {
    const auto start = std::chrono::steady_clock::now();
    run();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

#if defined(__x86_64__)
/// Operations per second of one core: `f32`, or int8 where not; 0 where this processor has not the instruction.
template <bool f32>
__attribute__((target("avx512f"))) double peak() {
  if (!__builtin_cpu_supports(f32 ? "avx512f" : "avx512vnni")) return 0;
  constexpr long kTimes = 1000000;
  return 12.0 * (f32 ? 32 : 128) * kTimes / best_seconds(8, [] {
           for (long n = 0; n < kTimes; ++n) {
#define TWELVE(op)                                                                                      \
  op " %%zmm16, %%zmm17, %%zmm0\n" op " %%zmm16, %%zmm17, %%zmm1\n" op " %%zmm16, %%zmm17, %%zmm2\n" op \
     " %%zmm16, %%zmm17, %%zmm3\n" op " %%zmm16, %%zmm17, %%zmm4\n" op " %%zmm16, %%zmm17, %%zmm5\n" op \
     " %%zmm16, %%zmm17, %%zmm6\n" op " %%zmm16, %%zmm17, %%zmm7\n" op " %%zmm16, %%zmm17, %%zmm8\n" op \
     " %%zmm16, %%zmm17, %%zmm9\n" op " %%zmm16, %%zmm17, %%zmm10\n" op " %%zmm16, %%zmm17, %%zmm11\n"
             if constexpr (f32) {
               __asm__ volatile(TWELVE("vfmadd231ps")::
                                    : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                                      "xmm10", "xmm11");
             } else {
               __asm__ volatile(TWELVE("vpdpbusd")::
                                    : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                                      "xmm10", "xmm11");
             }
#undef TWELVE
           }
         });
}
#else
template <bool>
double peak() {
  return 0;
}
#endif

/// Bytes per second of `y += x` over arrays of `bytes` in all.
double bandwidth(double bytes) {
  const auto n = static_cast<std::size_t>(bytes / 12) + 16;
  const auto x = values(n);
  auto y = values(n, 2);
  ThreadPool pool(1);
  const int times = static_cast<int>(std::clamp(2e8 / bytes, 3.0, 200.0));
  return static_cast<double>(n) * 12 / best_seconds(times, [&] { add(pool, n, x.data(), y.data()); });
}

enum class Unit { f32, int8 };

/// Runs `kernel`, which computes `operations` and moves `floats` values of four bytes.
template <typename F>
void measure(benchmark::State& state, double operations, double floats, F&& kernel, Unit unit = Unit::f32) {
  ThreadPool pool(1);
  static const double f32_peak = peak<true>();
  static const double int8_peak = peak<false>();
  const double bytes = floats * 4;
  const double memory = bandwidth(bytes);
  double best = 1e9;
  for ([[maybe_unused]] auto _ : state) {
    best = std::min(best, best_seconds(1, [&] { kernel(pool); }));
  }
  const double compute = unit == Unit::f32 ? f32_peak : int8_peak;
  const double by_compute = compute > 0 ? operations / compute : 0;
  const double by_memory = bytes / memory;
  state.counters["Gop/s"] = operations / best / 1e9;
  state.counters["GB/s"] = bytes / best / 1e9;
  state.counters["limit_%"] = 100 * std::max(by_compute, by_memory) / best;
  state.SetLabel(by_compute > by_memory ? "of compute" : "of bandwidth");
}

void gemm_forward(benchmark::State& s) {
  const auto x = values(size(kN, kH)), w = values(size(kF, kH));
  auto y = values(size(kN, kF));
  measure(s, 2.0 * kN * kH * kF, kN * kH + kF * kH + kN * kF,
          [&](ThreadPool& p) { gemm_nt(p, kN, kF, kH, x.data(), w.data(), y.data()); });
}
void gemm_backward(benchmark::State& s) {
  const auto dy = values(size(kN, kF)), w = values(size(kF, kH));
  auto dx = values(size(kN, kH));
  measure(s, 2.0 * kN * kH * kF, kN * kH + kF * kH + kN * kF,
          [&](ThreadPool& p) { gemm_nn(p, kN, kH, kF, dy.data(), w.data(), dx.data()); });
}
void gemm_weight_gradient(benchmark::State& s) {
  const auto dy = values(size(kN, kF)), x = values(size(kN, kH));
  auto dw = values(size(kF, kH));
  measure(s, 2.0 * kN * kH * kF, kN * kH + 2 * kF * kH + kN * kF,
          [&](ThreadPool& p) { gemm_tn(p, kF, kH, kN, dy.data(), x.data(), dw.data(), {.accumulate = true}); });
}
void lora_down(benchmark::State& s) {
  const auto x = values(size(kN, kH)), a = values(size(kRank, kH));
  auto u = values(size(kN, kRank));
  measure(s, 2.0 * kN * kH * kRank, kN * kH + kRank * kH + kN * kRank,
          [&](ThreadPool& p) { gemm_nt(p, kN, kRank, kH, x.data(), a.data(), u.data()); });
}
void lora_up(benchmark::State& s) {
  const auto u = values(size(kN, kRank)), b = values(size(kF, kRank));
  auto y = values(size(kN, kF));
  measure(s, 2.0 * kN * kF * kRank, 2 * kN * kF + kRank * kF,
          [&](ThreadPool& p) { gemm_nt(p, kN, kF, kRank, u.data(), b.data(), y.data(), {.accumulate = true}); });
}
void lora_gradient(benchmark::State& s) {
  const auto du = values(size(kN, kRank)), x = values(size(kN, kH));
  auto da = values(size(kRank, kH));
  measure(s, 2.0 * kN * kH * kRank, kN * kH + kN * kRank,
          [&](ThreadPool& p) { gemm_tn(p, kRank, kH, kN, du.data(), x.data(), da.data(), {.accumulate = true}); });
}

Int8Weights int8_weights(int out, int in) {
  Int8Weights w(out, in);
  std::vector<std::int8_t> row(static_cast<std::size_t>(in));
  const float scale = 0.01F;
  for (int n = 0; n < out; ++n) {
    for (std::size_t k = 0; k < row.size(); ++k) {
      row[k] = static_cast<std::int8_t>((n * 31 + static_cast<int>(k) * 17) % 255 - 127);
    }
    w.set_rows(n, 1, row.data(), &scale);
  }
  return w;
}
void int8_layer_forward(benchmark::State& s) {
  const auto w = int8_weights(kF, kH);
  const auto x = values(size(kN, kH));
  auto y = values(size(kN, kF));
  Int8Scratch scratch;
  measure(
      s, 2.0 * kN * kH * kF, kN * kH + kF * kH / 4 + kN * kF,
      [&](ThreadPool& p) { int8_forward(p, kN, w, x.data(), y.data(), scratch); }, Unit::int8);
}
void int8_layer_backward(benchmark::State& s) {
  const auto w = int8_weights(kF, kH);
  const auto dy = values(size(kN, kF));
  auto dx = values(size(kN, kH));
  Int8Scratch scratch;
  measure(
      s, 2.0 * kN * kH * kF, kN * kH + kF * kH / 4 + kN * kF,
      [&](ThreadPool& p) { int8_backward(p, kN, w, dy.data(), dx.data(), scratch); }, Unit::int8);
}

struct Norm {
  std::vector<float> x = values(size(kN, kH)), y = x, dx = x, weight = values(kH), inverse = values(kN), mean = inverse;
  NormArgs args{.kind = NormKind::rms, .N = kN, .H = kH, .weight = weight.data(), .eps = 1e-5F};
  NormStats stats{inverse.data(), mean.data()};
};
void rms_norm_forward(benchmark::State& s) {
  Norm n;
  measure(s, 4.0 * kN * kH, 2 * kN * kH,
          [&](ThreadPool& p) { norm_forward(p, n.args, n.x.data(), n.y.data(), n.stats); });
}
void rms_norm_backward(benchmark::State& s) {
  Norm n;
  measure(s, 9.0 * kN * kH, 3 * kN * kH,
          [&](ThreadPool& p) { norm_backward(p, n.args, n.y.data(), n.x.data(), n.stats, false, n.dx.data()); });
}
void silu_forward(benchmark::State& s) {
  const auto gate = values(size(kN, kF)), up = values(size(kN, kF));
  auto h = gate;
  measure(s, 20.0 * kN * kF, 3 * kN * kF, [&](ThreadPool& p) {
    activation_forward(p, {.kind = Activation::silu, .N = kN, .width = kF}, gate.data(), up.data(), h.data());
  });
}
void silu_backward(benchmark::State& s) {
  const auto gate = values(size(kN, kF)), up = values(size(kN, kF)), dh = gate;
  auto dgate = gate, dup = gate;
  measure(s, 26.0 * kN * kF, 5 * kN * kF, [&](ThreadPool& p) {
    activation_backward(p, {.kind = Activation::silu, .N = kN, .width = kF}, dh.data(), gate.data(), up.data(),
                        dgate.data(), dup.data());
  });
}
void rope(benchmark::State& s) {
  auto x = values(size(kN, kH));
  const std::vector<float> cosine(size(128, kD / 2), 0.8F), sine(size(128, kD / 2), 0.6F);
  std::vector<std::int32_t> position(kN);
  for (int i = 0; i < kN; ++i) position[static_cast<std::size_t>(i)] = i % 128;
  measure(s, 3.0 * kN * kH, 2 * kN * kH, [&](ThreadPool& p) {
    rope_forward(
        p,
        {.N = kN, .heads = kHeads, .D = kD, .position = position.data(), .cosine = cosine.data(), .sine = sine.data()},
        x.data());
  });
}

/// Four rows of 128, as smollm135m's batch.
struct Attention {
  std::vector<AttentionRow> rows;
  std::vector<float> q = values(size(kN, kHeads*kD)), k = values(size(kN, kKvHeads*kD), 2), v = values(k.size(), 3),
                     out = q, lse = values(size(kN, kHeads)), dq = q, dk = k, dv = v;
  AttentionShape shape;
  double pairs = 0;  ///< of query and key that see each other, all heads
  Attention() {
    for (int i = 0; i < kN; i += 128) rows.push_back({i, 128, i, 128});
    shape.rows = rows;
    shape.heads = kHeads;
    shape.kv_heads = kKvHeads;
    shape.D = kD;
    shape.scale = 0.125F;
    pairs = 4 * 128.0 * 129 / 2 * kHeads;
  }
};
void causal_attention_forward(benchmark::State& s) {
  Attention a;
  measure(s, 4.0 * a.pairs * kD, 2 * kN * kHeads * kD + 2 * kN * kKvHeads * kD, [&](ThreadPool& p) {
    attention_forward(p, a.shape, a.q.data(), a.k.data(), a.v.data(), a.out.data(), a.lse.data());
  });
}
void causal_attention_backward(benchmark::State& s) {
  Attention a;
  const AttentionBackward args{.q = a.q.data(),
                               .k = a.k.data(),
                               .v = a.v.data(),
                               .out = a.out.data(),
                               .lse = a.lse.data(),
                               .dout = a.q.data(),
                               .dq = a.dq.data(),
                               .dk = a.dk.data(),
                               .dv = a.dv.data()};
  measure(s, 10.0 * a.pairs * kD, 4 * kN * kHeads * kD + 4 * kN * kKvHeads * kD,
          [&](ThreadPool& p) { attention_backward(p, a.shape, args); });
}
void softmax_cross_entropy(benchmark::State& s) {
  auto logits = values(size(kChunk, kV));
  const std::vector<std::int32_t> target(kChunk, 7);
  std::vector<double> loss(kChunk);
  std::vector<std::uint8_t> correct(kChunk);
  measure(s, 20.0 * kChunk * kV, 2.0 * kChunk * kV, [&](ThreadPool& p) {
    cross_entropy_backward(p, {kChunk, kV, target.data(), logits.data(), loss.data(), correct.data()}, 1);
  });
}
void embedding(benchmark::State& s) {
  const auto table = values(size(kV, kH));
  auto y = values(size(kN, kH));
  std::vector<std::int32_t> ids(kN);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 7919 % kV);
  measure(s, 0, 2 * kN * kH, [&](ThreadPool& p) { embedding_forward(p, kN, kH, ids.data(), table.data(), y.data()); });
}
void residual_add(benchmark::State& s) {
  const auto x = values(size(kN, kH));
  auto y = x;
  measure(s, 1.0 * kN * kH, 3 * kN * kH, [&](ThreadPool& p) { add(p, x.size(), x.data(), y.data()); });
}

BENCHMARK(gemm_forward);
BENCHMARK(gemm_backward);
BENCHMARK(gemm_weight_gradient);
BENCHMARK(lora_down);
BENCHMARK(lora_up);
BENCHMARK(lora_gradient);
BENCHMARK(int8_layer_forward);
BENCHMARK(int8_layer_backward);
BENCHMARK(rms_norm_forward);
BENCHMARK(rms_norm_backward);
BENCHMARK(silu_forward);
BENCHMARK(silu_backward);
BENCHMARK(rope);
BENCHMARK(causal_attention_forward);
BENCHMARK(causal_attention_backward);
BENCHMARK(softmax_cross_entropy);
BENCHMARK(embedding);
BENCHMARK(residual_add);

}  // namespace

BENCHMARK_MAIN();

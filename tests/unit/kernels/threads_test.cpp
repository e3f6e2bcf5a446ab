#include "core/kernels/activation.h"
#include "core/kernels/attention.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/embedding.h"
#include "core/kernels/gemm.h"
#include "core/kernels/norm.h"
#include "tests/support/support.h"
#include "tests/unit/kernels/reference.h"

namespace covey::kernels {
namespace {

/// Everything that the kernels compute from fixed inputs, one after the other.
std::vector<float> compute(int threads) {
  ThreadPool pool(threads);
  std::vector<float> all;
  const auto keep = [&all](const std::vector<float>& values) { all.insert(all.end(), values.begin(), values.end()); };
  constexpr int M = 515;
  constexpr int N = 300;
  constexpr int K = 270;
  const auto a = reference::random(std::size_t{M} * K, 1);
  const auto b = reference::random(std::size_t{K} * N, 2);
  std::vector<float> y(std::size_t{M} * N);
  gemm_nt(pool, M, N, K, a.data(), b.data(), y.data());
  keep(y);
  gemm_nn(pool, M, N, K, a.data(), b.data(), y.data());
  keep(y);
  gemm_tn(pool, M, N, K, a.data(), b.data(), y.data());
  keep(y);

  std::vector<float> kept(2 * M);
  const NormStats stats{kept.data(), kept.data() + M};
  std::vector<float> normed(a.size());
  std::vector<float> weight = reference::random(K, 3);
  std::vector<float> dx(a.size());
  std::vector<float> dweight(K);
  for (const NormKind kind : {NormKind::layer, NormKind::rms}) {
    const NormArgs args{.kind = kind, .N = M, .H = K, .weight = weight.data(), .bias = weight.data(), .eps = 1e-5F};
    norm_forward(pool, args, a.data(), normed.data(), stats);
    keep(normed);
    norm_backward(pool, args, normed.data(), a.data(), stats, true, dx.data());
    norm_backward_weight(pool, args, normed.data(), a.data(), stats, dweight.data(), dweight.data());
  }
  bias_backward(pool, M, K, a.data(), dweight.data());
  keep(dx);
  keep(dweight);

  auto gate = a;
  auto up = normed;
  const ActivationArgs act{.kind = Activation::gelu, .N = M, .width = K};
  activation_forward(pool, act, gate.data(), up.data(), dx.data());
  keep(dx);
  activation_backward(pool, act, a.data(), gate.data(), up.data(), gate.data(), up.data());
  keep(gate);
  keep(up);

  std::vector<std::int32_t> ids(M);
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<std::int32_t>(i * 7 % 50);
  std::vector<float> table(50 * std::size_t{K});
  embedding_backward(pool, M, K, ids.data(), a.data(), table.data());
  keep(table);
  std::vector<double> loss(M);
  std::vector<std::uint8_t> correct(M);
  cross_entropy_backward(pool, {M, N, ids.data(), y.data(), loss.data(), correct.data()}, 0.1F);
  keep(y);
  keep({loss.begin(), loss.end()});

  const std::vector<AttentionRow> rows{{0, 100, 0, 100}, {100, 150, 100, 150}};
  const AttentionShape shape{rows, 6, 2, 16, 40, 0.25F};
  const auto q = reference::random(250 * 96, 5);
  const auto k = reference::random(250 * 32, 6);
  const auto v = reference::random(250 * 32, 7);
  std::vector<float> out(q.size());
  std::vector<float> lse(250 * 6);
  std::vector<float> dq(q.size());
  std::vector<float> dk(k.size());
  std::vector<float> dv(v.size());
  attention_forward(pool, shape, q.data(), k.data(), v.data(), out.data(), lse.data());
  attention_backward(pool, shape,
                     {q.data(), k.data(), v.data(), out.data(), lse.data(), q.data(), dq.data(), dk.data(), dv.data()});
  for (const auto* values : {&out, &lse, &dq, &dk, &dv}) keep(*values);
  return all;
}

}  // namespace

TEST_CASE("Every kernel gives the same bits on one, two and four threads") {
  const auto one = compute(1);
  CHECK(compute(2) == one);
  CHECK(compute(4) == one);
}

}  // namespace covey::kernels

#include "core/kernels/attention.h"

#include "tests/support/support.h"
#include "tests/unit/kernels/reference.h"

namespace covey::kernels {
namespace {

using reference::Complex;

struct Setting {
  int heads;
  int kv_heads;
  int D;
  int window;
};

}  // namespace

TEST_CASE("Attention and its gradients agree with complex-step differentiation") {
  ThreadPool pool(2);
  // Lengths on both sides of the blocks of 32 queries and 64 keys; the last row has more keys than queries.
  const std::vector<AttentionRow> rows{{0, 1, 0, 1}, {1, 70, 1, 70}, {71, 33, 71, 33}, {104, 3, 104, 90}};
  constexpr std::size_t kQueries = 107;
  constexpr std::size_t kKeys = 194;
  for (const Setting s : {Setting{4, 2, 8, 0}, {2, 2, 10, 7}, {4, 1, 6, 65}}) {
    CAPTURE(s.window);
    const AttentionShape shape{rows, s.heads, s.kv_heads, s.D, s.window, 0.4F};
    const auto qw = static_cast<std::size_t>(s.heads * s.D);
    const auto kw = static_cast<std::size_t>(s.kv_heads * s.D);
    const auto q = reference::random(kQueries * qw, 1);
    const auto k = reference::random(kKeys * kw, 2);
    const auto v = reference::random(kKeys * kw, 3);
    const auto dout = reference::random(kQueries * qw, 4);
    std::vector<float> out(q.size());
    std::vector<float> lse(kQueries * static_cast<std::size_t>(s.heads));
    attention_forward(pool, shape, q.data(), k.data(), v.data(), out.data(), lse.data());
    const auto expected =
        reference::attention(shape, reference::as<double>(q), reference::as<double>(k), reference::as<double>(v));
    double worst = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      worst = std::max(worst, std::abs(static_cast<double>(out[i]) - expected[i]));
    }
    CHECK(worst < 3e-6);

    std::vector<float> dq(q.size(), 9);
    std::vector<float> dk(k.size(), 9);
    std::vector<float> dv(v.size(), 9);
    attention_backward(
        pool, shape,
        {q.data(), k.data(), v.data(), out.data(), lse.data(), dout.data(), dq.data(), dk.data(), dv.data()});
    const auto check = [&](const std::vector<float>& x, const std::vector<float>& gradient, auto&& f) {
      for (std::size_t i = 3; i < x.size(); i += x.size() / 40) {
        const double exact =
            reference::derivative(x, i, [&](const auto& moved) { return reference::dot(f(moved), dout); });
        CHECK(std::abs(static_cast<double>(gradient[i]) - exact) < 1e-5 * std::max(1.0, std::abs(exact)));
      }
    };
    const auto cq = reference::as<Complex>(q);
    const auto ck = reference::as<Complex>(k);
    const auto cv = reference::as<Complex>(v);
    check(q, dq, [&](const auto& moved) { return reference::attention(shape, moved, ck, cv); });
    check(k, dk, [&](const auto& moved) { return reference::attention(shape, cq, moved, cv); });
    check(v, dv, [&](const auto& moved) { return reference::attention(shape, cq, ck, moved); });
  }
}

TEST_CASE("Attention stands scores that would overflow a plain exponential") {
  ThreadPool pool(1);
  const std::vector<AttentionRow> rows{{0, 70, 0, 70}};
  const AttentionShape shape{rows, 1, 1, 2, 0, 1.0F};
  std::vector<float> q(140, 30.0F);
  std::vector<float> k(140);
  std::vector<float> v(140);
  for (std::size_t i = 0; i < 70; ++i) {
    k[2 * i] = k[2 * i + 1] = static_cast<float>(i) * 0.1F;  // the newest key wins ever more clearly
    v[2 * i] = static_cast<float>(i);
  }
  std::vector<float> out(140);
  std::vector<float> lse(70);
  attention_forward(pool, shape, q.data(), k.data(), v.data(), out.data(), lse.data());
  CHECK(out[2 * 69] == doctest::Approx(69.0).epsilon(1e-3));
  CHECK(out[2 * 30] == doctest::Approx(30.0).epsilon(1e-3));
  CHECK(std::isfinite(lse[69]));
}

}  // namespace covey::kernels

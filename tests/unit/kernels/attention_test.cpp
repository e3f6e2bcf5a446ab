#include "core/kernels/attention.h"

#include "core/kernels/wkv.h"

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

namespace {

/// Forward, backward and forward-mode derivatives of one shape against the plain version.
void check_attention(const AttentionShape& shape, std::size_t q_size, std::size_t kv_size) {
  ThreadPool pool(2);
  const auto q = reference::random(q_size, 1);
  const auto k = reference::random(kv_size, 2);
  const auto v = reference::random(kv_size, 3);
  const auto expected =
      reference::attention(shape, reference::as<double>(q), reference::as<double>(k), reference::as<double>(v));
  const auto dout = reference::random(expected.size(), 4);
  std::vector<float> out(expected.size());
  std::vector<float> lse(expected.size() / static_cast<std::size_t>(shape.D));
  attention_forward(pool, shape, q.data(), k.data(), v.data(), out.data(), lse.data());
  for (std::size_t i = 0; i < out.size(); ++i) CHECK(std::abs(static_cast<double>(out[i]) - expected[i]) < 5e-6);
  std::vector<float> dq(q.size());
  std::vector<float> dk(k.size());
  std::vector<float> dv(v.size());
  attention_backward(
      pool, shape,
      {q.data(), k.data(), v.data(), out.data(), lse.data(), dout.data(), dq.data(), dk.data(), dv.data()});
  const auto q_t = reference::random(q_size, 5);
  const auto k_t = reference::random(kv_size, 6);
  const auto v_t = reference::random(kv_size, 7);
  std::vector<float> out_t(out.size());
  attention_jvp(
      pool, shape,
      {q.data(), k.data(), v.data(), out.data(), lse.data(), q_t.data(), k_t.data(), v_t.data(), out_t.data()});
  double forward = 0;
  double backward = 0;
  for (std::size_t i = 0; i < out.size(); ++i) forward += static_cast<double>(out_t[i]) * static_cast<double>(dout[i]);
  const auto check = [&](const std::vector<float>& x, const std::vector<float>& gradient, const std::vector<float>& x_t,
                         auto&& f) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      backward += static_cast<double>(gradient[i]) * static_cast<double>(x_t[i]);
      if (i % (x.size() / 30 + 1) != 0) continue;
      const double exact =
          reference::derivative(x, i, [&](const auto& moved) { return reference::dot(f(moved), dout); });
      CHECK(std::abs(static_cast<double>(gradient[i]) - exact) < 1e-5 * std::max(1.0, std::abs(exact)));
    }
  };
  const auto cq = reference::as<Complex>(q);
  const auto ck = reference::as<Complex>(k);
  const auto cv = reference::as<Complex>(v);
  check(q, dq, q_t, [&](const auto& moved) { return reference::attention(shape, moved, ck, cv); });
  check(k, dk, k_t, [&](const auto& moved) { return reference::attention(shape, cq, moved, cv); });
  check(v, dv, v_t, [&](const auto& moved) { return reference::attention(shape, cq, ck, moved); });
  CHECK(forward == doctest::Approx(backward).epsilon(1e-4));
}

}  // namespace

TEST_CASE("Attention to the whole row, to another sequence, with biases by distance and caps, has exact derivatives") {
  const std::vector<AttentionRow> own{{0, 40, 0, 40}, {40, 7, 40, 7}};
  const std::vector<AttentionRow> other{{0, 5, 0, 70}, {5, 33, 70, 3}};
  const std::vector<float> slopes{0.25F, 0.0625F};
  const auto bias = reference::random(2 * (2 * 41 - 1), 8);
  AttentionShape shape{.rows = own, .heads = 2, .kv_heads = 2, .D = 6, .scale = 0.4F};
  shape.causal = false;
  check_attention(shape, 47 * 12, 47 * 12);
  shape.distance_bias = bias.data();
  shape.reach = 41;
  check_attention(shape, 47 * 12, 47 * 12);
  shape.causal = true;
  check_attention(shape, 47 * 12, 47 * 12);
  shape.distance_bias = nullptr;
  shape.slopes = slopes.data();
  check_attention(shape, 47 * 12, 47 * 12);
  shape.soft_cap = 1.5F;
  shape.window = 9;
  check_attention(shape, 47 * 12, 47 * 12);
  shape = {.rows = other, .heads = 2, .kv_heads = 1, .D = 6, .scale = 0.4F, .causal = false};
  check_attention(shape, 38 * 12, 73 * 6);
}

TEST_CASE("Attention reads q, k and v where a fused matrix has them") {
  const std::vector<AttentionRow> own{{0, 40, 0, 40}};
  AttentionShape shape{.rows = own, .heads = 2, .kv_heads = 2, .D = 6, .scale = 0.4F};
  shape.q_at = shape.k_at = shape.v_at = {.row = 40, .head = 18};
  check_attention(shape, 40 * 40, 40 * 40);
}

TEST_CASE("Gradients of the biases by distance come in parts, one for each row of the batch") {
  ThreadPool pool(2);
  const std::vector<AttentionRow> rows{{0, 5, 0, 5}, {5, 3, 5, 3}};
  auto bias = reference::random(2 * 9, 8);
  AttentionShape shape{.rows = rows, .heads = 2, .kv_heads = 1, .D = 4, .scale = 0.4F, .causal = false};
  shape.distance_bias = bias.data();
  shape.reach = 5;
  const auto q = reference::random(8 * 8, 1);
  const auto k = reference::random(8 * 4, 2);
  const auto v = reference::random(8 * 4, 3);
  const auto dout = reference::random(q.size(), 4);
  std::vector<float> out(q.size());
  std::vector<float> lse(16);
  attention_forward(pool, shape, q.data(), k.data(), v.data(), out.data(), lse.data());
  std::vector<float> dq(q.size());
  std::vector<float> dk(k.size());
  std::vector<float> dv(v.size());
  std::vector<float> parts(2 * 18);
  attention_backward(pool, shape,
                     {q.data(), k.data(), v.data(), out.data(), lse.data(), dout.data(), dq.data(), dk.data(),
                      dv.data(), parts.data()});
  const auto value = [&] {
    return reference::dot(
        reference::attention(shape, reference::as<double>(q), reference::as<double>(k), reference::as<double>(v)),
        dout);
  };
  for (std::size_t i = 0; i < bias.size(); ++i) {
    const float kept = bias[i];
    bias[i] = kept + 0.0009765625F;
    const double above = value();
    bias[i] = kept - 0.0009765625F;
    const double below = value();
    const double step = static_cast<double>(kept + 0.0009765625F) - static_cast<double>(kept - 0.0009765625F);
    bias[i] = kept;
    CHECK(std::abs(static_cast<double>(parts[i]) + static_cast<double>(parts[18 + i]) - (above - below) / step) < 2e-5);
  }
}

TEST_CASE("RWKV's average over the past has exact derivatives, and goes on where it stopped") {
  ThreadPool pool(2);
  const std::vector<AttentionRow> rows{{0, 11, 0, 11}, {11, 4, 11, 4}};
  constexpr int A = 19;
  const auto decay = reference::random(A, 1);
  const auto first = reference::random(A, 2);
  const auto k = reference::random(15 * A, 3);
  const auto v = reference::random(15 * A, 4);
  const auto dy = reference::random(15 * A, 5);
  WkvArgs args{rows, A, decay.data(), first.data(), k.data(), v.data(), nullptr};
  std::vector<float> y(k.size());
  std::vector<float> states(3 * k.size());
  wkv_forward(pool, args, y.data(), states.data());
  using reference::as;
  const auto expected = reference::wkv(args, as<double>(decay), as<double>(first), as<double>(k), as<double>(v));
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(std::abs(static_cast<double>(y[i]) - expected[i]) < 3e-6);
  std::vector<float> dk(k.size());
  std::vector<float> dv(k.size());
  std::vector<float> ddecay(2 * A);
  std::vector<float> dfirst(2 * A);
  wkv_backward(pool, args, {y.data(), states.data(), dy.data(), dk.data(), dv.data(), ddecay.data(), dfirst.data()});
  const auto cdecay = as<Complex>(decay);
  const auto cfirst = as<Complex>(first);
  const auto ck = as<Complex>(k);
  const auto cv = as<Complex>(v);
  const auto close = [](double got, double exact) {
    return std::abs(got - exact) < 1e-5 * std::max(1.0, std::abs(exact));
  };
  for (std::size_t i = 0; i < k.size(); i += 7) {
    CHECK(close(static_cast<double>(dk[i]), reference::derivative(k, i, [&](const auto& moved) {
                  return reference::dot(reference::wkv(args, cdecay, cfirst, moved, cv), dy);
                })));
    CHECK(close(static_cast<double>(dv[i]), reference::derivative(v, i, [&](const auto& moved) {
                  return reference::dot(reference::wkv(args, cdecay, cfirst, ck, moved), dy);
                })));
  }
  for (std::size_t i = 0; i < A; ++i) {
    CHECK(close(static_cast<double>(ddecay[i]) + static_cast<double>(ddecay[A + i]),
                reference::derivative(decay, i, [&](const auto& moved) {
                  return reference::dot(reference::wkv(args, moved, cfirst, ck, cv), dy);
                })));
    CHECK(close(static_cast<double>(dfirst[i]) + static_cast<double>(dfirst[A + i]),
                reference::derivative(first, i, [&](const auto& moved) {
                  return reference::dot(reference::wkv(args, cdecay, moved, ck, cv), dy);
                })));
  }
  const auto k_t = reference::random(k.size(), 6);
  const auto v_t = reference::random(k.size(), 7);
  std::vector<float> y_t(k.size());
  wkv_jvp(pool, args, k_t.data(), v_t.data(), y_t.data());
  double forward = 0;
  double backward = 0;
  for (std::size_t i = 0; i < k.size(); ++i) {
    forward += static_cast<double>(y_t[i]) * static_cast<double>(dy[i]);
    backward += static_cast<double>(dk[i]) * static_cast<double>(k_t[i]) +
                static_cast<double>(dv[i]) * static_cast<double>(v_t[i]);
  }
  CHECK(forward == doctest::Approx(backward).epsilon(1e-4));

  std::vector<float> carried(3 * A);
  wkv_clear(A, carried.data());
  const std::vector<AttentionRow> one{{0, 1, 0, 1}};
  std::vector<float> step(A);
  for (int t = 0; t < 11; ++t) {
    args = {one, A, decay.data(), first.data(), k.data() + t * A, v.data() + t * A, carried.data()};
    wkv_forward(pool, args, step.data(), nullptr);
    CHECK(std::equal(step.begin(), step.end(), y.begin() + t * A));
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

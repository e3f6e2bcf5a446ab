#include <algorithm>

#include "core/kernels/activation.h"
#include "core/kernels/cross_entropy.h"
#include "core/kernels/embedding.h"
#include "core/kernels/norm.h"
#include "core/kernels/rope.h"
#include "tests/support/support.h"
#include "tests/unit/kernels/reference.h"

namespace covey::kernels {
namespace {

using reference::Complex;

void check_close(const std::vector<float>& got, const std::vector<double>& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  double worst = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - expected[i]));
  }
  CHECK(worst <= tolerance);
}

}  // namespace

TEST_CASE("Every norm, with and without weights, whole rows or heads apart, has the derivatives of complex steps") {
  ThreadPool pool(2);
  for (const NormKind kind : {NormKind::rms, NormKind::layer, NormKind::affine}) {
    for (const int H : {3, 16, 40}) {
      for (const int variant : {0, 1, 2, 3}) {  // plain; bias and offset; no weight; heads with weights of their own
        CAPTURE(H);
        CAPTURE(variant);
        constexpr int N = 3;
        const int heads = variant == 3 ? 2 : 1;
        const auto n = static_cast<std::size_t>(N * heads * H);
        const auto x = reference::random(n, 1);
        const auto w = reference::random(static_cast<std::size_t>(heads * H), 2);
        const auto bias = reference::random(static_cast<std::size_t>(heads * H), 9);
        const auto dy = reference::random(n, 3);
        NormArgs args{.kind = kind, .N = N, .H = H, .heads = heads, .eps = 1e-5F};
        args.weight = variant == 2 ? nullptr : w.data();
        args.bias = variant == 0 || variant == 2 ? nullptr : bias.data();
        args.weight_offset = variant == 1 ? 1.0F : 0.0F;
        args.own_weights = variant == 3;
        std::vector<float> y(n);
        std::vector<float> again(n);
        std::vector<float> kept(2 * N * 2);
        const NormStats stats{kept.data(), kept.data() + N * heads};
        norm_forward(pool, args, x.data(), y.data(), stats);
        const auto plain = [&](const auto& moved, const auto& weights, const auto& biases) {
          return reference::norm(args, moved, weights, biases);
        };
        using reference::as;
        check_close(y, plain(as<double>(x), as<double>(w), as<double>(bias)), 3e-6);
        norm_recompute(pool, args, x.data(), again.data(), stats);
        CHECK(again == y);

        std::vector<float> dx(n, 1.0F);
        norm_backward(pool, args, dy.data(), x.data(), stats, true, dx.data());
        std::vector<float> alone(n, 7.0F);
        norm_backward(pool, args, dy.data(), x.data(), stats, false, alone.data());
        std::vector<float> dw(w.size());
        std::vector<float> db(w.size());
        norm_backward_weight(pool, args, dy.data(), x.data(), stats, dw.data(), db.data());
        std::vector<float> y_t(n);
        norm_jvp(pool, args, x.data(), stats, dy.data(), y_t.data());
        double forward = 0;
        double backward = 0;
        for (std::size_t i = 0; i < n; ++i) {
          const double exact = reference::derivative(x, i, [&](const auto& moved) {
            return reference::dot(plain(moved, as<Complex>(w), as<Complex>(bias)), dy);
          });
          CHECK(std::abs(static_cast<double>(dx[i]) - 1 - exact) < 2e-5 * std::max(1.0, std::abs(exact)));
          CHECK(std::abs(static_cast<double>(alone[i]) - exact) < 2e-5 * std::max(1.0, std::abs(exact)));
          forward += static_cast<double>(y_t[i]) * static_cast<double>(dy[i]);
          backward += exact * static_cast<double>(dy[i]);
        }
        CHECK(forward == doctest::Approx(backward).epsilon(1e-4));
        for (std::size_t i = 0; i < w.size() && args.weight != nullptr; ++i) {
          const double exact = reference::derivative(w, i, [&](const auto& moved) {
            return reference::dot(plain(as<Complex>(x), moved, as<Complex>(bias)), dy);
          });
          CHECK(std::abs(static_cast<double>(dw[i]) - exact) < 2e-5 * std::max(1.0, std::abs(exact)));
          const double exact_bias = reference::derivative(bias, i, [&](const auto& moved) {
            return reference::dot(plain(as<Complex>(x), as<Complex>(w), moved), dy);
          });
          if (args.bias != nullptr) CHECK(static_cast<double>(db[i]) == doctest::Approx(exact_bias).epsilon(1e-5));
        }
      }
    }
  }
}

TEST_CASE("Every activation, gated or not, has the values and slopes of its formula, far from zero too") {
  ThreadPool pool(1);
  constexpr Activation kinds[] = {Activation::identity,     Activation::silu,       Activation::gelu,
                                  Activation::gelu_tanh,    Activation::quick_gelu, Activation::relu,
                                  Activation::relu_squared, Activation::tanh,       Activation::sigmoid,
                                  Activation::soft_cap,     Activation::clip};
  auto gate = reference::random(53, 1, 3);
  gate[0] = 95;
  gate[1] = -95;
  gate[2] = 1e-4F;
  gate[3] = -0.4F;
  const auto up = reference::random(53, 2);
  const auto dh = reference::random(53, 3);
  for (const Activation kind : kinds) {
    const int number = static_cast<int>(kind);
    CAPTURE(number);
    for (const bool gated : {false, true}) {
      const ActivationArgs args{.kind = kind, .N = 1, .width = 53, .limit = 2};
      std::vector<float> h(53);
      activation_forward(pool, args, gate.data(), gated ? up.data() : nullptr, h.data());
      auto dgate = gate;
      auto dup = up;
      activation_backward(pool, args, dh.data(), dgate.data(), gated ? dup.data() : nullptr, dgate.data(),
                          gated ? dup.data() : nullptr);
      std::vector<float> h_t(53);
      activation_jvp(pool, args, gate.data(), gated ? up.data() : nullptr, dh.data(), up.data(), h_t.data());
      for (std::size_t i = 0; i < h.size(); ++i) {
        CAPTURE(i);
        const double x = static_cast<double>(gate[i]);
        const double u = gated ? static_cast<double>(up[i]) : 1.0;
        const double d = static_cast<double>(dh[i]);
        const double value = reference::activation(kind, x, 2.0);
        const double slope =
            (reference::activation(kind, x + 1e-6, 2.0) - reference::activation(kind, x - 1e-6, 2.0)) / 2e-6;
        CHECK(std::abs(static_cast<double>(h[i]) - value * u) < 1e-6 * std::max(1.0, std::abs(value * u)));
        CHECK(std::abs(static_cast<double>(dgate[i]) - d * u * slope) < 3e-6 * std::max(1.0, std::abs(d * u * slope)));
        if (gated) CHECK(std::abs(static_cast<double>(dup[i]) - d * value) < 2e-6 * std::max(1.0, std::abs(d * value)));
        const double moved = gated ? slope * d * u + value * u : slope * d;
        CHECK(std::abs(static_cast<double>(h_t[i]) - moved) < 4e-6 * std::max(1.0, std::abs(moved)));
      }
    }
  }
}

TEST_CASE("Gate and up side by side in one matrix give what they give apart") {
  ThreadPool pool(2);
  constexpr int N = 5;
  constexpr int I = 21;
  const auto both = reference::random(N * 2 * I, 4);
  std::vector<float> gate;
  std::vector<float> up;
  for (int n = 0; n < N; ++n) {
    gate.insert(gate.end(), both.begin() + n * 2 * I, both.begin() + n * 2 * I + I);
    up.insert(up.end(), both.begin() + n * 2 * I + I, both.begin() + (n + 1) * 2 * I);
  }
  std::vector<float> apart(N * I);
  std::vector<float> together(N * I);
  activation_forward(pool, {.kind = Activation::silu, .N = N, .width = I}, gate.data(), up.data(), apart.data());
  activation_forward(pool, {.kind = Activation::silu, .N = N, .width = I, .row = 2 * I}, both.data(), both.data() + I,
                     together.data());
  CHECK(apart == together);
}

TEST_CASE("Cross-entropy, its gradient and its count of right answers") {
  ThreadPool pool(2);
  for (const int V : {5, 16, 137}) {
    constexpr int N = 4;
    const auto logits = reference::random(static_cast<std::size_t>(N * V), 5, 2);
    std::vector<std::int32_t> target{0, V - 1, V / 2, 1};
    std::vector<double> loss(N);
    std::vector<std::uint8_t> correct(N);
    auto gradient = logits;
    const CrossEntropyArgs args{N, V, target.data(), gradient.data(), loss.data(), correct.data()};
    cross_entropy_forward(pool, args);
    CHECK(gradient == logits);
    double sum = 0;
    for (const double value : loss) sum += value;
    CHECK(sum == doctest::Approx(reference::cross_entropy(N, V, reference::as<double>(logits), target)).epsilon(1e-6));
    for (std::size_t n = 0; n < N; ++n) {
      const auto row = logits.begin() + static_cast<std::ptrdiff_t>(n) * V;
      CHECK((correct[n] == 1) == (std::max_element(row, row + V) - row == target[n]));
    }
    cross_entropy_backward(pool, args, 0.5F);
    for (std::size_t i = 0; i < logits.size(); ++i) {
      const double expected = reference::derivative(
          logits, i, [&](const auto& moved) { return reference::cross_entropy(N, V, moved, target); });
      CHECK(static_cast<double>(gradient[i]) == doctest::Approx(0.5 * expected).epsilon(1e-5));
    }
  }
}

TEST_CASE("Of equal logits only the first counts as the largest") {
  ThreadPool pool(1);
  std::vector<float> logits(20, 1.0F);
  std::vector<std::int32_t> target{0, 3};
  std::vector<double> loss(2);
  std::vector<std::uint8_t> correct(2);
  cross_entropy_forward(pool, {2, 10, target.data(), logits.data(), loss.data(), correct.data()});
  CHECK(correct == std::vector<std::uint8_t>{1, 0});
  CHECK(loss[0] == doctest::Approx(std::log(10.0)));
}

TEST_CASE("Rotary positions turn pairs by their angle, and the backward pass turns them back") {
  ThreadPool pool(2);
  constexpr int N = 3;
  constexpr int heads = 2;
  constexpr int D = 6;
  const std::vector<std::int32_t> position{0, 4, 1};
  std::vector<float> cosine;
  std::vector<float> sine;
  for (int p = 0; p < 5; ++p) {
    for (int i = 0; i < D / 2; ++i) {
      cosine.push_back(static_cast<float>(std::cos(p * 0.3 / (i + 1))));
      sine.push_back(static_cast<float>(std::sin(p * 0.3 / (i + 1))));
    }
  }
  const RopeArgs args{
      .N = N, .heads = heads, .D = D, .position = position.data(), .cosine = cosine.data(), .sine = sine.data()};
  const auto x = reference::random(N * heads * D, 1);
  auto y = x;
  rope_forward(pool, args, y.data());
  for (int i = 0; i < D / 2; ++i) {  // row 1, head 1, as complex numbers
    const auto at = static_cast<std::size_t>((1 * heads + 1) * D + i);
    const Complex turned =
        Complex(static_cast<double>(x[at]), static_cast<double>(x[at + D / 2])) * std::polar(1.0, 4 * 0.3 / (i + 1));
    CHECK(static_cast<double>(y[at]) == doctest::Approx(turned.real()).epsilon(1e-6));
    CHECK(static_cast<double>(y[at + D / 2]) == doctest::Approx(turned.imag()).epsilon(1e-6));
  }
  rope_backward(pool, args, y.data());
  check_close(y, reference::as<double>(x), 1e-6);
}

TEST_CASE("Rotation of a part, of neighbours, and within a fused matrix turns just the pairs it should") {
  ThreadPool pool(1);
  const std::vector<std::int32_t> position{1, 0};
  const std::vector<float> cosine{1, 1, std::cos(0.5F), std::cos(0.2F)};
  const std::vector<float> sine{0, 0, std::sin(0.5F), std::sin(0.2F)};
  // Two heads of six elements, of which four turn, each followed by six of something else.
  const auto x = reference::random(2 * 24, 1);
  for (const bool neighbours : {false, true}) {
    const RopeArgs args{.N = 2,
                        .heads = 2,
                        .D = 4,
                        .position = position.data(),
                        .cosine = cosine.data(),
                        .sine = sine.data(),
                        .row = 24,
                        .head = 12,
                        .neighbours = neighbours};
    auto y = x;
    rope_forward(pool, args, y.data());
    std::vector<double> expected(x.begin(), x.end());
    for (std::size_t h = 0; h < 2; ++h) {
      for (std::size_t i = 0; i < 2; ++i) {  // row 0 stands at position 1
        const std::size_t a = h * 12 + (neighbours ? 2 * i : i);
        const std::size_t b = a + (neighbours ? 1 : 2);
        const Complex turned = Complex(expected[a], expected[b]) * std::polar(1.0, i == 0 ? 0.5 : 0.2);
        expected[a] = turned.real();
        expected[b] = turned.imag();
      }
    }
    check_close(y, expected, 1e-6);
    rope_backward(pool, args, y.data());
    check_close(y, reference::as<double>(x), 1e-6);
  }
}

TEST_CASE("Embedding rows are gathered, their gradients added where ids repeat, virtual ones passed over") {
  ThreadPool pool(2);
  const std::vector<std::int32_t> ids{2, 0, -1, 2};
  const std::vector<float> table{0, 1, 10, 11, 20, 21};
  std::vector<float> y(8, -5);
  embedding_forward(pool, 4, 2, ids.data(), table.data(), y.data());
  CHECK(y == std::vector<float>{20, 21, 0, 1, -5, -5, 20, 21});
  const std::vector<float> dy{1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<float> dtable(6, 1);
  embedding_backward(pool, 4, 2, ids.data(), dy.data(), dtable.data());
  CHECK(dtable == std::vector<float>{4, 5, 1, 1, 9, 11});
}

}  // namespace covey::kernels

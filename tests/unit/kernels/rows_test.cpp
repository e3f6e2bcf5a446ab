#include <algorithm>

#include "core/kernels/cross_entropy.h"
#include "core/kernels/elementwise.h"
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

TEST_CASE("The norm and its gradients agree with complex-step differentiation") {
  ThreadPool pool(2);
  for (const int H : {3, 16, 40}) {
    constexpr int N = 3;
    const auto n = static_cast<std::size_t>(N * H);
    const auto x = reference::random(n, 1);
    const auto w = reference::random(static_cast<std::size_t>(H), 2);
    const auto dy = reference::random(n, 3);
    std::vector<float> y(n);
    std::vector<float> again(n);
    std::vector<float> inverse(N);
    rmsnorm_forward(pool, N, H, x.data(), w.data(), 1e-5F, y.data(), inverse.data());
    check_close(y, reference::rmsnorm(N, H, reference::as<double>(x), reference::as<double>(w), 1e-5), 2e-6);
    rmsnorm_recompute(pool, N, H, x.data(), w.data(), inverse.data(), again.data());
    CHECK(again == y);

    std::vector<float> dx(n, 1.0F);
    rmsnorm_backward(pool, N, H, dy.data(), x.data(), w.data(), inverse.data(), dx.data());
    for (std::size_t i = 0; i < n; ++i) {
      const double expected = reference::derivative(x, i, [&](const auto& moved) {
        return reference::dot(reference::rmsnorm(N, H, moved, reference::as<Complex>(w), 1e-5), dy);
      });
      CHECK(static_cast<double>(dx[i]) == doctest::Approx(1 + expected).epsilon(1e-5));
    }
    std::vector<float> dw(w.size());
    rmsnorm_backward_weight(pool, N, H, dy.data(), x.data(), inverse.data(), dw.data());
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double expected = reference::derivative(w, i, [&](const auto& moved) {
        return reference::dot(reference::rmsnorm(N, H, reference::as<Complex>(x), moved, 1e-5), dy);
      });
      CHECK(static_cast<double>(dw[i]) == doctest::Approx(expected).epsilon(1e-5));
    }
  }
}

TEST_CASE("SwiGLU and its gradients agree with complex-step differentiation, far from zero too") {
  ThreadPool pool(1);
  auto gate = reference::random(53, 1, 3);
  gate[0] = 95;
  gate[1] = -95;
  gate[2] = 0;
  auto up = reference::random(53, 2);
  const auto dh = reference::random(53, 3);
  std::vector<float> h(53);
  swiglu_forward(pool, h.size(), gate.data(), up.data(), h.data());
  check_close(h, reference::swiglu(reference::as<double>(gate), reference::as<double>(up)), 1e-5);
  auto dgate = gate;
  auto dup = up;
  swiglu_backward(pool, h.size(), dh.data(), dgate.data(), dup.data());
  for (std::size_t i = 0; i < h.size(); ++i) {
    const double by_gate = reference::derivative(gate, i, [&](const auto& moved) {
      return reference::dot(reference::swiglu(moved, reference::as<Complex>(up)), dh);
    });
    const double by_up = reference::derivative(up, i, [&](const auto& moved) {
      return reference::dot(reference::swiglu(reference::as<Complex>(gate), moved), dh);
    });
    CHECK(static_cast<double>(dgate[i]) == doctest::Approx(by_gate).epsilon(1e-5));
    CHECK(static_cast<double>(dup[i]) == doctest::Approx(by_up).epsilon(1e-5));
  }
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
  const RopeArgs args{N, heads, D, position.data(), cosine.data(), sine.data()};
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

#include "core/train/optimizer.h"

#include <cmath>
#include <vector>

#include "core/train/schedule.h"
#include "support/support.h"

using namespace covey;
using namespace covey::train;

namespace {

/// f(x) = sum of c_i (x_i - t_i)^2 / 2: its gradient is known.
std::vector<float> gradient_at(const std::vector<float>& x) {
  std::vector<float> out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    out[i] = static_cast<float>(i + 1) * (x[i] - 0.5F * static_cast<float>(i));
  }
  return out;
}

}  // namespace

TEST_CASE("AdamW takes the steps that its formulas give in double precision") {
  const OptimizerConfig config{.weight_decay = 0.1};
  std::vector<float> x{1.0F, -2.0F, 0.25F};
  std::vector<double> y(x.begin(), x.end()), m(3), v(3);
  Optimizer optimizer(config, 3);
  const double lr = 0.05;
  for (int step = 1; step <= 30; ++step) {
    optimizer.step(x, gradient_at(x), lr);
    for (std::size_t i = 0; i < y.size(); ++i) {
      const double g = static_cast<double>(i + 1) * (y[i] - 0.5 * static_cast<double>(i));
      y[i] *= 1 - lr * 0.1;
      m[i] = 0.9 * m[i] + 0.1 * g;
      v[i] = 0.999 * v[i] + 0.001 * g * g;
      const double m_hat = m[i] / (1 - std::pow(0.9, step));
      const double v_hat = v[i] / (1 - std::pow(0.999, step));
      y[i] -= lr * m_hat / (std::sqrt(v_hat) + 1e-8);
    }
  }
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(static_cast<double>(x[i]) == doctest::Approx(y[i]).epsilon(1e-4));
}

TEST_CASE("the first AdamW step moves every value by the learning rate, whatever its gradient") {
  Optimizer optimizer({}, 2);
  std::vector<float> x{0, 0};
  optimizer.step(x, std::vector<float>{1e-3F, -500.0F}, 0.01);
  CHECK(x[0] == doctest::Approx(-0.01).epsilon(1e-4));
  CHECK(x[1] == doctest::Approx(0.01).epsilon(1e-4));
}

TEST_CASE("SGD with momentum repeats torch's recurrence") {
  Optimizer optimizer({.kind = OptimizerKind::sgd, .momentum = 0.5}, 1);
  std::vector<float> x{0};
  const std::vector<float> g{1};
  optimizer.step(x, g, 1);  // buffer 1
  CHECK(x[0] == -1.0F);
  optimizer.step(x, g, 1);  // buffer 1.5
  CHECK(x[0] == -2.5F);
  optimizer.step(x, g, 1);  // buffer 1.75
  CHECK(x[0] == -4.25F);
}

TEST_CASE("an optimizer restored from its bytes continues bit for bit") {
  for (const OptimizerConfig& config :
       {OptimizerConfig{.weight_decay = 0.01}, OptimizerConfig{.kind = OptimizerKind::sgd, .momentum = 0.9},
        OptimizerConfig{.kind = OptimizerKind::adamw8bit}}) {
    Optimizer first(config, 4);
    std::vector<float> x{1, 2, 3, 4};
    for (int i = 0; i < 5; ++i) first.step(x, gradient_at(x), 0.01);
    const Bytes saved = first.serialize();
    std::vector<float> y = x;
    Optimizer second(config, 4);
    REQUIRE_OK(second.restore(saved));
    for (int i = 0; i < 5; ++i) {
      first.step(x, gradient_at(x), 0.01);
      second.step(y, gradient_at(y), 0.01);
    }
    CHECK(x == y);
    CHECK(second.steps() == 10);

    Optimizer other(config, 5);
    CHECK(other.restore(saved).error().code == ErrorCode::corrupt_data);
    CHECK(second.restore(ByteSpan(saved).first(7)).error().code == ErrorCode::corrupt_data);
  }
}

TEST_CASE("pieces of parameters updated apart give the same bits as one step") {
  const OptimizerConfig config{.weight_decay = 0.1};
  std::vector<float> x{1, 2, 3, 4}, y = x;
  Optimizer whole(config, 4), pieces(config, 4);
  for (int i = 0; i < 3; ++i) {
    const auto g = gradient_at(x);
    const auto h = gradient_at(y);
    whole.step(x, g, 0.1);
    pieces.begin_step();
    pieces.update(0, std::span(y).first(1), std::span(h).first(1), 0.1);
    pieces.update(1, std::span(y).subspan(1), std::span(h).subspan(1), 0.1);
  }
  CHECK(x == y);
}

TEST_CASE("AdamW in 8 bits follows AdamW in 32 within a few hundredths of the way gone, in a quarter of its state") {
  // 1000 values: whole blocks and a part of one; gradients over four orders of magnitude, as a model's are.
  constexpr std::size_t P = 1000;
  const OptimizerConfig exact{.weight_decay = 0.01};
  OptimizerConfig small = exact;
  small.kind = OptimizerKind::adamw8bit;
  std::vector<float> target(P), x(P), y(P);
  for (std::size_t i = 0; i < P; ++i) target[i] = std::sin(static_cast<float>(i));
  const auto gradient = [&](const std::vector<float>& at) {
    std::vector<float> g(P);
    for (std::size_t i = 0; i < P; ++i) g[i] = std::pow(10.0F, -static_cast<float>(i % 5)) * (at[i] - target[i]);
    return g;
  };
  Optimizer a(exact, P), b(small, P);
  for (int step = 0; step < 150; ++step) {
    a.step(x, gradient(x), 0.01);
    b.step(y, gradient(y), 0.01);
  }
  std::vector<float> difference(P);
  for (std::size_t i = 0; i < P; ++i) difference[i] = x[i] - y[i];
  CHECK(l2_norm(x) > 10);
  CHECK(l2_norm(difference) < 0.05 * l2_norm(x));
  CHECK(4 * small.state_bytes(1 << 20) < 1.02 * static_cast<double>(exact.state_bytes(1 << 20)));
  CHECK(b.serialize().size() < small.state_bytes(P) + 64);
}

TEST_CASE("rounded second moments fall in the mean although each step is smaller than what 8 bits can tell") {
  // A large gradient, then none: exact exp_avg_sq falls by 0.999 a step, a twelfth of the distance between two codes.
  const OptimizerConfig config{.kind = OptimizerKind::adamw8bit};
  constexpr std::size_t P = 256;
  Optimizer optimizer(config, P);
  std::vector<float> x(P);
  std::vector<float> g(P, 1.0F);
  optimizer.step(x, g, 0.001);
  std::fill(g.begin() + 1, g.end(), 0.0F);  // value 0 keeps the block's scale where it is
  for (int step = 0; step < 700; ++step) optimizer.step(x, g, 0.001);
  // A probe: with g = 1e-3 the step's size tells v: m / sqrt(v), v = 0.001 * 0.999^700 where nothing was lost.
  const std::vector<float> before = x;
  std::fill(g.begin() + 1, g.end(), 1e-2F);
  optimizer.step(x, g, 0.001);
  double mean = 0;
  for (std::size_t i = 1; i < P; ++i) mean += static_cast<double>(before[i] - x[i]) / (P - 1);
  const double v = (0.001 * std::pow(0.999, 700) + 0.001 * 1e-4) / (1 - std::pow(0.999, 702));
  CHECK(mean == doctest::Approx(0.001 * 0.1 * 1e-2 / std::sqrt(v)).epsilon(0.1));
}

TEST_CASE("clipping scales the norm down and never up") {
  std::vector<float> g{3, 4};
  CHECK(clip_by_norm(g, 10) == doctest::Approx(5));
  CHECK(g == std::vector<float>{3, 4});
  CHECK(clip_by_norm(g, 1) == doctest::Approx(5));
  CHECK(l2_norm(g) == doctest::Approx(1).epsilon(1e-5));
}

TEST_CASE("the proximal term pulls back to the reference") {
  std::vector<float> g{1, 1};
  add_proximal(g, std::vector<float>{2, 0}, std::vector<float>{1, 1}, 0.5);
  CHECK(g == std::vector<float>{1.5F, 0.5F});
}

TEST_CASE("optimizer settings outside their range are named") {
  CHECK(OptimizerConfig{.beta2 = 1}.check().error().message.find("beta2") == 0);
  CHECK(OptimizerConfig{.weight_decay = -1}.check().error().message.find("weight_decay") == 0);
  CHECK(OptimizerConfig{.epsilon = std::nan("")}.check().error().message.find("epsilon") == 0);
}

TEST_CASE("schedules warm up, fall and end where they should") {
  const Schedule cosine{.kind = ScheduleKind::cosine, .warmup_steps = 4, .final_factor = 0.1};
  CHECK(schedule_factor(cosine, 0, 24) == doctest::Approx(0.25));
  CHECK(schedule_factor(cosine, 3, 24) == doctest::Approx(1));
  CHECK(schedule_factor(cosine, 4, 24) == doctest::Approx(1));
  CHECK(schedule_factor(cosine, 14, 24) == doctest::Approx(0.55));
  CHECK(schedule_factor(cosine, 24, 24) == doctest::Approx(0.1));
  const Schedule linear{.kind = ScheduleKind::linear};
  CHECK(schedule_factor(linear, 5, 10) == doctest::Approx(0.5));
  CHECK(schedule_factor({}, 999, 10) == 1);
}

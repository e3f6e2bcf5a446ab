#include "core/train/seeded_update.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "unit/train/tiny.h"

using namespace covey;
using namespace covey::train;
using namespace covey::train::tiny;

namespace {

Piece piece_of(std::vector<float>& values, std::int64_t offset = 0) {
  return {.offset = offset, .values = values};
}

}  // namespace

TEST_CASE("weights rebuilt from a seed pool and its sums have the same bits everywhere, whole or in pieces") {
  const SeedPool seeds{.seed = 77, .count = 32};
  std::vector<float> coefficients(32);
  for (std::size_t k = 0; k < coefficients.size(); ++k) coefficients[k] = static_cast<float>(k % 5) * 0.01F - 0.02F;
  std::vector<float> whole(40001, 0.5F);
  ThreadPool one(1), three(3);
  const Piece all = piece_of(whole);
  REQUIRE_OK(apply(seeds, coefficients, {&all, 1}, one));

  std::vector<float> low(12345, 0.5F), high(40001 - 12345, 0.5F);
  const std::vector<Piece> pieces{piece_of(low), piece_of(high, 12345)};
  REQUIRE_OK(apply(seeds, coefficients, pieces, three));
  low.insert(low.end(), high.begin(), high.end());
  CHECK(low == whole);

  std::uint64_t hash = 14695981039346656037ULL;
  for (const float v : whole) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &v, 4);
    hash = (hash ^ bits) * 1099511628211ULL;
  }
  CHECK(hash == 1888770239271989668ULL);  // printed on x86-64 first; Arm64 must agree
}

TEST_CASE("a device's K scalars say where its training went") {
  const Setup setup = lora_setup();
  const auto rows = counting_rows(20);
  ThreadPool pool(2);
  for (const Method method : {Method::zeroth_order, Method::forward_gradient}) {
    TrainConfig config = config_of(40);
    config.gradient.method = method;
    config.optimizer.kind = OptimizerKind::sgd;
    config.schedule.kind = ScheduleKind::linear;
    config.lr = 0.05;
    config.candidates = {.seed = 5, .count = 64};
    auto trainer = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config, pool, kClock);
    REQUIRE_OK(trainer);
    REQUIRE_OK((*trainer)->run());
    std::vector<float> rebuilt = setup.start;
    const Piece all = piece_of(rebuilt);
    REQUIRE_OK(apply(config.candidates, (*trainer)->seeded_update().coefficients(), {&all, 1}, pool));
    double apart = 0;
    for (std::size_t i = 0; i < rebuilt.size(); ++i) {
      apart = std::max(apart, std::abs(static_cast<double>(rebuilt[i] - (*trainer)->values()[i])));
    }
    CHECK(l2_norm((*trainer)->delta()) > 0.01);
    CHECK(apart < 1e-6);  // forty steps, each rounded, of values below 1
  }
}

TEST_CASE("sums of devices' scalars rebuild what the mean of their weights is") {
  const SeedPool seeds{.seed = 2, .count = 8};
  SeededUpdate a(seeds), b(seeds), both(seeds);
  for (int k = 0; k < 8; ++k) {
    a.add(k, 0.01 * k);
    b.add(k, 0.03 - 0.005 * k);
    both.add(k, 0.5 * 0.01 * k);
    both.add(k, 0.5 * (0.03 - 0.005 * k));
  }
  ThreadPool pool(1);
  std::vector<float> of_a(1000, 1.0F), of_b = of_a, of_both = of_a;
  const Piece pieces[] = {piece_of(of_a), piece_of(of_b), piece_of(of_both)};
  REQUIRE_OK(apply(seeds, a.coefficients(), {pieces, 1}, pool));
  REQUIRE_OK(apply(seeds, b.coefficients(), {pieces + 1, 1}, pool));
  REQUIRE_OK(apply(seeds, both.coefficients(), {pieces + 2, 1}, pool));
  for (std::size_t i = 0; i < of_a.size(); ++i)
    REQUIRE(of_both[i] == doctest::Approx((of_a[i] + of_b[i]) / 2).epsilon(1e-6));
}

TEST_CASE("scalars that do not fit the pool are refused and change nothing") {
  ThreadPool pool(1);
  std::vector<float> values(10, 1.0F);
  const Piece all = piece_of(values);
  const SeedPool seeds{.seed = 2, .count = 3};
  CHECK(apply(seeds, std::vector<float>{1, 2}, {&all, 1}, pool).error().code == ErrorCode::invalid_argument);
  CHECK(apply(seeds, std::vector<float>{1, 2, HUGE_VALF}, {&all, 1}, pool).error().message.find("finite") !=
        std::string::npos);
  CHECK(apply({.seed = 1, .count = 0}, {}, {&all, 1}, pool).error().code == ErrorCode::invalid_argument);
  CHECK(values == std::vector<float>(10, 1.0F));
  TrainConfig config = config_of(1);
  config.candidates = seeds;
  CHECK(config.check().error().message.find("candidates") == 0);
  config.gradient.method = Method::zeroth_order;
  CHECK(config.check().error().message.find("plain sgd") != std::string::npos);
}

TEST_CASE("candidates along which losses changed more are likelier to be drawn") {
  const std::vector<std::vector<double>> seen{{1, -3}, {}, {5000}, {10}};
  const auto p = draw_probabilities(seen);
  // Sizes 2, 0, 1000 (cut), 10, scaled to [0, 1]; softmax.
  const double e[] = {std::exp(0.002), 1.0, std::exp(1.0), std::exp(0.01)};
  const double total = e[0] + e[1] + e[2] + e[3];
  for (std::size_t k = 0; k < 4; ++k) CHECK(p[k] == doctest::Approx(e[k] / total));
}

// Bad devices in small worlds: what each rule survives. The experiment with real text is `covey-sim poison`.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "aggregation/clip.h"
#include "aggregation/strategy.h"
#include "simulations/adversary.h"
#include "simulations/experiment.h"
#include "simulations/world.h"
#include "unit/simulations/tiny_world.h"

namespace covey::simulations {
namespace {

Experiment small_experiment() {
  const std::string path = tiny::World::shared().file("poisoning.yaml");
  tiny::write(path, R"(
name: poisoning
model: base
devices: 10
seed: 3
data: {format: households, lines: 30, partition: iid, held_out: 0.2, held_out_rows_max: 60}
rounds: 5
goal: 10
min: 10
deadline_s: 600
check_back_s: 5
adapter: {rank: 2, alpha: 4, targets: [all-linear]}
local: {steps: 6, batch: 8, seq: 48, learning_rate: 0.02}
privacy: {mode: robust, clip_norm: 200, value_bits: 24, weight_max: 1}
aggregation: {byzantine: 0.3, iterations: 10}
adversaries: {share: 0.2, attack: sign_flip, scale: 10}
)");
  auto experiment = load_experiment(path);
  REQUIRE_OK(experiment);
  return *std::move(experiment);
}

double final_loss(Experiment experiment, const std::string& rule, double share) {
  experiment.task.aggregation.rule = aggregation::strategy_of(rule).value();
  experiment.adversaries.share = share;
  const auto result = run_world(experiment, {});
  REQUIRE_OK(result);
  CHECK(*result->summary.get_uint("rounds_published") == 5);
  const auto* loss = result->summary.find("final")->find("loss");
  REQUIRE(loss != nullptr);
  return loss->is_number() ? *loss->as_double() : INFINITY;
}

}  // namespace

TEST_CASE("with a fifth of the devices flipping signs tenfold robust rules stay within 5% of clean") {
  const Experiment experiment = small_experiment();
  for (const std::string& rule : aggregation::strategy_names()) {
    CAPTURE(rule);
    const double clean = final_loss(experiment, rule, 0);
    const double attacked = final_loss(experiment, rule, 0.2);
    std::printf("%-18s clean %.4f, attacked %.4f (%+.1f%%)\n", rule.c_str(), clean, attacked,
                100 * (attacked / clean - 1));
    if (rule != "mean") CHECK(attacked <= 1.05 * clean);  // this base learns too little for the mean to fail by as much
  }
}

TEST_CASE("a larger share of bad devices holds the smaller one, and zero holds none") {
  const auto few = draw_adversaries({0.2, Attack::sign_flip, 1}, 20, 5);
  const auto more = draw_adversaries({0.3, Attack::sign_flip, 1}, 20, 5);
  CHECK(std::ranges::count(few, true) == 4);
  CHECK(std::ranges::count(more, true) == 6);
  for (std::size_t i = 0; i < 20; ++i) CHECK((!few[i] || more[i]));
  CHECK(std::ranges::count(draw_adversaries({}, 20, 5), true) == 0);
}

TEST_CASE("each attack changes what it says, and what it wants can be measured") {
  const std::vector<train::TokenRow> rows = {{{1, 2, 3, 4}, {2, 3, 4, data::kNoTarget}}};
  auto flipped = rows;
  poison_rows(Attack::label_flip, flipped, 10);
  CHECK(flipped[0].targets == std::vector<std::int32_t>{7, 6, 5, data::kNoTarget});
  CHECK(flipped[0].ids == rows[0].ids);
  CHECK(attacked_rows(Attack::label_flip, rows, 10)[0].targets == flipped[0].targets);
  auto planted = rows;
  poison_rows(Attack::backdoor, planted, 10);
  CHECK(planted[0].ids == std::vector<std::int32_t>{1, 2, 9, 4});
  CHECK(planted[0].targets == std::vector<std::int32_t>{2, 3, 6, data::kNoTarget});
  CHECK(attacked_rows(Attack::backdoor, rows, 10)[0].targets ==
        std::vector<std::int32_t>{data::kNoTarget, data::kNoTarget, 6, data::kNoTarget});
  CHECK(attacked_rows(Attack::sign_flip, rows, 10).empty());

  std::vector<float> delta = {1, -2, 2};
  poison_delta({1, Attack::sign_flip, 10}, delta, 1);
  CHECK(delta == std::vector<float>{-10, 20, -20});
  std::vector<float> noise(1000, 0.1F);
  const double norm = aggregation::l2_norm(noise);
  poison_delta({1, Attack::scaled_noise, 10}, noise, 1);
  CHECK(aggregation::l2_norm(noise) == doctest::Approx(10 * norm).epsilon(0.1));
}

TEST_CASE("a private world repeats, noise included, and reports its guarantee in words") {
  Experiment experiment = small_experiment();
  experiment.adversaries.share = 0;
  experiment.task.rounds = 2;
  experiment.task.privacy.clip_norm = 10;
  experiment.task.privacy.value_bits = 16;
  experiment.task.privacy.dp.noise_multiplier = 0.01;
  experiment.task.privacy.dp.budget = {1e6, 1e-6};
  const auto one = run_world(experiment, {});
  REQUIRE_OK(one);
  const auto two = run_world(experiment, {});
  REQUIRE_OK(two);
  CHECK(one->adapter == two->adapter);
  CHECK(one->summary.get_string("privacy_claim")->find("not from the coordinator") != std::string::npos);
  experiment.task.privacy.dp = {};
  CHECK(run_world(experiment, {})->adapter != one->adapter);
}

}  // namespace covey::simulations

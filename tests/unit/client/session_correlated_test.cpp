// DP-FTRL on the device: what keeps its updates apart, against plans that say otherwise.
#include <cmath>
#include <set>

#include "client/session_rows.h"
#include "session_world.h"

using namespace covey;
using namespace covey::client;
using covey::test::SessionWorld;

namespace {
wire::RoundPlan correlated_plan(std::uint64_t round, std::uint32_t separation = 3, bool secure = false) {
  auto plan = secure ? test::secure_plan(round) : test::sample_plan(round);
  plan.weight_max = 1;
  plan.correlated = {wire::CorrelatedKind::tree, 4, separation, 0, 0, 0};
  return plan;
}
}  // namespace

TEST_CASE("under correlated noise a device keeps its updates apart by its own memory, also over a restart") {
  SessionWorld world;
  for (std::uint64_t round = 1; round <= 8; ++round) world.plans.push_back(correlated_plan(round));
  world.boot();
  for (int i = 0; i < 8; ++i) {
    world.run(5);
    world.boot();  // its memory is its store
  }
  world.run();
  std::set<std::uint64_t> sent;
  for (const auto& [round, contents] : world.contents) sent.insert(round);
  CHECK(sent == std::set<std::uint64_t>{1, 4, 7});
}

TEST_CASE("a device that agreed to correlated noise takes no plan that promises less, and more is fine") {
  using Change = void (*)(wire::RoundPlan&);
  const auto answer_to = [](Change change, std::uint64_t round = 9) {
    SessionWorld world;
    world.plans = {correlated_plan(1)};
    world.plans[0].correlated.participations_max = 5;
    world.boot();
    world.run();
    REQUIRE(world.contents.size() == 1);
    auto next = correlated_plan(round);
    next.correlated.participations_max = 5;
    change(next);
    world.plans.push_back(next);
    world.boot();
    world.run();
    CHECK((world.contents.size() == 2) == (world.last_refusal() == wire::RefusalReason::none));
    return world.last_refusal();
  };
  CHECK(answer_to([](auto&) {}) == wire::RefusalReason::none);
  CHECK(answer_to([](auto& p) { p.correlated.separation = 8; }) == wire::RefusalReason::none);
  CHECK(answer_to([](auto& p) { p.correlated.participations_max = 2; }) == wire::RefusalReason::none);
  CHECK(answer_to([](auto&) {}, 3) == wire::RefusalReason::policy);  // two rounds after the first
  CHECK(answer_to([](auto& p) { p.correlated.separation = 9; }) == wire::RefusalReason::policy);
  CHECK(answer_to([](auto& p) { p.correlated.participations_max = 1; }) == wire::RefusalReason::policy);
  CHECK(answer_to([](auto& p) { p.correlated.separation = 2; }) == wire::RefusalReason::mode);
  CHECK(answer_to([](auto& p) { p.correlated.multiplier = 3.9; }) == wire::RefusalReason::mode);
  CHECK(answer_to([](auto& p) { p.correlated.participations_max = 6; }) == wire::RefusalReason::mode);
  CHECK(answer_to([](auto& p) { p.correlated.participations_max = 0; }) == wire::RefusalReason::mode);
  CHECK(answer_to([](auto& p) { p.correlated = {}; }) == wire::RefusalReason::mode);
  CHECK(answer_to([](auto& p) {
          p.correlated.kind = wire::CorrelatedKind::blt;
          p.correlated.buffers = 2;
          p.correlated.fitted_rounds = 10;
        }) == wire::RefusalReason::mode);
}

TEST_CASE("in secure mode a device counts the round from its mask on, and not one that ended before") {
  for (const bool masks : {false, true}) {
    CAPTURE(masks);
    SessionWorld world;
    world.plans = {correlated_plan(1, 3, true)};
    world.boot();
    REQUIRE(world.count<wire::SecureAdvertise>() == 1);
    if (masks) {
      Ledger after;
      after.last_round = 1;
      after.correlated = {world.plans[0].correlated, 1, 1};
      REQUIRE_OK(world.store.put(kSessionTable, ledger_key(), wire::encode(after)));
    }
    world.plans.push_back(correlated_plan(2, 3, true));
    world.boot();
    world.run();
    CHECK((world.last_refusal() == wire::RefusalReason::policy) == masks);
  }
}

TEST_CASE("an owner's bounds hold for correlated noise: separation, epsilon, and whose noise counts") {
  const auto answer_to = [](auto change) {
    SessionWorld world;
    world.plans = {correlated_plan(20)};
    change(world.config.policy);
    world.boot();
    return world.last_refusal();
  };
  CHECK(answer_to([](auto&) {}) == wire::RefusalReason::none);
  CHECK(answer_to([](auto& p) { p.separation_min = 4; }) == wire::RefusalReason::mode);
  CHECK(answer_to([](auto& p) { p.epsilon_max = 100; }) == wire::RefusalReason::mode);  // the coordinator's noise
  CHECK(answer_to([](auto& p) { p.epsilon_max = 100, p.coordinator_noise = true; }) == wire::RefusalReason::none);
  CHECK(answer_to([](auto& p) { p.epsilon_max = 5, p.coordinator_noise = true; }) == wire::RefusalReason::budget);
}

TEST_CASE("plans whose correlated noise cannot be are refused as bad") {
  using Change = void (*)(wire::RoundPlan&);
  const std::vector<Change> bad = {
      [](wire::RoundPlan& p) { p.correlated.multiplier = std::nan(""); },
      [](wire::RoundPlan& p) { p.correlated.separation = 0; },
      [](wire::RoundPlan& p) { p.correlated.kind = wire::CorrelatedKind::blt; },
      [](wire::RoundPlan& p) { p.weight_max = 2; },
      [](wire::RoundPlan& p) { p.rotate = true; },
      [](wire::RoundPlan& p) { p.round = RoundId{std::uint64_t{1} << 40}; },
      [](wire::RoundPlan& p) {
        p.noise = {wire::NoiseKind::skellam, 1};
      },
  };
  for (std::size_t i = 0; i < bad.size(); ++i) {
    CAPTURE(i);
    auto plan = correlated_plan(1);
    bad[i](plan);
    CHECK(check_plan(plan, test::session_config().policy).reason == wire::RefusalReason::bad_plan);
  }
}

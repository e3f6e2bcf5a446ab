// Top-k with error feedback on the device: what an update leaves out is carried on, and only once the update counts.
#include <algorithm>
#include <cmath>

#include "aggregation/update.h"
#include "client/session_rows.h"
#include "session_world.h"

using namespace covey;
using namespace covey::client;
using covey::test::SessionWorld;

namespace {

wire::RoundPlan sparse_plan(std::uint64_t round) {
  auto plan = test::sample_plan(round);
  plan.kept = 4;
  plan.value_bits = 20;
  return plan;
}

std::vector<double> sent_in(SessionWorld& world, std::uint64_t round) {
  const auto plan = sparse_plan(round);
  const auto update = wire::decode<wire::ClearUpdate>(world.uploads.at(round));
  REQUIRE_OK(update);
  const auto spec = aggregation::UpdateSpec::of(plan, 32);
  const auto q = aggregation::open_update(spec, *update);
  REQUIRE_OK(q);
  std::vector<double> out;
  for (const auto value : *q) out.push_back(value / spec.scale());
  return out;
}

std::vector<float> residual_in(SessionWorld& world, const Bytes& key) {
  const auto row = world.store.get(kSessionTable, key);
  REQUIRE_OK(row);
  if (!*row) return {};
  return wire::decode<ResidualRow>(**row)->values;
}

}  // namespace

TEST_CASE("what sparse updates leave out is carried on by the device, also over restarts: nothing is lost") {
  SessionWorld world;
  std::vector<double> sent(32);
  for (std::uint64_t round = 1; round <= 5; ++round) {
    world.plans.push_back(sparse_plan(round));
    world.boot();
    world.run();
    REQUIRE(world.uploads.contains(round));
    const auto update = sent_in(world, round);
    CHECK(std::ranges::count_if(update, [](double value) { return value != 0; }) == 4);
    for (std::size_t i = 0; i < 32; ++i) sent[i] += update[i];
  }
  const auto residual = residual_in(world, residual_key());
  REQUIRE(residual.size() == 32);
  const auto delta = world.trained(RoundId{1}).outcome.delta;  // the same in every round
  for (std::size_t i = 0; i < 32; ++i) {
    CHECK(sent[i] + double{residual[i]} == doctest::Approx(5 * double{delta[i]}).epsilon(1e-4));
  }
  CHECK(residual_in(world, residual_next_key()).empty());
}

TEST_CASE("an update that came too late has sent nothing: the residual stays as it was") {
  SessionWorld world;
  world.plans = {sparse_plan(1)};
  world.boot();
  world.run();
  const auto before = residual_in(world, residual_key());
  REQUIRE_FALSE(before.empty());
  world.plans.push_back(sparse_plan(2));
  world.trainer_answers = false;
  world.boot();
  REQUIRE(world.session->phase() == SessionPhase::training);
  world.connected = false;  // nobody hears of the upload
  world.give(world.trained(RoundId{2}));
  CHECK_FALSE(residual_in(world, residual_next_key()).empty());
  CHECK(residual_in(world, residual_key()) == before);
  world.connecting_fails = true;
  world.boot();  // a new process goes on with it
  CHECK_FALSE(residual_in(world, residual_next_key()).empty());
  world.connecting_fails = false;
  world.now += 10'000'000;  // long after the deadline
  world.boot();
  CHECK(residual_in(world, residual_next_key()).empty());
  CHECK(residual_in(world, residual_key()) == before);
}

TEST_CASE("forgetting the examples forgets the residual that they made") {
  SessionWorld world;
  world.plans = {sparse_plan(1)};
  world.boot();
  world.run();
  REQUIRE_FALSE(residual_in(world, residual_key()).empty());
  world.give(Forgotten{});
  CHECK(residual_in(world, residual_key()).empty());
}

TEST_CASE("plans of sparse updates that cannot be are refused as bad") {
  using Change = void (*)(wire::RoundPlan&);
  const std::vector<Change> bad = {
      [](wire::RoundPlan& p) { p.kept = 33; },
      [](wire::RoundPlan& p) { p.rotate = true; },
      [](wire::RoundPlan& p) { p.mode = wire::PrivacyMode::secure; },
      [](wire::RoundPlan& p) { p.update_bytes_max = 12; },
  };
  const auto policy = test::session_config().policy;
  CHECK(check_plan(sparse_plan(1), policy).reason == wire::RefusalReason::none);
  for (std::size_t i = 0; i < bad.size(); ++i) {
    CAPTURE(i);
    auto plan = sparse_plan(1);
    bad[i](plan);
    CHECK(check_plan(plan, policy).reason == wire::RefusalReason::bad_plan);
  }
}

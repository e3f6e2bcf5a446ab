// Rules that keep single updates, in the round machine: durable as rows, restart-safe, erased at the end; the canary.
#include <algorithm>
#include <cmath>

#include "aggregation/strategy.h"
#include "coordinator/verify.h"
#include "core/base/rng.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"
#include "machine_world.h"
#include "tests/support/support.h"

namespace covey::coordinator {
namespace {
using namespace test_world;

TaskConfig task_with(aggregation::Strategy rule) {
  TaskConfig config = small_task();
  config.rounds = 2;
  config.goal_count = config.min_count = 5;
  config.aggregation.rule = rule;
  config.aggregation.byzantine = 0.2;
  return config;
}

std::size_t rows_in(World& world, const char* table) {
  std::size_t count = 0;
  REQUIRE_OK(world.store().scan(table, {}, [&](ByteSpan, ByteSpan) -> Status {
    ++count;
    return {};
  }));
  return count;
}

struct RobustEnd {
  std::vector<float> values;
  wire::Hash chain{};
  bool operator==(const RobustEnd&) const = default;
};

RobustEnd end_of(World& world) {
  REQUIRE(world.run());
  const auto values = world.machine().values();
  return {{values.begin(), values.end()}, world.machine().version().chain};
}
}  // namespace

TEST_CASE("every robust rule publishes its rounds, keeps no update behind, and the books verify") {
  std::set<wire::Hash> chains;
  for (const std::string& name : aggregation::strategy_names()) {
    CAPTURE(name);
    World world(task_with(aggregation::strategy_of(name).value()), fleet(5));
    chains.insert(end_of(world).chain);
    CHECK(world.machine().published() == 2);
    CHECK(rows_in(world, "updates") == 0);
    CHECK(rows_in(world, "sums") == 0);
    const auto checks = verify_store(world.store(), nullptr);
    REQUIRE_OK(checks);
    for (const Check& check : *checks) CHECK_MESSAGE(check.problem.empty(), check.name << ": " << check.problem);
  }
  CHECK(chains.size() == aggregation::strategy_names().size());  // no rule is another one in disguise
}

TEST_CASE("killed between any two effects, a round of single updates ends with the same version, bit for bit") {
  for (const std::uint32_t group : {1U, 3U}) {
    TaskConfig config = task_with(aggregation::Strategy::multi_krum);
    config.group_commit_updates = group;
    World undisturbed(config, fleet(5));
    const RobustEnd wanted = end_of(undisturbed);
    const std::uint64_t effects = undisturbed.effects_executed();
    REQUIRE(effects > 50);
    bool kept_single_updates = false;
    for (std::uint64_t at = 1; at <= effects; ++at) {
      CAPTURE(group);
      CAPTURE(at);
      World world(config, fleet(5));
      world.crash_after_effects(world.effects_executed() + at);
      world.run(world.now + 120);
      kept_single_updates = kept_single_updates || rows_in(world, "updates") > 0;
      CHECK(end_of(world) == wanted);
      CHECK(rows_in(world, "updates") == 0);
    }
    CHECK(kept_single_updates);  // else the restarts above restored nothing
  }
}

TEST_CASE("the order in which updates arrive does not change a bit of a robust rule's version") {
  const TaskConfig config = task_with(aggregation::Strategy::geometric_median);
  World in_order(config, fleet(5));
  const RobustEnd wanted = end_of(in_order);
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    World world(config, fleet(5));
    for (auto& device : world.devices) device.train_ms = static_cast<std::int64_t>(rng.below(300));
    CHECK(end_of(world) == wanted);
  }
}

TEST_CASE("a missing update row is noticed at the restart") {
  TaskConfig config = task_with(aggregation::Strategy::median);
  config.group_commit_updates = 1;
  World world(config, fleet(5));
  world.run(150);  // in round 1, with updates acknowledged
  REQUIRE(world.machine().phase() == Phase::collecting);
  REQUIRE(rows_in(world, "updates") > 0);
  Bytes first;
  REQUIRE_OK(world.store().scan("updates", {}, [&](ByteSpan key, ByteSpan) -> Status {
    if (first.empty()) first.assign(key.begin(), key.end());
    return {};
  }));
  REQUIRE_OK(world.store().erase("updates", first));
  auto machine = RoundMachine::create(config);
  REQUIRE_OK(machine);
  const Status restored = machine->restore(world.store());
  REQUIRE_FALSE(restored.ok());
  CHECK(restored.error().code == ErrorCode::corrupt_data);
}

TEST_CASE("a task whose rule cannot hold its updates in memory, or has too few, is refused") {
  TaskConfig config = task_with(aggregation::Strategy::krum);
  CHECK(config.check().ok());
  config.rule_memory_bytes_max = 100;
  CHECK(config.check().error().message.find("memory_mib_max") != std::string::npos);
  config = task_with(aggregation::Strategy::krum);
  config.min_count = 4;
  config.aggregation.byzantine = 0.25;
  CHECK(config.check().error().message.find("raise `min`") != std::string::npos);
}

TEST_CASE(
    "a version whose held-out loss grew over the factor is rolled back, and the next round starts from the last") {
  TaskConfig config = task_with(aggregation::Strategy::median);
  config.loss_growth_max = 1.2;
  config.rounds = 1;
  World world(config, {});
  world.scripted = false;
  world.step(Evaluated{ModelVersion{0}, 2.0, {}, 1});
  const std::vector<float> before(world.machine().values().begin(), world.machine().values().end());
  for (const double loss : {2.5, static_cast<double>(NAN), 2.3}) {
    world.now = world.timers.at(TimerId::next_round);
    world.step(TimerFired{TimerId::next_round});
    REQUIRE(world.machine().phase() == Phase::collecting);
    for (int device = 1; device <= 5; ++device) {
      wire::CheckIn check_in;
      check_in.capabilities.weakest_mode = wire::PrivacyMode::robust;
      world.deliver(device, check_in);
      world.step(TimerFired{TimerId::group_commit});
      const Bytes update = update_of(device, world.machine().round_row().plan);
      wire::SubmitBegin begin;
      begin.round = world.machine().round();
      begin.content = wire::content_hash(update);
      begin.bytes = update.size();
      world.deliver(device, begin);
      world.deliver(device, wire::SubmitChunk{begin.round, 0, update});
    }
    REQUIRE(world.machine().phase() == Phase::evaluating);
    world.step(Evaluated{ModelVersion{1}, loss, {}, 1});
    const bool publishes = loss == 2.3;
    CHECK(world.ended.back().published == publishes);
    CHECK(std::ranges::equal(world.machine().values(), before) == !publishes);
    if (!publishes) CHECK(world.ended.back().reason.starts_with("canary: held-out loss went from 2 to "));
    CHECK(rows_in(world, "updates") == 0);
  }
  CHECK(world.machine().published() == 1);
}

}  // namespace covey::coordinator

// Central differential privacy in the round machine: charged once, before the noise is used; the same noise after a
// restart; no seed left behind; the run stops before the budget is passed.
#include <algorithm>

#include "coordinator/privacy_report.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"
#include "machine_world.h"
#include "tests/support/support.h"

namespace covey::coordinator {
namespace {
using namespace test_world;

std::vector<ScriptedDevice> equal_fleet() {
  std::vector<ScriptedDevice> out;
  for (int i = 1; i <= 4; ++i) {
    ScriptedDevice& device = out.emplace_back();
    device.number = i;
    device.train_ms = 50 * i;
  }
  return out;
}

TaskConfig private_task() {
  TaskConfig config = small_task();
  config.privacy.weight_max = 1;
  config.privacy.dp.noise_multiplier = 1;
  config.privacy.dp.adaptive_clip = true;
  config.privacy.dp.budget = {1e4, 1e-6};
  return config;
}

PrivacyReport report_of(World& world, const TaskConfig& config) {
  const auto report = read_privacy_report(config, world.store());
  REQUIRE_OK(report);
  REQUIRE(report->has_value());
  return **report;
}

Bytes seed_in(World& world) {
  const auto row = world.store().get("privacy", store::key_of("state"));
  REQUIRE_OK(row);
  if (!*row) return {};
  return wire::decode<PrivacyRow>(**row)->seed;
}

struct PrivateEnd {
  std::vector<float> values;
  wire::Hash chain{};
  double clip_norm = 0;
  bool operator==(const PrivateEnd&) const = default;
};

PrivateEnd end_of(World& world, const TaskConfig& config) {
  REQUIRE(world.run());
  const auto values = world.machine().values();
  return {{values.begin(), values.end()}, world.machine().version().chain, report_of(world, config).clip_norm};
}
}  // namespace

TEST_CASE("every round is charged once, its clip norm moves, and the noise changes the version") {
  const TaskConfig config = private_task();
  World world(config, equal_fleet());
  const PrivateEnd noised = end_of(world, config);
  const PrivacyReport report = report_of(world, config);
  CHECK(report.rounds_charged == 3);
  CHECK(report.epsilon > 0);
  CHECK(report.clip_norm != config.privacy.clip_norm);
  CHECK(report.words().find("not from the coordinator") != std::string::npos);
  CHECK(seed_in(world).empty());
  const auto plan = wire::decode<wire::RoundPlan>(world.machine().round_row().plan);
  REQUIRE_OK(plan);
  CHECK(plan->clip_norm != config.privacy.clip_norm);  // round 3 runs with what rounds 1 and 2 made of it

  TaskConfig plain = config;
  plain.privacy.dp = {};
  World other(plain, equal_fleet());
  REQUIRE(other.run());
  CHECK(other.machine().version().chain != noised.chain);
  CHECK_FALSE(read_privacy_report(plain, other.store())->has_value());
}

TEST_CASE("killed between any two effects, a private task ends with the same version and has paid once a round") {
  TaskConfig config = private_task();
  config.rounds = 2;
  World undisturbed(config, equal_fleet());
  const PrivateEnd wanted = end_of(undisturbed, config);
  const std::uint64_t effects = undisturbed.effects_executed();
  bool seed_was_stored = false;
  for (std::uint64_t at = 1; at <= effects; ++at) {
    CAPTURE(at);
    World world(config, equal_fleet());
    world.crash_after_effects(world.effects_executed() + at);
    world.run(world.now);
    seed_was_stored = seed_was_stored || !seed_in(world).empty();
    CHECK(end_of(world, config) == wanted);
    CHECK(report_of(world, config).rounds_charged == 2);
    CHECK(seed_in(world).empty());
  }
}

TEST_CASE("the charge and the seed are in the commit that comes before the noised version is evaluated") {
  const TaskConfig config = private_task();
  World world(config, {});
  world.scripted = false;
  world.step(Evaluated{ModelVersion{0}, 1.0, {}, 1});
  world.now = world.timers.at(TimerId::next_round);
  world.step(TimerFired{TimerId::next_round});
  for (int device = 1; device <= 4; ++device) {
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
    world.deliver(device, wire::SubmitChunk{world.machine().round(), 0, update});
  }
  REQUIRE(world.machine().phase() == Phase::evaluating);
  CHECK(seed_in(world).empty());  // nothing was paid, so nothing may have been noised
  const auto wrong = world.machine().step(NoiseDrawn{RoundId{9}, Bytes(32, 1)}, world.now);
  CHECK(wrong.empty());
  const auto effects = world.machine().step(NoiseDrawn{RoundId{1}, Bytes(32, 1)}, world.now);
  REQUIRE(effects.size() >= 2);
  const auto* persist = std::get_if<Persist>(&effects[0]);
  REQUIRE(persist != nullptr);
  CHECK(std::ranges::any_of(persist->writes, [](const store::Write& write) { return write.table == "privacy"; }));
  CHECK(std::holds_alternative<Evaluate>(effects[1]));
  CHECK(world.machine()
            .step(NoiseDrawn{RoundId{1}, Bytes(32, 2)}, world.now)
            .empty());  // a second answer changes nothing
}

TEST_CASE("the run stops before epsilon_max is passed, and stays stopped after a restart") {
  TaskConfig config = private_task();
  config.privacy.dp.adaptive_clip = false;
  config.rounds = 50;
  config.privacy.dp.budget.epsilon_max = 12;  // at multiplier 1 a round costs about 5, two 7.6, four 11.6
  World world(config, equal_fleet());
  REQUIRE(world.run());
  const PrivacyReport report = report_of(world, config);
  CHECK(world.machine().phase() == Phase::finished);
  CHECK(world.machine().published() < 50);
  CHECK(world.machine().published() == report.rounds_charged);
  CHECK(report.rounds_charged > 1);
  CHECK(report.epsilon <= 12);
  world.restart();
  CHECK(world.machine().phase() == Phase::finished);
}

TEST_CASE("a private task needs equal weights, the plain mean and a budget") {
  CHECK(private_task().check().ok());
  TaskConfig config = private_task();
  config.privacy.mode = wire::PrivacyMode::secure;
  CHECK_FALSE(config.check().ok());  // masked words have no norm that could be checked
  config = private_task();
  config.privacy.weight_max = 4;
  CHECK(config.check().error().message.find("weight_max") != std::string::npos);
  config = private_task();
  config.aggregation.rule = aggregation::Strategy::median;
  CHECK(config.check().error().message.find("rule: mean") != std::string::npos);
  config = private_task();
  config.privacy.dp.budget.epsilon_max = 0;
  CHECK(config.check().error().message.find("epsilon_max") != std::string::npos);
}

}  // namespace covey::coordinator

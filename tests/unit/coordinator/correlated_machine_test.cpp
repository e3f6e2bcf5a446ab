// DP-FTRL in the round machine: one seed for the whole task, durable before its noise is used; aborted rounds count;
// the mechanism may not change under way; devices are not called too soon, and the run stops before its budget.
#include <algorithm>
#include <cmath>

#include "aggregation/dp_correlated.h"
#include "aggregation/dp_gaussian.h"
#include "coordinator/privacy_report.h"
#include "core/wire/codec.h"
#include "machine_world.h"
#include "tests/support/support.h"

namespace covey::coordinator {
namespace {
using namespace test_world;

constexpr wire::CorrelatedKind kCorrelatedKinds[] = {wire::CorrelatedKind::tree, wire::CorrelatedKind::blt};

TaskConfig correlated_task(wire::CorrelatedKind kind, std::uint32_t separation = 3) {
  TaskConfig config = small_task();
  config.rounds = 4;
  config.goal_count = config.min_count = 2;
  config.server_optimizer = {};
  config.privacy.weight_max = 1;
  config.privacy.clip_norm = 1;
  config.privacy.dp.budget = {1e4, 1e-6};
  config.privacy.correlated = {kind, 2, separation, 0, 0, 0};
  if (kind == wire::CorrelatedKind::blt) {
    config.privacy.correlated.buffers = 3;
    config.privacy.correlated.fitted_rounds = 4;
  }
  return config;
}

std::vector<ScriptedDevice> six_devices() {
  std::vector<ScriptedDevice> out = fleet(6);
  for (ScriptedDevice& device : out) device.weight = 1;
  return out;
}

PrivacyReport correlated_report(World& world, const TaskConfig& config) {
  const auto report = read_privacy_report(config, world.store());
  REQUIRE_OK(report);
  REQUIRE(report->has_value());
  return **report;
}

PrivacyRow row_in(World& world) {
  const auto row = world.store().get("privacy", store::key_of("state"));
  REQUIRE_OK(row);
  REQUIRE(row->has_value());
  const auto decoded = wire::decode<PrivacyRow>(**row);
  REQUIRE_OK(decoded);
  return *decoded;
}

std::vector<float> values_of(World& world) {
  const auto values = world.machine().values();
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("a task under correlated noise calls no device too soon, and pays what its separation costs") {
  for (const auto kind : kCorrelatedKinds) {
    const TaskConfig config = correlated_task(kind);
    World world(config, six_devices());
    REQUIRE(world.run());
    CHECK(world.machine().published() == 4);
    std::map<DeviceId, std::vector<std::uint64_t>> rounds_of;
    REQUIRE_OK(world.store().scan("receipts", {}, [&](ByteSpan key, ByteSpan) -> Status {
      COVEY_ASSIGN(const DeviceId device, store::device_in_key(key, 8));
      rounds_of[device].push_back(key[7]);
      return {};
    }));
    std::size_t sent = 0;
    for (const auto& [device, rounds] : rounds_of) {
      sent += rounds.size();
      for (std::size_t i = 1; i < rounds.size(); ++i) CHECK(rounds[i] - rounds[i - 1] >= 3);
    }
    CHECK(sent == 8);
    const PrivacyReport report = correlated_report(world, config);
    CHECK(report.rounds_charged == 4);
    const double epsilon =
        aggregation::dp::zcdp_epsilon(aggregation::dp::correlated_rho(config.privacy.correlated, 4), 1e-6);
    CHECK(report.epsilon == doctest::Approx(epsilon).epsilon(0.02));
    const std::string words = report.words();
    for (const char* said : {"DP-FTRL", "separation 3 rounds", "all updates of one device", "not from the coordinator",
                             "by its own memory"}) {
      CAPTURE(said);
      CHECK(words.find(said) != std::string::npos);
    }
  }
}

TEST_CASE("killed between any two effects, a task under correlated noise ends with the same noise, paid once a round") {
  for (const auto kind : kCorrelatedKinds) {
    TaskConfig config = correlated_task(kind, 1);
    config.rounds = 3;
    World undisturbed(config, six_devices());
    REQUIRE(undisturbed.run());
    const auto wanted = undisturbed.machine().version().chain;
    const double epsilon = correlated_report(undisturbed, config).epsilon;
    const std::uint64_t effects = undisturbed.effects_executed();
    for (std::uint64_t at = 1; at <= effects; ++at) {
      CAPTURE(at);
      World world(config, six_devices());
      world.crash_after_effects(world.effects_executed() + at);
      REQUIRE(world.run());
      const PrivacyRow row = row_in(world);
      CHECK(row.task_seed == row_in(undisturbed).task_seed);
      CHECK(world.machine().published() == 3);
      CHECK(correlated_report(world, config).rounds_charged == 3);
      CHECK(correlated_report(world, config).epsilon == epsilon);
      // The seed is the same; which two devices were first may not be.
      if (world.ended.size() == undisturbed.ended.size()) CHECK(world.machine().version().chain == wanted);
    }
  }
}

TEST_CASE("what lies on a version is the noise of its rounds: the sums without it are whole updates again") {
  for (const auto kind : kCorrelatedKinds) {
    TaskConfig config = correlated_task(kind);
    config.privacy.correlated.multiplier = 20;
    World world(config, six_devices());
    REQUIRE(world.run());
    const PrivacyRow row = row_in(world);
    const auto plan = wire::decode<wire::RoundPlan>(world.machine().round_row().plan);
    REQUIRE_OK(plan);
    const auto spec = aggregation::UpdateSpec::of(*plan, 16);
    aggregation::dp::CorrelatedNoise noise(config.privacy.correlated, row.task_seed, spec);
    // Plain averaging with step 1: the version is the start, all sums and the noise of all rounds.
    const auto all = noise.between(0, world.machine().round().value);
    double with = 0;
    double without = 0;
    for (std::size_t i = 0; i < 16; ++i) {
      const double moved = double{values_of(world)[i]} - double{config.initial[i]};
      const double noised = static_cast<double>(all[i]) / (spec.scale() * config.goal_count);
      with += moved * moved;
      without += (moved - noised) * (moved - noised);
    }
    CHECK(std::sqrt(without) < 4.1);  // four means of vectors of length 1
    CHECK(std::sqrt(with) > 5 * std::sqrt(without));
  }
}

TEST_CASE("rounds that are aborted count as rounds of the mechanism") {
  TaskConfig config = correlated_task(wire::CorrelatedKind::tree);
  config.rounds = 2;
  auto devices = six_devices();
  for (ScriptedDevice& device : devices) device.first_check_in_ms = 25'000;  // two rounds of 10 s find nobody
  World world(config, devices);
  REQUIRE(world.run());
  CHECK(world.machine().published() == 2);
  const std::uint64_t last = world.machine().round().value;
  CHECK(last > 3);
  const double epsilon =
      aggregation::dp::zcdp_epsilon(aggregation::dp::correlated_rho(config.privacy.correlated, last), 1e-6);
  CHECK(correlated_report(world, config).epsilon == doctest::Approx(epsilon).epsilon(0.02));
  CHECK(row_in(world).charged.value == last);
  CHECK(row_in(world).charged_before.value == last - 1);
}

TEST_CASE("a task under correlated noise stops before epsilon_max is passed, and stays stopped after a restart") {
  for (const auto kind : kCorrelatedKinds) {
    TaskConfig config = correlated_task(kind, 1);
    config.rounds = 60;
    config.privacy.dp.budget.epsilon_max = 20;
    if (kind == wire::CorrelatedKind::blt) config.privacy.correlated.fitted_rounds = 60;
    World world(config, six_devices());
    REQUIRE(world.run());
    const PrivacyReport report = correlated_report(world, config);
    CHECK(world.machine().phase() == Phase::finished);
    CHECK(report.rounds_charged > 2);
    CHECK(report.rounds_charged < 60);
    CHECK(world.machine().published() == report.rounds_charged);
    CHECK(report.epsilon <= 20);
    const std::uint64_t next = world.machine().round().value + 1;
    CHECK(aggregation::dp::zcdp_epsilon(aggregation::dp::correlated_rho(config.privacy.correlated, next), 1e-6) > 19.5);
    world.restart();
    CHECK(world.machine().phase() == Phase::finished);
  }
}

TEST_CASE("separation, noise and scale may not change under a running task") {
  TaskConfig config = correlated_task(wire::CorrelatedKind::blt);
  World world(config, six_devices());
  world.run(50);
  using Change = void (*)(TaskConfig&);
  for (const Change change : std::initializer_list<Change>{
           [](TaskConfig& c) { c.privacy.correlated.separation = 2; },
           [](TaskConfig& c) { c.privacy.correlated.multiplier = 1; },
           [](TaskConfig& c) { c.privacy.correlated.participations_max = 3; },
           [](TaskConfig& c) { c.privacy.correlated.buffers = 4; }, [](TaskConfig& c) { c.privacy.clip_norm = 2; },
           [](TaskConfig& c) { c.privacy.value_bits = 12; }}) {
    TaskConfig other = config;
    change(other);
    auto machine = RoundMachine::create(other);
    REQUIRE_OK(machine);
    const Status restored = machine->restore(world.store());
    CHECK_FALSE(restored.ok());
    CHECK(restored.error().message.find("may not change") != std::string::npos);
  }
  TaskConfig without = config;
  without.privacy.correlated = {};
  auto machine = RoundMachine::create(without);
  REQUIRE_OK(machine);
  CHECK_FALSE(machine->restore(world.store()).ok());
  auto same = RoundMachine::create(config);
  REQUIRE_OK(same);
  CHECK(same->restore(world.store()).ok());
}

TEST_CASE("correlated noise needs equal weights, the plain mean, one scale, one mechanism and a budget") {
  const auto refused = [](auto change) {
    TaskConfig config = correlated_task(wire::CorrelatedKind::blt);
    change(config);
    const Status status = config.check();
    return status.ok() ? std::string() : status.error().message;
  };
  CHECK(refused([](auto&) {}).empty());
  CHECK(refused([](auto& c) {
          c.privacy.mode = wire::PrivacyMode::secure;
          c.privacy.survivors_min = 2;
          c.privacy.phase_ms = 1000;
        }).empty());
  CHECK(refused([](auto& c) { c.privacy.weight_max = 2; }).find("weight_max") != std::string::npos);
  CHECK(refused([](auto& c) { c.privacy.rotate = true; }).find("rotate") != std::string::npos);
  CHECK(refused([](auto& c) { c.privacy.dp.adaptive_clip = true; }).find("adaptive_clip") != std::string::npos);
  CHECK(refused([](auto& c) { c.privacy.dp.noise_multiplier = 1; }).find("one mechanism") != std::string::npos);
  CHECK(refused([](auto& c) { c.privacy.dp.budget.epsilon_max = 0; }).find("epsilon_max") != std::string::npos);
  CHECK(refused([](auto& c) { c.aggregation.rule = aggregation::Strategy::median; }).find("mean") != std::string::npos);
  CHECK(refused([](auto& c) { c.rounds_tried_max = 2'000'000; }).find("rounds_tried_max") != std::string::npos);
}

}  // namespace covey::coordinator

#include <algorithm>

#include "core/wire/codec.h"
#include "core/wire/signing.h"
#include "machine_world.h"
#include "tests/support/support.h"

namespace covey::coordinator {
namespace {
using namespace test_world;

/// A world without scripts, with round 1 collecting.
struct ManualWorld : World {
  explicit ManualWorld(TaskConfig config = small_task()) : World(std::move(config), {}) {
    scripted = false;
    step(Evaluated{ModelVersion{0}, 1.0, {}, 1});
    now = timers.at(TimerId::next_round);
    step(TimerFired{TimerId::next_round});
    REQUIRE(machine().phase() == Phase::collecting);
  }
};

wire::CheckIn check_in() {
  wire::CheckIn message;
  message.capabilities.weakest_mode = wire::PrivacyMode::robust;
  return message;
}

/// Checks device `number` in and commits its invitation.
void invite(World& world, int number) {
  world.deliver(number, check_in());
  world.step(TimerFired{TimerId::group_commit});
}

void submit(World& world, int number, int variant = 0, std::uint32_t weight = 1) {
  const Bytes update = update_of(number, world.machine().round_row().plan, weight, variant);
  wire::SubmitBegin begin;
  begin.round = world.machine().round();
  begin.content = wire::content_hash(update);
  begin.bytes = update.size();
  world.deliver(number, begin);
  if (!world.sent.empty() && std::holds_alternative<wire::SubmitNext>(world.sent.back().second)) {
    world.deliver(number, wire::SubmitChunk{begin.round, 0, update});
  }
}

template <typename T>
std::vector<T> all_sent(const World& world) {
  std::vector<T> out;
  for (const auto& [device, message] : world.sent) {
    if (const auto* typed = std::get_if<T>(&message)) out.push_back(*typed);
  }
  return out;
}

std::size_t count_rows(World& world, const std::string& table) {
  std::size_t rows = 0;
  REQUIRE_OK(world.store().scan(table, {}, [&](ByteSpan, ByteSpan) -> Status {
    ++rows;
    return {};
  }));
  return rows;
}
}  // namespace

TEST_CASE("a task runs its rounds to the goal, and each version moves the adapter") {
  World world(small_task(), fleet(4));
  REQUIRE(world.run());
  REQUIRE(world.ended.size() == 4);  // the baseline and three rounds
  CHECK(world.ended[0].round == RoundId{0});
  for (std::size_t r = 1; r <= 3; ++r) {
    CHECK(world.ended[r].published);
    CHECK(world.ended[r].row.contributors == 4);
    CHECK(world.ended[r].row.weight == 1 + 2 + 3 + 4);
    CHECK(world.ended[r].row.train_loss_first == 2);
    CHECK(world.ended[r].row.metrics.loss.has_value());
  }
  CHECK(world.machine().version().version == ModelVersion{3});
  CHECK(world.machine().published() == 3);
  for (const auto& device : world.devices) CHECK(device.accepted == std::set<std::uint64_t>{1, 2, 3});
  CHECK(!std::ranges::equal(world.machine().values(), small_task().initial));
  CHECK(count_rows(world, "receipts") == 12);
  CHECK(count_rows(world, "sums") == 0);
}

TEST_CASE("the deadline closes a round that has the minimum") {
  auto devices = fleet(4);
  devices[0].silent = true;
  auto config = small_task();
  config.rounds = 1;
  World world(config, devices);
  REQUIRE(world.run());
  const RoundEnded& round = world.ended.back();
  CHECK(round.published);
  CHECK(round.row.contributors == 3);
  CHECK(round.row.ended_ms - round.row.started_ms == config.deadline_ms);
  CHECK(world.machine().registry().find(device_number(1))->failed == 1);
  CHECK(world.machine().registry().find(device_number(2))->failed == 0);
}

TEST_CASE("the deadline aborts a round below the minimum, and the next one begins from the same version") {
  auto devices = fleet(4);
  for (std::size_t i = 0; i < 3; ++i) devices[i].silent = true;
  auto config = small_task();
  config.rounds_tried_max = 2;
  World world(config, devices);
  REQUIRE(world.run());
  REQUIRE(world.ended.size() == 3);
  CHECK(!world.ended[1].published);
  CHECK(!world.ended[2].published);
  CHECK(world.ended[1].reason.find("fewer than the minimum of 2") != std::string::npos);
  CHECK(world.machine().version().version == ModelVersion{0});
  CHECK(std::ranges::equal(world.machine().values(), config.initial));
}

TEST_CASE("the same submit again gets the same receipt and is counted once") {
  ManualWorld world;
  for (int i = 1; i <= 4; ++i) invite(world, i);
  submit(world, 1);
  CHECK(all_sent<wire::Receipt>(world).empty());  // behind the commit
  submit(world, 1);
  CHECK(all_sent<wire::Receipt>(world).empty());
  world.step(TimerFired{TimerId::group_commit});
  REQUIRE(all_sent<wire::Receipt>(world).size() == 1);
  submit(world, 1);
  const auto receipts = all_sent<wire::Receipt>(world);
  REQUIRE(receipts.size() == 2);
  CHECK(receipts[1].status == wire::ReceiptStatus::accepted);
  CHECK(receipts[0].content == receipts[1].content);
  CHECK(world.machine().collected() == 1);
}

TEST_CASE("a different submit for the same round and device is refused and noted") {
  ManualWorld world;
  for (int i = 1; i <= 4; ++i) invite(world, i);
  submit(world, 1);
  world.step(TimerFired{TimerId::group_commit});
  submit(world, 1, 7);
  CHECK(all_sent<wire::Receipt>(world).back().status == wire::ReceiptStatus::conflicting);
  CHECK(world.machine().collected() == 1);
  REQUIRE(world.incidents.size() == 1);
  world.step(TimerFired{TimerId::group_commit});
  CHECK(count_rows(world, "incidents") == 1);
}

TEST_CASE("updates are committed and acknowledged in groups") {
  auto config = small_task();
  config.goal_count = 8;
  config.group_commit_updates = 3;
  ManualWorld world(config);
  for (int i = 1; i <= 8; ++i) invite(world, i);
  submit(world, 1);
  submit(world, 2);
  CHECK(world.commits_with_sum == 0);
  submit(world, 3);
  CHECK(world.commits_with_sum == 1);
  CHECK(all_sent<wire::Receipt>(world).size() == 3);
  submit(world, 4);
  CHECK(world.timers.at(TimerId::group_commit) == world.now + config.group_commit_ms);
  world.step(TimerFired{TimerId::group_commit});
  CHECK(world.commits_with_sum == 2);
  CHECK(all_sent<wire::Receipt>(world).size() == 4);
}

TEST_CASE("a device that comes after the round is told that it is late") {
  ManualWorld world;
  auto config = small_task();
  for (int i = 1; i <= 4; ++i) invite(world, i);
  const Bytes plan = world.machine().round_row().plan;
  submit(world, 1);
  submit(world, 2);
  world.now += config.deadline_ms;
  world.step(TimerFired{TimerId::round_deadline});
  REQUIRE(world.machine().phase() == Phase::evaluating);
  submit(world, 3);
  CHECK(all_sent<wire::Receipt>(world).back().status == wire::ReceiptStatus::late);
  CHECK(world.machine().collected() == 2);
  CHECK(world.machine().registry().find(device_number(3))->late == 1);
}

TEST_CASE("a device is booked as failed or as late in a round, never as both") {
  ManualWorld world;
  const auto config = small_task();
  for (int i = 1; i <= 4; ++i) invite(world, i);
  const Bytes plan = world.machine().round_row().plan;
  bool enough = false;
  SUBCASE("the round closes with its minimum") {
    enough = true;
  }
  SUBCASE("the round is aborted") {}
  submit(world, 1);
  if (enough) submit(world, 2);
  // Device 3 is in the middle of its upload, device 4 brings its update later, device 2 (where silent) never does.
  const Bytes update = update_of(3, plan);
  world.deliver(3,
                wire::SubmitBegin{RoundId{1}, wire::UpdateKind::clear, wire::content_hash(update), update.size(), {}});
  world.now += config.deadline_ms;
  world.step(TimerFired{TimerId::round_deadline});
  const auto booked = [&](int number) {
    const DeviceRow& row = *world.machine().registry().find(device_number(number));
    return std::pair(row.failed, row.late);
  };
  CHECK(booked(3) == std::pair(0U, 1U));
  CHECK(booked(4) == std::pair(1U, 0U));
  CHECK(booked(2) == (enough ? std::pair(0U, 0U) : std::pair(1U, 0U)));

  world.step(TimerFired{TimerId::group_commit});
  world.restart();  // what was booked is known to the next process
  world.step(Started{});
  const Bytes late = update_of(4, plan);
  const wire::SubmitBegin begin{RoundId{1}, wire::UpdateKind::clear, wire::content_hash(late), late.size(), {}};
  for (int times = 0; times < 2; ++times) {
    world.deliver(4, begin);
    CHECK(all_sent<wire::Receipt>(world).back().status == wire::ReceiptStatus::late);
    CHECK(booked(4) == std::pair(0U, 1U));
  }
  CHECK(booked(3) == std::pair(0U, 1U));
}

TEST_CASE("a refusal gives its place to another device") {
  auto config = small_task();
  config.goal_count = 2;
  ManualWorld world(config);
  invite(world, 1);
  invite(world, 2);
  world.deliver(3, check_in());
  CHECK(all_sent<wire::CheckBack>(world).back().reason == wire::WaitReason::not_selected);
  world.deliver(1, wire::TaskAnswer{RoundId{1}, false, wire::RefusalReason::memory});
  invite(world, 3);
  CHECK(all_sent<wire::TaskOffer>(world).size() == 3);
  world.deliver(1, check_in());
  CHECK(all_sent<wire::CheckBack>(world).back().reason == wire::WaitReason::not_selected);
  CHECK(world.machine().registry().find(device_number(1))->refused == 1);
}

TEST_CASE("more devices are invited than needed, and never more than that") {
  auto config = small_task();
  config.over_selection = 1.5;
  ManualWorld world(config);
  for (int i = 1; i <= 9; ++i) invite(world, i);
  CHECK(all_sent<wire::TaskOffer>(world).size() == 6);
  for (int i = 1; i <= 4; ++i) submit(world, i);
  CHECK(world.machine().phase() == Phase::evaluating);
  submit(world, 5);
  CHECK(all_sent<wire::Receipt>(world).back().status == wire::ReceiptStatus::late);
}

TEST_CASE("an invitation is a row before the device hears of it, with its reason") {
  ManualWorld world;
  world.deliver(1, check_in());
  CHECK(all_sent<wire::TaskOffer>(world).empty());
  world.step(TimerFired{TimerId::group_commit});
  REQUIRE(all_sent<wire::TaskOffer>(world).size() == 1);
  const auto row = world.store().get("cohort", store::key_of(RoundId{1}, device_number(1)));
  REQUIRE_OK(row);
  REQUIRE(row->has_value());
  const auto cohort = wire::decode<CohortRow>(**row);
  REQUIRE_OK(cohort);
  CHECK(cohort->state == CohortState::invited);
  CHECK(cohort->reason.find("uniform: rank 1 of 1") == 0);
}

TEST_CASE("a device whose policy wants a stronger mode is never invited") {
  ManualWorld world;
  wire::CheckIn message;  // weakest mode: secure
  world.deliver(1, message);
  CHECK(all_sent<wire::TaskOffer>(world).empty());
  CHECK(all_sent<wire::CheckBack>(world).back().reason == wire::WaitReason::not_selected);
}

TEST_CASE("updates that break the plan are refused, noted and counted as failures") {
  ManualWorld world;
  invite(world, 1);
  invite(world, 2);
  invite(world, 3);
  invite(world, 4);
  const Bytes plan = world.machine().round_row().plan;
  Bytes update = update_of(1, plan);

  SUBCASE("another hash than announced") {
    wire::SubmitBegin begin{RoundId{1}, wire::UpdateKind::clear, {}, update.size(), {}};
    world.deliver(1, begin);
    world.deliver(1, wire::SubmitChunk{RoundId{1}, 0, update});
  }
  SUBCASE("more bytes than the plan allows") {
    world.deliver(1, wire::SubmitBegin{RoundId{1}, wire::UpdateKind::clear, {}, 1 << 20, {}});
  }
  SUBCASE("a masked update in robust mode") {
    world.deliver(1, wire::SubmitBegin{RoundId{1}, wire::UpdateKind::masked, {}, update.size(), {}});
  }
  SUBCASE("a weight above the maximum") {
    auto decoded = wire::decode<wire::ClearUpdate>(update);
    REQUIRE_OK(decoded);
    decoded->weight = 17;
    update = wire::encode(*decoded);
    wire::SubmitBegin begin{RoundId{1}, wire::UpdateKind::clear, wire::content_hash(update), update.size(), {}};
    world.deliver(1, begin);
    world.deliver(1, wire::SubmitChunk{RoundId{1}, 0, update});
  }
  SUBCASE("another plan") {
    auto decoded = wire::decode<wire::ClearUpdate>(update);
    REQUIRE_OK(decoded);
    decoded->plan[0] ^= 1;
    update = wire::encode(*decoded);
    wire::SubmitBegin begin{RoundId{1}, wire::UpdateKind::clear, wire::content_hash(update), update.size(), {}};
    world.deliver(1, begin);
    world.deliver(1, wire::SubmitChunk{RoundId{1}, 0, update});
  }
  SUBCASE("a chunk of the wrong length") {
    world.deliver(1, wire::SubmitBegin{RoundId{1}, wire::UpdateKind::clear, {}, update.size(), {}});
    update.push_back(0);
    world.deliver(1, wire::SubmitChunk{RoundId{1}, 0, update});
  }
  world.step(TimerFired{TimerId::group_commit});
  REQUIRE(all_sent<wire::Receipt>(world).size() == 1);
  CHECK(all_sent<wire::Receipt>(world).back().status == wire::ReceiptStatus::refused);
  CHECK(world.incidents.size() == 1);
  CHECK(world.machine().collected() == 0);
  CHECK(world.machine().registry().find(device_number(1))->failed == 1);
}

TEST_CASE("a device outside the cohort cannot contribute") {
  ManualWorld world;
  invite(world, 1);
  submit(world, 2);
  CHECK(all_sent<wire::Receipt>(world).back().status == wire::ReceiptStatus::refused);
  CHECK(world.machine().collected() == 0);
}

TEST_CASE("uploads in progress stay within their bound, and those of devices that left give way") {
  auto config = small_task();
  config.assembly_bytes_max = config.update_bytes_max() + 10;
  ManualWorld world(config);
  for (int i = 1; i <= 4; ++i) invite(world, i);
  const std::uint64_t bytes = config.update_bytes_max() - 50;
  world.deliver(1, wire::SubmitBegin{RoundId{1}, wire::UpdateKind::clear, {}, bytes, {}});
  world.deliver(2, wire::SubmitBegin{RoundId{1}, wire::UpdateKind::clear, {}, bytes, {}});
  CHECK(all_sent<wire::CheckBack>(world).back().reason == wire::WaitReason::busy);
  world.step(DeviceGone{device_number(1)});
  world.deliver(2, wire::SubmitBegin{RoundId{1}, wire::UpdateKind::clear, {}, bytes, {}});
  CHECK(std::holds_alternative<wire::SubmitNext>(world.sent.back().second));
}

TEST_CASE("a seeded task's versions are scalars, and what no sum of candidates can express is refused") {
  TaskConfig config = small_task();
  config.local.method = "zeroth-order";
  config.local.optimizer = "sgd";
  config.local.candidates = 16;  // as many as the scripted devices send
  config.initial.assign(16, 0);
  World world(config, fleet(4));
  REQUIRE(world.run());
  CHECK(world.machine().published() == 3);
  const auto plan = wire::decode<wire::RoundPlan>(world.machine().round_row().plan);
  REQUIRE_OK(plan);
  CHECK(plan->seeded.candidates == 16);
  CHECK(plan->adapter.bytes == 64);
  const auto refused = [&](auto change) {
    TaskConfig changed = config;
    change(changed);
    return changed.check().error().message;
  };
  CHECK(refused([](auto& c) { c.local.method = "backprop"; }).find("local.candidates") != std::string::npos);
  CHECK(refused([](auto& c) { c.local.optimizer = "adamw"; }).find("local.candidates") != std::string::npos);
  CHECK(refused([](auto& c) { c.local.stochastic_rounding = true; }).find("only backprop") != std::string::npos);
  CHECK(refused([](auto& c) { c.initial.resize(15); }).find("one scalar a candidate") != std::string::npos);
  TaskConfig dense = config;
  dense.local.candidates = 0;
  World other(dense, {});
  CHECK_FALSE(RoundMachine::create(config)->restore(other.store()).ok());  // its versions are something else
}

TEST_CASE("a paused task finishes its round, starts no other, and goes on when resumed") {
  ManualWorld world;
  for (int i = 1; i <= 4; ++i) invite(world, i);
  world.step(Pause{});
  for (int i = 1; i <= 4; ++i) submit(world, i);
  world.step(Evaluated{ModelVersion{1}, 1.0, {}, 1});
  CHECK(world.machine().phase() == Phase::idle);
  CHECK(!world.timers.contains(TimerId::next_round));
  world.deliver(1, check_in());
  CHECK(all_sent<wire::CheckBack>(world).back().reason == wire::WaitReason::paused);
  world.restart();
  CHECK(world.machine().paused());
  CHECK(!world.timers.contains(TimerId::next_round));
  world.step(Resume{});
  world.step(TimerFired{TimerId::next_round});
  CHECK(world.machine().phase() == Phase::collecting);
}

TEST_CASE("secure and grouped mode without a roster, and groups that cannot be, are refused in one line") {
  const auto refusal = [](const TaskConfig& config) {
    const auto machine = RoundMachine::create(config);
    REQUIRE(!machine.ok());
    return machine.error().message;
  };
  auto config = small_task();
  config.privacy.mode = wire::PrivacyMode::secure;
  config.privacy.survivors_min = 2;
  CHECK(refusal(config).find("roster") != std::string::npos);
  config.privacy.mode = wire::PrivacyMode::grouped;
  config.privacy.groups = 3;
  config.goal_count = 5;
  CHECK(refusal(config).find("for each of 3 groups") != std::string::npos);
  config.goal_count = 6;
  CHECK(refusal(config).find("roster") != std::string::npos);
  config.privacy.groups = 2;
  CHECK(refusal(config).find("privacy.groups: write 3") != std::string::npos);
  config.privacy.groups = 3;
  config.privacy.groups_min = 4;
  CHECK(refusal(config).find("privacy.groups_min") != std::string::npos);
  config.privacy.groups_min = 2;
  config.aggregation.rule = aggregation::Strategy::krum;  // two groups are fewer than 2 f + 3
  CHECK(refusal(config).find("krum") != std::string::npos);
}

}  // namespace covey::coordinator

#include <algorithm>

#include "core/base/rng.h"
#include "core/wire/codec.h"
#include "machine_world.h"
#include "tests/support/support.h"

namespace covey::coordinator {
namespace {
using namespace test_world;

struct WorldEnd {
  std::vector<float> values;
  wire::Hash chain{};
  std::uint64_t effects = 0;
};

WorldEnd run_world(World& world) {
  REQUIRE(world.run());
  const auto values = world.machine().values();
  return {{values.begin(), values.end()}, world.machine().version().chain, world.effects_executed()};
}

/// What `verify` asks of a store: contributors equal accepted receipts, each device once.
void check_books(World& world) {
  REQUIRE_OK(world.store().scan("contributors", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const auto list, wire::decode<ContributorsRow>(value));
    COVEY_ASSIGN(const std::uint64_t round, store::number_in_key(key));
    std::set<DeviceId> devices(list.devices.begin(), list.devices.end());
    CHECK(devices.size() == list.devices.size());
    for (const ScriptedDevice& device : world.devices) {
      if (device.accepted.contains(round)) CHECK(devices.contains(device_number(device.number)));
    }
    return {};
  }));
}
}  // namespace

TEST_CASE("killed between any two effects, the task ends with the same version, bit for bit") {
  for (const std::uint32_t group : {1U, 3U}) {
    TaskConfig config = small_task();
    config.rounds = 2;
    config.group_commit_updates = group;
    World undisturbed(config, fleet(4));
    const WorldEnd wanted = run_world(undisturbed);
    REQUIRE(wanted.effects > 50);
    for (std::uint64_t at = 1; at <= wanted.effects; ++at) {
      CAPTURE(group);
      CAPTURE(at);
      World world(config, fleet(4));
      world.crash_after_effects(world.effects_executed() + at);
      const WorldEnd got = run_world(world);
      CHECK(got.values == wanted.values);
      CHECK(got.chain == wanted.chain);
      CHECK(world.machine().published() == 2);
      check_books(world);
    }
  }
}

TEST_CASE("many crashes at random places change nothing either") {
  const TaskConfig config = small_task();
  World undisturbed(config, fleet(4));
  const WorldEnd wanted = run_world(undisturbed);
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    World world(config, fleet(4));
    bool done = false;
    for (int crash = 0; crash < 12 && !done; ++crash) {
      world.crash_after_effects(world.effects_executed() + 1 + rng.below(30));
      done = world.run(world.now + static_cast<std::int64_t>(rng.below(200)));
    }
    const WorldEnd got = run_world(world);
    CHECK(got.values == wanted.values);
    CHECK(got.chain == wanted.chain);
    check_books(world);
  }
}

TEST_CASE("the order in which updates arrive does not change a bit of the version") {
  TaskConfig config = small_task();
  World in_order(config, fleet(4));
  const WorldEnd wanted = run_world(in_order);
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    World world(config, fleet(4));
    for (auto& device : world.devices) device.train_ms = static_cast<std::int64_t>(rng.below(300));
    // Messages of one device keep their order; devices overtake each other.
    world.reorder = [&](auto& inbox) {
      const int device = inbox[rng.below(inbox.size())].first;
      const auto first = std::ranges::find_if(inbox, [&](const auto& entry) { return entry.first == device; });
      auto chosen = std::move(*first);
      inbox.erase(first);
      inbox.push_front(std::move(chosen));
    };
    const WorldEnd got = run_world(world);
    CHECK(got.values == wanted.values);
    CHECK(got.chain == wanted.chain);
  }
}

TEST_CASE("a store of another task is refused") {
  World world(small_task(), fleet(4));
  run_world(world);
  TaskConfig other = small_task();
  other.seed = 99;
  auto machine = RoundMachine::create(other);
  REQUIRE_OK(machine);
  const Status restored = machine->restore(world.store());
  REQUIRE(!restored.ok());
  CHECK(restored.error().message.find("another task") != std::string::npos);
}

}  // namespace covey::coordinator

// A device that waits for its next check-in leaves its disk and a few numbers: nothing that a world does may show it,
// and what is in memory is what takes part.
#include <algorithm>

#include "core/base/rng.h"
#include "simulations/virtual_device.h"
#include "simulations/world.h"
#include "simulations/world_stores.h"
#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;

namespace {

struct Seen {
  std::string lines;
  std::vector<float> adapter;
  formats::Json summary;
};

Seen run(const Experiment& experiment, bool keep_agents) {
  WorldObserver observer;
  observer.keep_agents = keep_agents;
  const auto result = run_world(experiment, observer);
  REQUIRE_OK(result);
  Seen out{"", result->adapter, result->summary};
  for (const auto& round : result->rounds) out.lines += round.dump() + "\n";
  return out;
}

void check_rests_do_not_show(const Experiment& experiment) {
  const auto kept = run(experiment, true);
  const auto rested = run(experiment, false);
  CHECK(rested.lines == kept.lines);
  CHECK(rested.adapter == kept.adapter);
  for (const auto* key : {"crashes", "contributions", "bytes_up", "bytes_down", "joules", "virtual_hours", "classes"}) {
    CAPTURE(key);
    CHECK(rested.summary.find(key)->dump() == kept.summary.find(key)->dump());
  }
}

Experiment experiment_of(const tiny::Choices& choices) {
  auto experiment = load_experiment(tiny::World::shared().experiment(choices));
  REQUIRE_OK(experiment);
  return *std::move(experiment);
}

}  // namespace

TEST_CASE("a world whose waiting devices end their agents is, byte for byte, the one whose devices keep them") {
  tiny::Choices choices;
  choices.rounds = 4;
  SUBCASE("with devices that die") {
    choices.dropout = 0.3;
    check_rests_do_not_show(experiment_of(choices));
  }
  SUBCASE("with updates that carry on what they left out") {
    choices.privacy = "mode: robust, top_k: 0.2";
    check_rests_do_not_show(experiment_of(choices));
  }
  SUBCASE("in secure mode, with devices that die and a count of what each has masked") {
    choices.privacy = "mode: secure, survivors_min: 3, phase_s: 20";
    choices.devices = 16;
    choices.dropout = 0.1;
    check_rests_do_not_show(experiment_of(choices));
  }
  SUBCASE("under DP-FTRL, where a device's own memory keeps its updates apart") {
    choices.weight_max = 1;
    choices.privacy = "mode: robust, dp: {mechanism: tree, noise_multiplier: 1, separation: 2, epsilon_max: 1000}";
    check_rests_do_not_show(experiment_of(choices));
  }
  SUBCASE("with rounds that are over before slow devices are") {
    choices.over_selection = 2;
    choices.goal = 3;
    auto experiment = experiment_of(choices);
    experiment.task.round_pause_ms = 0;
    check_rests_do_not_show(experiment);
  }
  SUBCASE("with hours in which devices may not train") {
    auto experiment = experiment_of(choices);
    experiment.availability.diurnal = true;
    experiment.task.min_count = 1;
    check_rests_do_not_show(experiment);
  }
}

TEST_CASE("agents and rows in memory are those of the devices that take part, however many others wait") {
  std::size_t largest = 0;
  const auto run_with = [&](int devices) {
    tiny::Choices choices;
    choices.devices = devices;
    choices.goal = 4;
    choices.over_selection = 1.5;  // 6 are invited
    auto experiment = experiment_of(choices);
    experiment.task.check_back_ms = 600'000;  // so that devices come one by one
    experiment.task.deadline_ms = 3'600'000;
    WorldObserver observer;
    observer.on_load = [&](const WorldLoad& load) { largest = std::max(largest, load.agents); };
    largest = 0;
    const auto result = run_world(experiment, observer);
    REQUIRE_OK(result);
    CHECK(*result->summary.get_uint("rounds_published") == 3);
    return *result->summary.find("measured");
  };
  for (const int devices : {12, 60, 240}) {
    CAPTURE(devices);
    const auto cost = run_with(devices);
    // Those invited, and one or two that ask for work meanwhile.
    CHECK(*cost.get_uint("agents_max") <= 10);
    CHECK(*cost.get_uint("row_buffers_max") <= 6);
    CHECK(largest <= 8);
    CHECK(*cost.get_uint("device_store_bytes") / static_cast<std::uint64_t>(devices) < 1024);
  }
}

TEST_CASE("a device's store holds what a store holds, but for the journal, which it counts") {
  DeviceStore small;
  store::MemoryStore plain;
  Rng rng(7);
  const auto commit = [&](const std::vector<store::Write>& writes) {
    REQUIRE_OK(small.commit(writes));
    REQUIRE_OK(plain.commit(writes));
  };
  const auto rows_in = [](store::Store& store, const char* table, ByteSpan prefix) {
    std::vector<std::pair<Bytes, Bytes>> out;
    REQUIRE_OK(store.scan(table, prefix, [&](ByteSpan key, ByteSpan value) -> Status {
      out.emplace_back(Bytes(key.begin(), key.end()), Bytes(value.begin(), value.end()));
      return {};
    }));
    return out;
  };
  for (int turn = 0; turn < 300; ++turn) {
    std::vector<store::Write> writes;
    for (std::uint64_t i = rng.below(4); i > 0; --i) {
      const Bytes key = {static_cast<std::uint8_t>(rng.below(5)), static_cast<std::uint8_t>(rng.below(3))};
      Bytes value(rng.below(40), static_cast<std::uint8_t>(turn));
      const bool erase = rng.below(4) == 0;
      writes.push_back({rng.below(2) == 0 ? "session" : "endpoint", key, erase ? std::nullopt : std::optional(value)});
      DeviceId device;
      device.key[31] = static_cast<std::uint8_t>(rng.below(20));
      writes.push_back({"roster", store::key_of(device), erase ? std::nullopt : std::optional(Bytes{1})});
    }
    commit(writes);
  }
  for (const auto* table : {"session", "endpoint", "roster", "never"}) {
    CAPTURE(table);
    CHECK(rows_in(small, table, {}) == rows_in(plain, table, {}));
    CHECK(rows_in(small, table, Bytes{3}) == rows_in(plain, table, Bytes{3}));
    for (const auto& [key, value] : rows_in(plain, table, {})) CHECK(*small.get(table, key) == value);
  }
  CHECK_FALSE(small.get("session", Bytes{9, 9})->has_value());
  REQUIRE_OK(small.put("journal", Bytes{1}, Bytes{1}));
  CHECK(small.journal_lines() == 1);
  CHECK_FALSE(small.get("journal", Bytes{1})->has_value());
  CHECK(small.commit(std::vector<store::Write>{{"session", Bytes{1}, Bytes{1}}, {"no table", Bytes{1}, Bytes{1}}})
            .error()
            .code == ErrorCode::invalid_argument);
}

TEST_CASE("devices at one epoch share a roster, and one that goes on to the next takes a copy") {
  const auto listed = [](std::uint8_t number) {
    DeviceId device;
    device.key[0] = number;
    return store::Write{"roster", store::key_of(device), Bytes{1}};
  };
  DeviceStore first;
  DeviceStore second;
  REQUIRE_OK(first.commit(std::vector{listed(1), listed(2)}));
  REQUIRE_OK(second.commit(std::vector{listed(1), listed(2)}));
  const auto both =
      std::make_shared<const std::set<wire::Key>>(std::set<wire::Key>{DeviceId{}.key, wire::Key{1}, wire::Key{2}});
  first.share_active(both);  // not its own: it has two
  const auto shared = std::make_shared<std::set<wire::Key>>(std::set<wire::Key>{wire::Key{1}, wire::Key{2}});
  first.share_active(shared);
  second.share_active(shared);
  REQUIRE_OK(first.commit(std::vector{listed(3)}));
  const auto count = [](DeviceStore& store) {
    int rows = 0;
    REQUIRE_OK(store.scan("roster", {}, [&](ByteSpan, ByteSpan) -> Status {
      ++rows;
      return {};
    }));
    return rows;
  };
  CHECK(count(first) == 3);
  CHECK(count(second) == 2);
  CHECK(shared->size() == 2);
}

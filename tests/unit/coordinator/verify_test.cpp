// What `verify` finds in the sum of a round in progress, and that checking a copy says the same as checking the store.
#include "coordinator/verify.h"

#include <filesystem>

#include "aggregation/running_sum.h"
#include "core/store/sqlite_store.h"
#include "machine_world.h"
#include "tests/support/support.h"

namespace covey::coordinator {
namespace {
using namespace test_world;

/// Round 1 collects; two devices of weight 3 each are in the sum.
World collecting() {
  std::vector<ScriptedDevice> devices(2);
  devices[0].number = 1;
  devices[1].number = 2;
  devices[0].weight = devices[1].weight = 3;
  return World(small_task(), devices);
}

std::string problems(store::Store& store) {
  const auto checks = verify_store(store, nullptr);
  REQUIRE_OK(checks);
  std::string out;
  for (const Check& check : *checks) {
    if (!check.problem.empty()) out += check.name + ": " + check.problem + "\n";
  }
  return out;
}

aggregation::RunningSum sum_in(World& world) {
  const auto plan = wire::decode<wire::RoundPlan>(world.machine().round_row().plan);
  REQUIRE_OK(plan);
  const auto stored = world.store().get("sums", store::key_of(RoundId{1}));
  REQUIRE_OK(stored);
  REQUIRE(stored->has_value());
  auto sum = aggregation::RunningSum::restore(aggregation::UpdateSpec::of(*plan, 16), **stored);
  REQUIRE_OK(sum);
  return *std::move(sum);
}
}  // namespace

TEST_CASE("verify compares a round's running sum with its contributors, their weights and its own bounds") {
  World world = collecting();
  CHECK_FALSE(world.run(5'000));
  REQUIRE(world.machine().phase() == Phase::collecting);
  const auto sum = sum_in(world);
  REQUIRE(sum.contributors() == 2);
  REQUIRE(sum.weight() == 6);
  CHECK(problems(world.store()) == "");
  const Bytes key = store::key_of(RoundId{1});

  SUBCASE("a sum of another number of contributors") {
    REQUIRE_OK(world.store().put("sums", key, aggregation::RunningSum::create(sum.spec())->serialize()));
    CHECK(problems(world.store()).find("counts 0 contributors, their list 2") != std::string::npos);
  }
  SUBCASE("a sum of another weight") {
    auto other = *aggregation::RunningSum::create(sum.spec());
    for (int number : {1, 2}) {
      const auto update = wire::decode<wire::ClearUpdate>(update_of(number, world.machine().round_row().plan, 2));
      REQUIRE_OK(update);
      REQUIRE_OK(other.add(*update));
    }
    REQUIRE_OK(world.store().put("sums", key, other.serialize()));
    CHECK(problems(world.store()).find("has weight 4, its contributors 6") != std::string::npos);
  }
  SUBCASE("a word that this weight cannot give") {
    Bytes bytes = sum.serialize();
    bytes[bytes.size() - 2] ^= 0x40;  // near the top of the last word
    REQUIRE_OK(world.store().put("sums", key, bytes));
    CHECK(problems(world.store()).find("running sum fits its contributors") != std::string::npos);
  }
  SUBCASE("a sum that is gone") {
    REQUIRE_OK(world.store().erase("sums", key));
    CHECK(problems(world.store()).find("the sum of round 1 is missing") != std::string::npos);
  }
  SUBCASE("a sum that outlived its round") {
    const Bytes bytes = sum.serialize();
    CHECK(world.run(1'000'000));
    CHECK(problems(world.store()) == "");
    REQUIRE_OK(world.store().put("sums", key, bytes));
    CHECK(problems(world.store()).find("the sum of round 1 outlived the round") != std::string::npos);
  }
}

TEST_CASE("verify holds each kept update against the receipt that acknowledged it") {
  std::vector<ScriptedDevice> devices(2);
  devices[0].number = 1;
  devices[1].number = 2;
  TaskConfig config = small_task();
  config.aggregation.rule = aggregation::Strategy::median;
  World world(config, devices);
  CHECK_FALSE(world.run(5'000));
  REQUIRE(world.machine().collected() == 2);
  CHECK(problems(world.store()) == "");
  const Bytes key = store::key_of(RoundId{1}, device_number(2));
  const auto kept = world.store().get("updates", key);
  REQUIRE_OK(kept);
  REQUIRE(kept->has_value());
  SUBCASE("another one in its place") {
    REQUIRE_OK(world.store().put("updates", key, update_of(2, world.machine().round_row().plan, 1, 7)));
    CHECK(problems(world.store()).find("is not the one acknowledged") != std::string::npos);
  }
  SUBCASE("one that is gone") {
    REQUIRE_OK(world.store().erase("updates", key));
    CHECK(problems(world.store()).find("keeps 1 updates and has acknowledged 2") != std::string::npos);
  }
  SUBCASE("one that outlived its round") {
    CHECK(world.run(1'000'000));
    CHECK(problems(world.store()) == "");
    REQUIRE_OK(world.store().put("updates", key, **kept));
    CHECK(problems(world.store()).find("updates of round 1 outlived the round") != std::string::npos);
  }
}

TEST_CASE("verify on a copy says what it says on the store, and leaves no file behind") {
  const test::TempDir dir;
  auto store = store::SqliteStore::open({dir.file("store.db"), ""});
  REQUIRE_OK(store);
  const auto same = [&] {
    const auto direct = verify_store(**store, nullptr);
    const auto copied = verify_copy(**store, dir.file("verify.db"), nullptr);
    REQUIRE_OK(direct);
    REQUIRE_OK(copied);
    REQUIRE(direct->size() == copied->size());
    bool good = true;
    for (std::size_t i = 0; i < direct->size(); ++i) {
      CHECK((*direct)[i].problem == (*copied)[i].problem);
      good = good && (*copied)[i].problem.empty();
    }
    return good;
  };
  CHECK(same());
  ContributorsRow row;
  row.devices = {device_number(1)};
  REQUIRE_OK((*store)->put("contributors", store::key_of(RoundId{1}), wire::encode(row)));
  CHECK_FALSE(same());
  // One that a killed process left is no obstacle.
  REQUIRE_OK((*store)->backup(dir.file("verify.db")));
  CHECK_FALSE(same());
  for (const auto& entry : std::filesystem::directory_iterator(dir.path())) {
    CHECK(entry.path().filename().string().find("verify") == std::string::npos);
  }
}

}  // namespace covey::coordinator

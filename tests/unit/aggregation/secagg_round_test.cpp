// Whole rounds of secure aggregation, and its rows. The statistics over many rounds are in tests/secure.
#include <algorithm>

#include "core/wire/codec.h"
#include "simulations/secagg_world.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;
using namespace covey::simulations;

namespace {

SecAggWorldOptions eight() {
  SecAggWorldOptions options;
  options.devices = 8;
  options.weight_max = 5;
  options.survivors_min = 4;
  return options;
}

std::vector<std::uint32_t> all_but(std::uint32_t n, std::vector<std::uint32_t> missing) {
  std::vector<std::uint32_t> out;
  for (std::uint32_t i = 0; i < n; ++i) {
    if (std::ranges::find(missing, i) == missing.end()) out.push_back(i);
  }
  return out;
}

}  // namespace

TEST_CASE("without dropouts the unmasked sum is the sum in the clear, bit for bit") {
  SecAggWorld world(eight());
  const auto sum = world.run();
  REQUIRE_OK(sum);
  CHECK(*sum == *world.clear_sum(all_but(8, {})));
  CHECK(world.server->phase() == SecAggServer::Phase::finished);
}

TEST_CASE("a device that drops out at any phase leaves the sum of the others exact") {
  for (const DropAt phase : {DropAt::advertise, DropAt::share, DropAt::mask, DropAt::agree, DropAt::unmask}) {
    auto options = eight();
    options.drops.assign(8, DropAt::never);
    options.drops[3] = phase;
    SecAggWorld world(options);
    const auto sum = world.run();
    REQUIRE_OK(sum);
    // From `agree` on its masked update is in.
    const bool counts = phase >= DropAt::agree;
    CHECK(*sum == *world.clear_sum(all_but(8, counts ? std::vector<std::uint32_t>{} : std::vector<std::uint32_t>{3})));
  }
}

TEST_CASE("dropouts at every phase of one sparse round leave the sum exact") {
  SecAggWorldOptions options;
  options.devices = 90;
  options.values = 5;
  options.survivors_min = 40;
  options.drops.assign(90, DropAt::never);
  for (int i = 0; i < 5; ++i) options.drops[static_cast<std::size_t>(10 * i)] = static_cast<DropAt>(i);
  SecAggWorld world(options);
  const auto sum = world.run();
  REQUIRE_OK(sum);
  CHECK_FALSE(world.server->params().complete);
  CHECK(*sum == *world.clear_sum(all_but(90, {0, 10, 20})));
}

TEST_CASE("below n_min at any phase the session ends and unmasks nothing") {
  for (const DropAt phase : {DropAt::advertise, DropAt::share, DropAt::mask}) {
    auto options = eight();
    options.survivors_min = 7;
    options.drops.assign(8, DropAt::never);
    options.drops[0] = options.drops[1] = phase;
    SecAggWorld world(options);
    const auto sum = world.run();
    CHECK_FALSE(sum.ok());
    CHECK(world.server->phase() == SecAggServer::Phase::dead);
    CHECK(world.server->reason() == wire::SecureReason::too_few_devices);
    for (const auto& device : world.devices) CHECK(device.client->phase() != SecAggClient::Phase::unmasked);
  }
}

TEST_CASE("below t answers at the end the session ends and unmasks nothing") {
  auto options = eight();
  options.drops.assign(8, DropAt::never);
  for (std::size_t i = 0; i < 4; ++i) options.drops[i] = DropAt::unmask;  // t is 5 of 8
  SecAggWorld world(options);
  CHECK_FALSE(world.run().ok());
  CHECK(world.server->reason() == wire::SecureReason::too_few_shares);
}

TEST_CASE("the server goes on from its rows after a restart in every phase") {
  for (int restart_at = 0; restart_at < 4; ++restart_at) {
    CAPTURE(restart_at);
    auto options = eight();
    options.drops.assign(8, DropAt::never);
    options.drops[2] = DropAt::mask;
    SecAggWorld world(options);
    std::vector<SecAggRow> rows;
    const auto commit = [&](int step) {
      for (auto& row : world.server->take_rows()) rows.push_back(std::move(row));
      if (step != restart_at) return;
      auto restored = SecAggServer::restore(world.setup, world.roster(), rows);
      REQUIRE_OK(restored);
      world.server.emplace(*std::move(restored));
    };
    world.advertise();
    REQUIRE_OK(world.server->close_advertise());
    commit(0);
    world.share();
    REQUIRE_OK(world.server->close_share());
    commit(1);
    world.mask();
    REQUIRE_OK(world.server->close_mask());
    commit(2);
    world.agree();
    REQUIRE_OK(world.server->close_agree());
    commit(3);
    world.unmask();
    const auto sum = world.server->finish(nullptr);
    REQUIRE_OK(sum);
    CHECK(*sum == *world.clear_sum(all_but(8, {2})));
    for (auto& row : world.server->take_rows()) {
      if (row.key == "sum") CHECK_FALSE(row.value.has_value());
    }
  }
}

TEST_CASE("rows of another round, or damaged ones, are refused and never crash") {
  SecAggWorld world(eight());
  world.advertise();
  REQUIRE_OK(world.server->close_advertise());
  std::vector<SecAggRow> rows = world.server->take_rows();
  world.share();
  REQUIRE_OK(world.server->close_share());
  world.mask();
  for (auto& row : world.server->take_rows()) rows.push_back(std::move(row));
  REQUIRE_OK(SecAggServer::restore(world.setup, world.roster(), rows));
  auto other = world.setup;
  other.round = RoundId{9};
  CHECK_FALSE(SecAggServer::restore(other, world.roster(), rows).ok());
  Rng rng(3);
  for (int repeat = 0; repeat < 300; ++repeat) {
    auto damaged = rows;
    auto& row = damaged[rng.below(damaged.size())];
    if (!row.value || row.value->empty()) continue;
    (*row.value)[rng.below(std::min<std::size_t>(row.value->size(), 64))] ^=
        static_cast<std::uint8_t>(1 + rng.below(255));
    (void)SecAggServer::restore(world.setup, world.roster(), damaged);
  }
}

TEST_CASE("a device plays a round once, and masks one update per model version") {
  SecAggWorld world(eight());
  SecAggLedger ledger;
  auto& device = world.devices[0];
  REQUIRE_OK(device.client->advertise(ledger));
  CHECK(ledger.last_round == 1);
  world.make_client(device, world.setup, 77);
  const auto again = device.client->advertise(ledger);
  CHECK_FALSE(again.ok());
  CHECK(device.client->reason() == wire::SecureReason::round_seen);

  SecAggWorld second(eight());
  second.devices[0].ledger.masked = 1;
  second.advertise();
  REQUIRE_OK(second.server->close_advertise());
  second.share();
  REQUIRE_OK(second.server->close_share());
  second.mask();
  CHECK(second.devices[0].client->reason() == wire::SecureReason::already_masked);
  CHECK_FALSE(second.devices[0].masked.has_value());
  CHECK(second.devices[1].ledger.masked == 1);
}

TEST_CASE("the ledger is a row that comes back as it was") {
  const SecAggLedger ledger{7, ModelVersion{3}, 1};
  const auto back = wire::decode<SecAggLedger>(wire::encode(ledger));
  REQUIRE_OK(back);
  CHECK(back->last_round == 7);
  CHECK(back->version == ModelVersion{3});
  CHECK(back->masked == 1);
}

TEST_CASE("a wrong share is worked around while more than t are there, and its giver is suspected") {
  auto options = eight();
  options.shuffle = false;
  SecAggWorld world(options);
  world.advertise();
  REQUIRE_OK(world.server->close_advertise());
  world.share();
  REQUIRE_OK(world.server->close_share());
  world.mask();
  REQUIRE_OK(world.server->close_mask());
  world.agree();
  REQUIRE_OK(world.server->close_agree());
  for (auto& device : world.devices) {
    const auto request = std::get<wire::SecureUnmask>(*world.server->due(device.id()));
    auto shares = *device.client->unmask(request);
    if (&device == &world.devices[5]) {
      for (auto& share : shares.shares) share.share[3] ^= 1;
    }
    REQUIRE_OK(world.server->on_shares(device.id(), shares));
  }
  const auto sum = world.server->finish(nullptr);
  REQUIRE_OK(sum);
  CHECK(*sum == *world.clear_sum(all_but(8, {})));
  REQUIRE(world.server->suspects().size() <= 1);
  if (!world.server->suspects().empty()) CHECK(world.server->suspects()[0] == world.devices[5].id());
}

TEST_CASE("every call out of its turn ends the session, and nothing brings it back") {
  SecAggWorld world(eight());
  auto& device = world.devices[0];
  const auto early = device.client->agree(wire::SecureSurvivors{});
  CHECK_FALSE(early.ok());
  CHECK(device.client->phase() == SecAggClient::Phase::dead);
  CHECK(device.client->reason() == wire::SecureReason::unexpected);
  CHECK(device.client->advertise(device.ledger).error().code == ErrorCode::cancelled);
  CHECK(device.ledger.last_round == 0);
}

TEST_CASE("the seam that switches checks off is out of reach of the daemons") {
  for (const char* folder : {"client", "coordinator"}) {
    const auto found =
        test::run_command("grep -rlE 'secagg_seam|create_with_seam|secagg_world' " + test::source_dir() + "/" + folder);
    CHECK(found.out.empty());
  }
}

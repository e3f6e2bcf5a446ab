#include "client/roster.h"

#include <algorithm>

#include "roster_world.h"
#include "session_world.h"

using namespace covey;
using namespace covey::client;
using covey::test::key_of_seed;
using covey::test::sample_plan;
using covey::test::SessionWorld;
using covey::test::TestRoster;

namespace {

RosterChain empty_chain() {
  return {key_of_seed(9).public_key().bytes, key_of_seed(1).public_key().bytes};
}

TestRoster roster_of(int epochs) {
  TestRoster roster;
  roster.add(1);
  for (int i = 1; i < epochs; ++i) roster.add(static_cast<std::uint8_t>(10 + i));
  return roster;
}

std::string refusal(RosterChain chain, const wire::SignedRosterEpoch& document) {
  const auto head = chain.head();
  const auto extended = chain.extend(document);
  REQUIRE_FALSE(extended.ok());
  CHECK(chain.head().epoch == head.epoch);
  CHECK(chain.head().hash == head.hash);
  return extended.error().message;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

int journal_lines(SessionWorld& world, const std::string& part) {
  const auto journal = read_journal(world.store);
  REQUIRE_OK(journal);
  return static_cast<int>(std::ranges::count_if(*journal, [&](const auto& e) { return contains(e.line, part); }));
}

/// Whatever is wrong with the roster: nothing checked in, nothing trained, and the owner can read why, once.
void check_refused(SessionWorld& world, const std::string& why) {
  CHECK(world.count<wire::CheckIn>() == 0);
  CHECK(world.training_runs == 0);
  CHECK_FALSE(world.connected);
  CHECK(contains(world.session->last_problem(), "roster refused"));
  CHECK(contains(world.session->last_problem(), why));
  for (int i = 0; i < 5; ++i) world.fire_next();
  CHECK(world.count<wire::CheckIn>() == 0);
  CHECK(journal_lines(world, why) == 1);
}

}  // namespace

TEST_CASE("a chain of signed epochs is followed to its head, and tells how this device is listed") {
  const TestRoster roster = roster_of(5);
  RosterChain chain = empty_chain();
  CHECK_FALSE(chain.check_listed(wire::Key{}).ok());
  for (const auto& epoch : roster.epochs) REQUIRE_OK(chain.extend(epoch));
  CHECK(chain.head().epoch == 5);
  CHECK(chain.head().hash == roster.head_hash());
  REQUIRE_OK(chain.check_listed(wire::Key{}));
  wire::Key other{};
  other[0] = 1;
  CHECK_FALSE(chain.check_listed(other).ok());
  TestRoster later = roster;
  later.add(1, wire::DeviceStatus::revoked);
  CHECK(chain.active(key_of_seed(1).public_key().bytes));
  CHECK(chain.active(key_of_seed(14).public_key().bytes));
  CHECK_FALSE(chain.active(key_of_seed(15).public_key().bytes));
  REQUIRE_OK(chain.extend(later.epochs.back()));
  CHECK_FALSE(chain.active(key_of_seed(1).public_key().bytes));
  CHECK(chain.head().listing == RosterListing::revoked);
  CHECK_FALSE(chain.check_listed(wire::Key{}).ok());
}

TEST_CASE("the roots that sortition draws from are known for the newest epochs, and for no others") {
  const TestRoster roster = roster_of(12);
  RosterChain chain = empty_chain();
  CHECK_FALSE(chain.root(0));
  CHECK_FALSE(chain.root(1));
  for (const auto& epoch : roster.epochs) REQUIRE_OK(chain.extend(epoch));
  CHECK(chain.active_count() == 12);
  for (std::uint64_t epoch = 0; epoch <= 14; ++epoch) {
    const auto root = chain.root(epoch);
    CHECK(root.has_value() == (epoch >= 12 - kRootsKept && epoch <= 12));
    if (root) CHECK(*root == wire::hash_of(roster.epochs[epoch - 1]));
  }
}

TEST_CASE("forks, gaps, stale epochs, other keys and damage are refused, and the head stays") {
  const TestRoster roster = roster_of(4);
  RosterChain chain = empty_chain();
  REQUIRE_OK(chain.extend(roster.epochs[0]));
  REQUIRE_OK(chain.extend(roster.epochs[1]));

  TestRoster fork;
  fork.add(1);
  fork.add(77);
  fork.add(78);
  CHECK(contains(refusal(chain, fork.epochs[2]), "a fork"));
  CHECK(contains(refusal(chain, roster.epochs[3]), "a gap"));
  CHECK(contains(refusal(chain, roster.epochs[1]), "not newer"));
  CHECK(contains(refusal(chain, roster.epochs[0]), "not newer"));
  CHECK(contains(refusal(chain, wire::sign_epoch({0, {}, 0, {}}, key_of_seed(9))), "not newer"));
  CHECK(contains(refusal(chain, wire::sign_epoch({UINT64_MAX, {}, 0, {}}, key_of_seed(9))), "a gap"));
  CHECK(contains(refusal(chain, wire::sign_epoch({3, roster.head_hash(), 0, {}}, key_of_seed(9))), "a fork"));
  const wire::RosterEpoch good{3, wire::hash_of(roster.epochs[1]), 0, {}};
  CHECK(contains(refusal(chain, wire::sign_epoch(good, key_of_seed(7))), "not signed by the pinned roster key"));
  for (std::size_t i = 0; i < roster.epochs[2].epoch.size(); i += 5) {
    auto damaged = roster.epochs[2];
    damaged.epoch[i] ^= 1;
    CHECK(contains(refusal(chain, damaged), "not signed"));
  }
  auto no_epoch = wire::SignedRosterEpoch{Bytes{1, 2, 3}, {}};
  no_epoch.signature = key_of_seed(9).sign_in(wire::kRosterDomain, no_epoch.epoch).bytes;
  refusal(chain, no_epoch);
  REQUIRE_OK(chain.extend(roster.epochs[2]));
}

TEST_CASE("a session follows the roster over several pages before it checks in") {
  SessionWorld world;
  world.roster = roster_of(7);
  world.roster.page = 3;
  world.plans = {sample_plan(1)};
  world.boot();
  world.run();
  REQUIRE(world.sent.size() > 4);
  for (std::size_t i = 0; i < 3; ++i) {
    const auto* request = std::get_if<wire::RosterRequest>(&world.sent[i]);
    REQUIRE(request != nullptr);
    CHECK(request->after_epoch == 3 * i);
  }
  CHECK(std::holds_alternative<wire::CheckIn>(world.sent[3]));
  CHECK(world.session->roster_epoch() == 7);
  CHECK(world.session->receipts_accepted() == 1);
}

TEST_CASE("until the roster is verified nothing is said, and an offer before that starts nothing") {
  SessionWorld world;
  world.roster_answers = false;
  world.plans = {sample_plan(1)};
  world.boot();
  world.give(MessageReceived{world.offer(sample_plan(1))});
  world.give(Fetched{test::hash_of(1), 1, 1});
  CHECK(world.count<wire::RosterRequest>() == 1);
  CHECK(world.sent.size() == 1);
  CHECK_FALSE(world.session->round().has_value());
  world.fire_next();  // no answer in time
  CHECK_FALSE(world.connected);
  CHECK(world.sent.size() == 1);
  world.roster_answers = true;
  world.run();
  CHECK(world.session->receipts_accepted() == 1);
}

TEST_CASE("the head is durable before the device checks in, and a later process asks from there") {
  SessionWorld world;
  world.roster = roster_of(4);
  world.boot();
  CHECK(world.session->roster_epoch() == 4);
  const int asked = world.count<wire::RosterRequest>();
  Session stopped(world.config);
  REQUIRE_OK(stopped.restore(world.store));
  CHECK(stopped.roster_epoch() == 4);
  world.boot();
  CHECK(world.count<wire::RosterRequest>() == asked);  // it knows all there is
  world.roster.add(40);
  world.boot();
  REQUIRE(world.count<wire::RosterRequest>() == asked + 1);
  CHECK(world.session->roster_epoch() == 5);
  CHECK(world.count<wire::CheckIn>() == 3);
}

TEST_CASE("a roster that does not extend the one known ends the connection, in the journal once") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  const auto boot_knowing = [&](int epochs) {
    SessionWorld before;
    before.roster = roster_of(epochs);
    before.boot();
    const auto row = before.store.get(kSessionTable, store::key_of("roster"));
    REQUIRE_OK(row);
    REQUIRE(row->has_value());
    REQUIRE_OK(world.store.put(kSessionTable, store::key_of("roster"), **row));
    world.boot();
  };
  SUBCASE("an older head") {
    world.roster = roster_of(2);
    boot_knowing(3);
    check_refused(world, "the coordinator is at epoch 2, this device knows epoch 3");
  }
  SUBCASE("a fork") {
    world.roster.epochs.clear();
    for (const std::uint8_t device : {1, 50, 51, 52}) world.roster.add(device);
    boot_knowing(3);
    check_refused(world, "a fork");
  }
  SUBCASE("another key") {
    world.roster = TestRoster{};
    world.roster.key_seed = 7;
    world.roster.add(1);
    world.boot();
    check_refused(world, "not signed by the pinned roster key");
  }
  SUBCASE("a page with damage in its middle: nothing of it is kept") {
    world.roster = roster_of(3);
    world.roster.epochs[1].epoch[0] ^= 1;
    world.boot();
    CHECK(world.session->roster_epoch() == 0);
    check_refused(world, "not signed by the pinned roster key");
  }
  SUBCASE("an epoch that is claimed and not shown") {
    world.claimed_epoch = 9;
    world.boot();
    check_refused(world, "speaks of epoch 9 and does not show it");
  }
  SUBCASE("a chain that does not list this device") {
    world.roster.epochs.clear();
    world.roster.add(2);
    world.boot();
    check_refused(world, "does not list this device");
  }
  SUBCASE("a chain that lists it as revoked") {
    world.roster.add(1, wire::DeviceStatus::revoked);
    world.boot();
    check_refused(world, "revoked");
  }
}

TEST_CASE("a plan of an epoch signed since Welcome waits until that epoch is verified") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  world.plans[0].roster_epoch = 2;
  world.claimed_epoch = 1;  // what Welcome says
  world.roster = roster_of(2);
  world.roster.page = 1;
  world.boot();
  world.run();
  CHECK(world.count<wire::RosterRequest>() == 2);
  CHECK(world.session->roster_epoch() == 2);
  CHECK(world.session->receipts_accepted() == 1);
}

TEST_CASE("a plan of an epoch that cannot be verified trains nothing") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  world.plans[0].roster_epoch = 5;
  world.boot();
  CHECK(world.count<wire::TaskAnswer>() == 0);
  CHECK(world.training_runs == 0);
  CHECK_FALSE(world.connected);
  CHECK(contains(world.session->last_problem(), "speaks of epoch 5 and does not show it"));
  for (int i = 0; i < 6; ++i) world.fire_next();
  CHECK(world.training_runs == 0);
  CHECK(journal_lines(world, "epoch 5") >= 1);
}

TEST_CASE("plans may lag behind the roster, and never go back behind an earlier plan") {
  SessionWorld world;
  world.roster = roster_of(5);
  world.plans = {sample_plan(1), sample_plan(2), sample_plan(3)};
  world.plans[0].roster_epoch = 2;
  world.plans[1].roster_epoch = 4;
  world.plans[2].roster_epoch = 3;
  world.boot();
  world.run(40);
  CHECK(world.session->receipts_accepted() == 2);
  CHECK(world.training_runs == 2);
  CHECK(contains(world.session->last_problem(), "round 3 goes back to epoch 3"));
  world.boot();
  world.run(10);
  CHECK(world.training_runs == 2);  // also a later process remembers
  CHECK(journal_lines(world, "round 3 goes back") >= 1);
}

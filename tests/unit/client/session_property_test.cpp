#include "session_world.h"

using namespace covey;
using namespace covey::client;
using covey::test::sample_plan;
using covey::test::SessionWorld;

namespace {

wire::Message random_message(Rng& rng, SessionWorld& world) {
  const RoundId round{rng.below(4)};
  const wire::Hash content = test::hash_of(static_cast<std::uint8_t>(rng.below(4)));
  switch (rng.below(14)) {
    case 0:
      return wire::Welcome{};
    case 1:
      return wire::CheckBack{static_cast<std::uint32_t>(rng.next_u32()), wire::WaitReason(rng.below(7))};
    case 2:
    case 3:
    case 4: {
      auto plan = sample_plan(rng.below(6));
      plan.mode = wire::PrivacyMode(rng.below(3));
      if (rng.below(4) == 0) plan.roster_epoch = rng.below(4);
      if (rng.below(4) == 0) plan.batch = rng.next_u32();
      if (rng.below(8) == 0) plan.adapter_layout.resize(rng.below(20));
      auto offer = world.offer(plan);
      if (rng.below(6) == 0) offer.signature[3] ^= 1;
      if (rng.below(6) == 0) offer.left_ms = static_cast<std::int64_t>(rng.next_u64());
      return offer;
    }
    case 5:
      return wire::SubmitNext{round, static_cast<std::uint32_t>(rng.below(3))};
    case 6:
      return wire::SubmitNext{round, rng.next_u32()};
    case 7:
      return wire::Receipt{round, content, wire::ReceiptStatus(rng.below(4))};
    case 8:
      return wire::ErrorReply{wire::Complaint(rng.below(9)), std::string(rng.below(600), '\n'), {}};
    case 9:
      return wire::ManifestReply{};
    case 10:
      return wire::CheckIn{};
    case 11: {
      if (rng.below(4) == 0) world.roster.add(static_cast<std::uint8_t>(rng.below(20) + 2));
      return wire::Welcome{0, world.roster.head(), {}};
    }
    case 12: {
      auto reply = world.roster.after(rng.below(3) == 0 ? rng.below(4) : world.session->roster_epoch());
      if (rng.below(5) == 0 && !reply.epochs.empty()) reply.epochs.back().signature[1] ^= 1;
      return reply;
    }
    default:
      return wire::ChunkReply{};
  }
}

Event random_event(Rng& rng, SessionWorld& world) {
  const RoundId round = world.session->round().value_or(RoundId{rng.below(4)});
  switch (rng.below(14)) {
    case 0:
      return ConnectionLost{};
    case 1:
      return TimerFired{SessionTimer(rng.below(3))};
    case 2:
      return Fetched{test::hash_of(static_cast<std::uint8_t>(rng.below(4))), 5, 0};
    case 3:
      return FetchFailed{test::hash_of(static_cast<std::uint8_t>(rng.below(4))), "gone"};
    case 4: {
      auto done = world.trained(round);
      if (rng.below(3) == 0) done.outcome.delta.resize(rng.below(40));
      if (rng.below(5) == 0 && !done.outcome.delta.empty()) done.outcome.delta[0] = NAN;
      return done;
    }
    case 5:
      return TrainingFailed{round, wire::RefusalReason(rng.below(9)), "no"};
    case 6:
      return TrainingProgressed{round, 1, 2};
    case 7:
      return EligibilityChanged{rng.below(3) != 0, "now and then"};
    case 8:
      return CapabilitiesChanged{test::capable()};
    case 9:
      return Started{};
    default:
      return MessageReceived{random_message(rng, world)};
  }
}

/// What left is of the kind that its round's mode sends: no clear update of a secure round.
void check_submissions(const SessionWorld& world, const std::map<std::uint64_t, wire::PrivacyMode>& open_modes) {
  for (const auto& message : world.sent) {
    const auto* begin = std::get_if<wire::SubmitBegin>(&message);
    if (begin == nullptr) continue;
    REQUIRE(open_modes.contains(begin->round.value));
    const bool clear = open_modes.at(begin->round.value) == wire::PrivacyMode::robust;
    CHECK(begin->kind == (clear ? wire::UpdateKind::clear : wire::UpdateKind::masked));
  }
}

}  // namespace

TEST_CASE("whatever comes in whatever order, the machine holds and comes back to rest") {
  int submitted = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    CAPTURE(seed);
    Rng rng(seed);
    SessionWorld world;
    world.trainer_answers = rng.below(2) == 0;
    world.fetches_answer = rng.below(4) != 0;
    if (rng.below(2) == 0) world.plans = {sample_plan(1), sample_plan(2)};
    world.boot();
    for (int i = 0; i < 120; ++i) {
      if (rng.below(3) == 0 && !world.timers.empty()) {
        world.fire_next();
      } else {
        world.give(random_event(rng, world));
      }
      if (rng.below(40) == 0) world.boot();
    }
    // Quiet from here on: everything answers, nothing is offered. Whatever was open ends, at the latest by its
    // deadline.
    world.next_plan = world.plans.size();
    world.plans.clear();
    world.trainer_answers = world.fetches_answer = true;
    world.give(EligibilityChanged{true, ""});
    world.give(MessageReceived{wire::CheckBack{10, wire::WaitReason::no_round}});
    int timers = 0;
    while ((world.session->phase() != SessionPhase::resting || world.session->round()) && timers++ < 500) {
      REQUIRE_FALSE(world.timers.empty());
      world.fire_next();
    }
    CHECK(world.session->phase() == SessionPhase::resting);
    CHECK_FALSE(world.session->round().has_value());
    submitted += world.count<wire::SubmitBegin>();
  }
  CHECK(submitted > 100);  // or the test walks past what it is about
}

TEST_CASE("no event sequence makes a session of a secure or grouped plan send a clear update") {
  int advertised = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    Rng rng(seed, 77);
    SessionWorld world;
    world.config.policy.weakest_mode = wire::PrivacyMode(rng.below(3));
    std::map<std::uint64_t, wire::PrivacyMode> modes;
    for (std::uint64_t round = 1; round <= 6; ++round) {
      auto plan = test::secure_plan(round);
      plan.mode = wire::PrivacyMode(rng.below(3));
      if (plan.mode == wire::PrivacyMode::grouped) {
        plan.secure.groups = 2;
        plan.cohort_invited = plan.goal_count = 8;
      }
      modes[round] = plan.mode;
      world.plans.push_back(plan);
    }
    world.boot();
    for (int i = 0; i < 80; ++i) {
      auto event = random_event(rng, world);
      if (const auto* message = std::get_if<MessageReceived>(&event);
          message != nullptr && std::holds_alternative<wire::TaskOffer>(message->message))
        event = MessageReceived{world.offer(world.plans[rng.below(world.plans.size())])};
      world.give(event);
      if (rng.below(3) == 0 && !world.timers.empty()) world.fire_next();
      if (rng.below(30) == 0) world.boot();
    }
    check_submissions(world, modes);
    advertised += world.count<wire::SecureAdvertise>();
  }
  CHECK(advertised > 50);  // or the test walks past what it is about
}

TEST_CASE("killed before any effect, the device still submits every round, once, with one content") {
  SessionWorld whole;
  whole.plans = {sample_plan(1, 40'000), sample_plan(2, 40'000)};
  whole.values = 160'000;
  whole.boot();
  whole.run();
  REQUIRE(whole.session->receipts_accepted() == 2);

  for (int crash = 0; crash < whole.effects; ++crash) {
    CAPTURE(crash);
    SessionWorld world;
    world.plans = {sample_plan(1, 40'000), sample_plan(2, 40'000)};
    world.values = 160'000;
    world.crash_before = crash;
    world.boot();
    world.run();
    CHECK(world.crashes == 1);
    for (const auto& [round, contents] : world.contents) CHECK(contents.size() == 1);
    CHECK(world.complete.size() == 2);
    CHECK(world.session->receipts_accepted() == 2);
  }
}

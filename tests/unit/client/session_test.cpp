#include "client/session.h"
#include <cmath>
#include "client/session_rows.h"

#include "session_world.h"

using namespace covey;
using namespace covey::client;
using covey::test::sample_plan;
using covey::test::secure_plan;
using covey::test::SessionWorld;

TEST_CASE("a device takes part in three rounds and gets three receipts") {
  SessionWorld world;
  world.plans = {sample_plan(1), sample_plan(2), sample_plan(3)};
  world.boot();
  world.run();
  CHECK(world.session->receipts_accepted() == 3);
  CHECK(world.session->bytes_submitted() > 0);
  CHECK(world.session->phase() == SessionPhase::resting);
  CHECK_FALSE(world.connected);
  const auto update = wire::decode<wire::ClearUpdate>(world.uploads.at(2));
  REQUIRE_OK(update);
  CHECK(update->weight == 10);
  CHECK(update->count == 32);
  CHECK(update->plan == wire::plan_hash(wire::encode(sample_plan(2))));
}

TEST_CASE("the journal tells of every round: accepted, trained, sent") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  world.boot();
  world.run();
  const auto journal = read_journal(world.store);
  REQUIRE_OK(journal);
  REQUIRE(journal->size() == 3);
  CHECK((*journal)[0].line.find("round 1 accepted") == 0);
  CHECK((*journal)[1].line.find("round 1 trained: 4 steps") == 0);
  CHECK((*journal)[2].line.find("bytes of update sent in mode robust") != std::string::npos);
}

TEST_CASE("a default policy refuses a robust plan because of its mode") {
  SessionWorld world;
  world.config.policy = SessionPolicy{};
  world.plans = {sample_plan(1)};
  world.boot();
  world.run();
  CHECK(world.last_refusal() == wire::RefusalReason::mode);
  CHECK(world.training_runs == 0);
  CHECK(world.session->phase() == SessionPhase::resting);
}

TEST_CASE("a secure plan ends training with advertised keys, and no clear update leaves") {
  SessionWorld world;
  world.plans = {secure_plan(1)};
  world.boot();
  CHECK(world.training_runs == 1);
  CHECK(world.count<wire::SecureAdvertise>() == 1);
  CHECK(world.count<wire::SubmitBegin>() == 0);
  CHECK(world.session->phase() == SessionPhase::secure_advertise);

  SUBCASE("a lost link: the same keys again") {
    world.give(ConnectionLost{});
    world.fire_next();
    REQUIRE(world.count<wire::SecureAdvertise>() == 2);
    std::vector<Bytes> said;
    for (const auto& message : world.sent) {
      if (const auto* keys = std::get_if<wire::SecureAdvertise>(&message)) said.push_back(wire::encode(*keys));
    }
    CHECK(said[0] == said[1]);
  }
  SUBCASE("a restart: the session is gone, the round is not entered again, nothing more is said of it") {
    world.boot();
    world.run();
    CHECK(world.count<wire::SecureAdvertise>() == 1);
    CHECK(world.count<wire::TaskAnswer>() == 1);
    CHECK(world.session->phase() == SessionPhase::resting);
  }
  SUBCASE("a list that breaks the protocol: the reason, and nothing else") {
    world.give(MessageReceived{wire::SecureList{.round = RoundId{1}, .plan = test::hash_of(9), .devices = {}}});
    REQUIRE(world.count<wire::SecureAbort>() == 1);
    CHECK(std::get<wire::SecureAbort>(world.sent.back()).reason == wire::SecureReason::plan_differs);
    CHECK(world.count<wire::SecureBoxes>() == 0);
    world.run();
    CHECK(world.session->phase() == SessionPhase::resting);
  }
  SUBCASE("no answer for as long as all phases may take: the round is dropped") {
    world.run();
    CHECK(world.session->phase() == SessionPhase::resting);
    CHECK(world.count<wire::SubmitBegin>() == 0);
  }
}

TEST_CASE("secure plans that promise less than the device's policy asks are refused because of their mode") {
  using Change = void (*)(wire::RoundPlan&);
  const std::vector<Change> weaker = {
      [](wire::RoundPlan& p) { p.secure.survivors_min = 2; },
      [](wire::RoundPlan& p) { p.secure.corrupt_fraction = 0.01; },
  };
  for (std::size_t i = 0; i < weaker.size(); ++i) {
    CAPTURE(i);
    SessionWorld world;
    world.plans = {secure_plan(1)};
    weaker[i](world.plans[0]);
    world.boot();
    world.run();
    CHECK(world.last_refusal() == wire::RefusalReason::mode);
    CHECK(world.training_runs == 0);
    CHECK(world.count<wire::SecureAdvertise>() == 0);
  }
}

TEST_CASE("a device that masked an update for a version declines further rounds of it before it trains") {
  for (const bool same : {true, false}) {
    CAPTURE(same);
    SessionWorld world;
    world.plans = {secure_plan(2)};
    Ledger before;
    before.last_round = 1;
    before.secagg = {1, ModelVersion{world.plans[0].base_version.value + (same ? 0 : 1)}, 1};
    REQUIRE_OK(world.store.put(kSessionTable, ledger_key(), wire::encode(before)));
    world.boot();
    CHECK(world.training_runs == (same ? 0 : 1));
    if (same) CHECK(world.last_refusal() == wire::RefusalReason::policy);
  }
}

namespace {
wire::RoundPlan noised_plan(std::uint64_t round = 1, double multiplier = 4) {
  auto plan = secure_plan(round);
  plan.weight_max = 1;
  plan.noise = {wire::NoiseKind::discrete_gaussian, multiplier};
  return plan;
}
}  // namespace

TEST_CASE("a device with a bound on epsilon takes no plan without noise, and none that would pass the bound") {
  const auto answer_to = [](const wire::RoundPlan& plan, double epsilon_max) {
    SessionWorld world;
    world.config.policy.epsilon_max = epsilon_max;
    world.plans = {plan};
    world.boot();
    CHECK(world.session->epsilon() == 0);
    const bool advertised = world.count<wire::SecureAdvertise>() == 1;
    CHECK(advertised == (world.last_refusal() == wire::RefusalReason::none));
    return world.last_refusal();
  };
  CHECK(answer_to(noised_plan(), 4) == wire::RefusalReason::none);
  CHECK(answer_to(noised_plan(), 0) == wire::RefusalReason::none);
  CHECK(answer_to(secure_plan(), 0) == wire::RefusalReason::none);
  CHECK(answer_to(secure_plan(), 4) == wire::RefusalReason::mode);
  CHECK(answer_to(noised_plan(1, 1), 4) == wire::RefusalReason::budget);  // a quarter of the noise: 16 times rho
  CHECK(answer_to(noised_plan(1, 4), 0.5) == wire::RefusalReason::budget);
}

TEST_CASE("plans whose noise cannot be are refused as bad") {
  using Change = void (*)(wire::RoundPlan&);
  const std::vector<Change> bad = {
      [](wire::RoundPlan& p) { p.mode = wire::PrivacyMode::robust; },
      [](wire::RoundPlan& p) { p.weight_max = 2; },
      [](wire::RoundPlan& p) { p.noise.multiplier = 0; },
      [](wire::RoundPlan& p) { p.noise.multiplier = std::nan(""); },
      [](wire::RoundPlan& p) { p.noise.multiplier = 1e9; },
      [](wire::RoundPlan& p) { p.secure.survivors_min = 0; },
      [](wire::RoundPlan& p) { p.secure.corrupt_fraction = std::nan(""); },
      [](wire::RoundPlan& p) { p.value_bits = 24; },  // words of more than 32 bits
  };
  for (std::size_t i = 0; i < bad.size(); ++i) {
    CAPTURE(i);
    auto plan = noised_plan();
    bad[i](plan);
    CHECK(check_plan(plan, test::session_config().policy).reason == wire::RefusalReason::bad_plan);
  }
}

TEST_CASE("a grouped plan is taken where the owner allows that mode, and holds to the policy's minimum in each group") {
  auto policy = test::session_config().policy;
  policy.weakest_mode = wire::PrivacyMode::grouped;
  auto plan = secure_plan(1);
  plan.mode = wire::PrivacyMode::grouped;
  plan.secure.groups = 3;
  plan.cohort_invited = plan.goal_count = plan.min_count = 9;
  CHECK(check_plan(plan, policy).reason == wire::RefusalReason::none);
  policy.weakest_mode = wire::PrivacyMode::secure;
  CHECK(check_plan(plan, policy).reason == wire::RefusalReason::mode);
  policy.weakest_mode = wire::PrivacyMode::grouped;
  policy.survivors_min = 4;
  CHECK(check_plan(plan, policy).reason == wire::RefusalReason::mode);  // nine are enough, three to a group are not
  policy.survivors_min = 3;
  for (const std::uint32_t groups : {0U, 1U, 4U}) {  // none, no group, more than nine devices fill
    plan.secure.groups = groups;
    CHECK(check_plan(plan, policy).reason == wire::RefusalReason::bad_plan);
  }
  plan.secure.groups = 3;
  plan.mode = wire::PrivacyMode::secure;
  CHECK(check_plan(plan, policy).reason == wire::RefusalReason::bad_plan);
}

TEST_CASE("a device takes part in a round of sortition only where the lot drew it, and may ask for sortition") {
  const auto refusal = [](std::uint64_t drawn_below, bool asks) {
    SessionWorld world;
    world.config.policy.sortition = asks;
    world.plans = {secure_plan(1)};
    world.plans[0].secure.drawn_below = drawn_below;
    world.boot();
    world.run();
    return world.count<wire::SecureAdvertise>() > 0 ? wire::RefusalReason::none : world.last_refusal();
  };
  CHECK(refusal(~std::uint64_t{0}, true) == wire::RefusalReason::none);
  CHECK(refusal(1, false) == wire::RefusalReason::bad_plan);
  CHECK(refusal(0, false) == wire::RefusalReason::none);
  CHECK(refusal(0, true) == wire::RefusalReason::mode);
}

TEST_CASE("secure plans that cannot be are refused as bad") {
  using Change = void (*)(wire::RoundPlan&);
  const std::vector<Change> bad = {
      [](wire::RoundPlan& p) { p.secure.survivors_min = 5; },  // above the cohort
      [](wire::RoundPlan& p) { p.secure.corrupt_fraction = std::nan(""); },
      [](wire::RoundPlan& p) { p.secure.corrupt_fraction = 1; },
      [](wire::RoundPlan& p) { p.secure.phase_ms = 0; },
      [](wire::RoundPlan& p) { p.value_bits = 24, p.weight_max = 1'000'000; },  // no 32-bit word holds the sum
  };
  for (std::size_t i = 0; i < bad.size(); ++i) {
    CAPTURE(i);
    SessionWorld world;
    world.plans = {secure_plan(1)};
    bad[i](world.plans[0]);
    world.boot();
    world.run();
    CHECK(world.last_refusal() == wire::RefusalReason::bad_plan);
    CHECK(world.training_runs == 0);
  }
}

TEST_CASE("a plan that another key signed starts nothing") {
  SessionWorld world;
  world.coordinator = test::key_of_seed(8);
  world.plans = {sample_plan(1)};
  world.boot();
  for (int i = 0; i < 10; ++i) world.fire_next();
  CHECK(world.count<wire::TaskAnswer>() == 0);
  CHECK(world.training_runs == 0);
  CHECK(world.session->last_problem().find("cannot be trusted") != std::string::npos);
}

TEST_CASE("hostile plans are refused as bad before anything is fetched or trained") {
  using Change = void (*)(wire::RoundPlan&);
  const std::vector<Change> changes = {
      [](wire::RoundPlan& p) { p.batch = 0; },
      [](wire::RoundPlan& p) { p.batch = 1U << 30; },
      [](wire::RoundPlan& p) { p.seq = 1; },
      [](wire::RoundPlan& p) { p.seq = 1U << 30; },
      [](wire::RoundPlan& p) { p.local_steps = 101; },
      [](wire::RoundPlan& p) { p.local_epochs = 3; },
      [](wire::RoundPlan& p) { p.local_steps = 0; },
      [](wire::RoundPlan& p) { p.value_bits = 1; },
      [](wire::RoundPlan& p) { p.value_bits = 33; },
      [](wire::RoundPlan& p) { p.clip_norm = 0; },
      [](wire::RoundPlan& p) { p.clip_norm = std::nan(""); },
      [](wire::RoundPlan& p) { p.weight_max = 0; },
      [](wire::RoundPlan& p) { p.learning_rate = -1; },
      [](wire::RoundPlan& p) { p.learning_rate = std::nan(""); },
      [](wire::RoundPlan& p) { p.prox_mu = INFINITY; },
      [](wire::RoundPlan& p) {
        p.stochastic_rounding = true;
        p.method = "zeroth-order";
      },
      [](wire::RoundPlan& p) { p.method = "mezo"; },
      [](wire::RoundPlan& p) { p.optimizer = "rmsprop"; },
      [](wire::RoundPlan& p) { p.model.clear(); },
      [](wire::RoundPlan& p) { p.model[0].name = "../config.json"; },
      [](wire::RoundPlan& p) { p.model[0].name = ".."; },
      [](wire::RoundPlan& p) { p.model[0].name = "a/b"; },
      [](wire::RoundPlan& p) { p.model[0].name = p.model[1].name; },
      [](wire::RoundPlan& p) { p.adapter_layout = "nonsense"; },
      [](wire::RoundPlan& p) { p.adapter.bytes += 4; },
      [](wire::RoundPlan& p) { p.update_bytes_max = 16; },
      [](wire::RoundPlan& p) { p.deadline_ms = 0; },
      [](wire::RoundPlan& p) { p.deadline_ms = INT64_MAX; },
      [](wire::RoundPlan& p) { p.min_count = 0; },
      [](wire::RoundPlan& p) { p.task = "another"; },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    CAPTURE(i);
    SessionWorld world;
    world.plans = {sample_plan(1)};
    changes[i](world.plans[0]);
    world.boot();
    world.run(20);
    // What the codec refuses already never gets as far as an answer.
    const bool unreadable = world.session->last_problem().find("cannot be trusted") != std::string::npos;
    CHECK((unreadable || world.last_refusal() == wire::RefusalReason::bad_plan));
    CHECK(world.training_runs == 0);
    CHECK(world.session->phase() == SessionPhase::resting);
  }
}

TEST_CASE("a seeded plan trains and sends one scalar a candidate, and needs a method that goes along candidates") {
  auto seeded = sample_plan(1);
  seeded.method = "forward-gradient";
  seeded.optimizer = "sgd";
  seeded.seeded = {.candidates = 12, .seed = 3};
  seeded.adapter.bytes = 48;
  SessionWorld world;
  world.values = 12;
  world.plans = {seeded};
  world.boot();
  world.run();
  CHECK(world.session->receipts_accepted() == 1);
  const auto update = wire::decode<wire::ClearUpdate>(world.uploads.at(1));
  REQUIRE_OK(update);
  CHECK(update->count == 12);

  const auto verdict_of = [](wire::RoundPlan plan) { return check_plan(plan, test::session_config().policy).reason; };
  CHECK(verdict_of(seeded) == wire::RefusalReason::none);
  const auto changed = [&](auto change) {
    auto plan = seeded;
    change(plan);
    return verdict_of(plan);
  };
  CHECK(changed([](auto& p) { p.method = "backprop"; }) == wire::RefusalReason::bad_plan);
  CHECK(changed([](auto& p) { p.optimizer = "adamw"; }) == wire::RefusalReason::bad_plan);
  CHECK(changed([](auto& p) { p.prox_mu = 0.1; }) == wire::RefusalReason::bad_plan);
  CHECK(changed([](auto& p) { p.weight_decay = 0.1; }) == wire::RefusalReason::bad_plan);
  CHECK(changed([](auto& p) { p.adapter.bytes = 128; }) == wire::RefusalReason::bad_plan);  // the adapter's values
  CHECK(changed([](auto& p) {
          p.seeded.candidates = 65'537;
          p.adapter.bytes = 4 * 65'537;
        }) == wire::RefusalReason::bad_plan);
}

TEST_CASE("a plan beyond the owner's budget is refused for that") {
  SessionWorld world;
  world.config.policy.rounds_per_day_max = 1;
  world.plans = {sample_plan(1), sample_plan(2)};
  world.boot();
  world.run();
  CHECK(world.session->receipts_accepted() == 1);
  CHECK(world.last_refusal() == wire::RefusalReason::budget);

  SessionWorld small;
  small.config.policy.steps_max = 10;
  small.plans = {sample_plan(1)};
  small.boot();
  small.run();
  CHECK(small.last_refusal() == wire::RefusalReason::budget);
}

TEST_CASE("the same round offered again after it ended is refused, also by a later process") {
  SessionWorld world;
  world.plans = {sample_plan(4)};
  world.boot();
  world.run();
  REQUIRE(world.session->receipts_accepted() == 1);
  world.boot();
  world.give(MessageReceived{world.offer(sample_plan(4))});
  CHECK(world.session->phase() == SessionPhase::resting);  // it has checked in and rests: the offer came too late
  world.plans.push_back(sample_plan(5));
  world.fire_next();
  CHECK(world.session->receipts_accepted() == 2);
  CHECK(world.training_runs == 2);
}

TEST_CASE("an update of several chunks is sent chunk by chunk as the coordinator asks") {
  SessionWorld world;
  world.plans = {sample_plan(1, 40'000)};
  world.values = 160'000;
  world.boot();
  world.run();
  CHECK(world.session->receipts_accepted() == 1);
  CHECK(world.count<wire::SubmitChunk>() == 2);
}

TEST_CASE("a device without examples refuses for want of data") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  world.trainer_answers = false;
  world.boot();
  world.give(CapabilitiesChanged{});
  CHECK(world.session->phase() == SessionPhase::training);

  SessionWorld empty;
  empty.boot();
  empty.give(CapabilitiesChanged{});
  empty.plans = {sample_plan(1)};
  empty.run();
  CHECK(empty.last_refusal() == wire::RefusalReason::no_data);
}

TEST_CASE("what the trainer finds out late is a refusal with its reason, and the row is gone") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  world.trainer_answers = false;
  world.boot();
  REQUIRE(world.session->phase() == SessionPhase::training);
  world.give(TrainingFailed{RoundId{1}, wire::RefusalReason::memory, "needs 9 GiB"});
  CHECK(world.last_refusal() == wire::RefusalReason::memory);
  world.run();
  CHECK(world.session->phase() == SessionPhase::resting);
  CHECK_FALSE(world.session->round().has_value());
}

TEST_CASE("training goes on when the connection is lost, and the upload connects again") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  world.trainer_answers = false;
  world.boot();
  world.connected = false;
  world.give(ConnectionLost{});
  CHECK(world.session->phase() == SessionPhase::training);
  CHECK(world.stops == 0);
  world.give(world.trained(RoundId{1}));
  world.run();
  CHECK(world.session->receipts_accepted() == 1);
}

TEST_CASE("while the device is not eligible it is disconnected and idle, and it takes the round up again later") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  world.trainer_answers = false;
  world.boot();
  world.give(EligibilityChanged{false, "on battery"});
  CHECK(world.stops == 1);
  CHECK_FALSE(world.connected);
  CHECK(world.session->phase() == SessionPhase::resting);
  CHECK(world.session->round().has_value());
  world.trainer_answers = true;
  world.give(EligibilityChanged{true, ""});
  world.run();
  CHECK(world.session->receipts_accepted() == 1);
}

TEST_CASE("a round that the owner's policy forbids after a restart does not go on, and nothing of it leaves") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  world.trainer_answers = false;
  world.boot();
  REQUIRE(world.session->round().has_value());
  world.config.policy.weakest_mode = wire::PrivacyMode::secure;
  world.trainer_answers = true;
  const auto sent_before = world.sent.size();
  const auto runs_before = world.training_runs;
  world.boot();
  CHECK(world.training_runs == runs_before);
  for (std::size_t i = sent_before; i < world.sent.size(); ++i) {
    CHECK_FALSE(std::holds_alternative<wire::SubmitBegin>(world.sent[i]));
    CHECK_FALSE(std::holds_alternative<wire::SubmitChunk>(world.sent[i]));
  }
  CHECK(world.uploads.empty());
}

TEST_CASE("a round whose deadline passes is dropped, in training and in a pause") {
  for (const bool paused : {false, true}) {
    SessionWorld world;
    world.plans = {sample_plan(1)};
    world.trainer_answers = false;
    world.boot();
    if (paused) world.give(EligibilityChanged{false, "user"});
    while (world.session->round() && !world.timers.empty()) world.fire_next();
    CHECK_FALSE(world.session->round().has_value());
    CHECK(world.stops == 1);
  }
}

TEST_CASE("a coordinator that cannot be reached is asked at growing intervals, never more than a minute and a half") {
  SessionWorld world;
  world.connecting_fails = true;
  world.boot();
  std::int64_t longest = 0;
  std::int64_t last = world.now;
  for (int i = 0; i < 30; ++i) {
    world.fire_next();
    longest = std::max(longest, world.now - last);
    last = world.now;
  }
  CHECK(longest >= 60'000);
  CHECK(longest <= 90'000);
  world.connecting_fails = false;
  world.plans = {sample_plan(1)};
  world.run();
  CHECK(world.session->receipts_accepted() == 1);
}

TEST_CASE("the coordinator's word that the task is finished is kept until it offers again") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  world.finish_after_plans = true;
  world.boot();
  for (int i = 0; i < 3; ++i) world.fire_next();
  CHECK(world.session->finished());
}

TEST_CASE("a conflicting receipt ends the round without counting it") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  world.trainer_answers = false;
  world.boot();
  world.connected = false;  // swallow the announcement
  world.give(world.trained(RoundId{1}));
  world.connected = true;
  world.give(MessageReceived{wire::Receipt{RoundId{1}, test::hash_of(9), wire::ReceiptStatus::accepted}});
  CHECK(world.session->round().has_value());  // a receipt for other content is not ours
  world.give(MessageReceived{wire::Receipt{RoundId{1}, test::hash_of(9), wire::ReceiptStatus::conflicting}});
  CHECK_FALSE(world.session->round().has_value());
  CHECK(world.session->receipts_accepted() == 0);
}

TEST_CASE("rows that nobody signed are not restored") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  world.trainer_answers = false;
  world.boot();
  auto row = world.store.get(kSessionTable, store::key_of("open"));
  REQUIRE_OK(row);
  REQUIRE(row->has_value());
  for (std::size_t i = 0; i < (**row).size(); i += 7) {
    Bytes changed = **row;
    changed[i] ^= 0x40;
    REQUIRE_OK(world.store.put(kSessionTable, store::key_of("open"), changed));
    Session session(world.config);
    const auto restored = session.restore(world.store);
    // The state, the deadline and the report are not signed; all that decides what is done is.
    if (restored.ok()) CHECK(session.round() == RoundId{1});
  }
  REQUIRE_OK(world.store.put(kSessionTable, store::key_of("open"), Bytes{1, 2, 3}));
  Session session(world.config);
  CHECK_FALSE(session.restore(world.store).ok());
}

TEST_CASE("a coordinator too busy for an upload is asked again when it said") {
  SessionWorld world;
  world.plans = {sample_plan(1)};
  world.trainer_answers = false;
  world.boot();
  world.connected = false;  // swallow the announcement
  world.give(world.trained(RoundId{1}));
  world.connected = true;
  const std::int64_t before = world.now;
  world.give(MessageReceived{wire::CheckBack{5'000, wire::WaitReason::busy}});
  CHECK_FALSE(world.connected);
  world.run();
  CHECK(world.now >= before + 5'000);
  CHECK(world.now <= before + 10'000);
  CHECK(world.session->receipts_accepted() == 1);
}

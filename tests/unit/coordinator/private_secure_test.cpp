// Real devices' halves of secure aggregation around the round machine. Distributed noise: a round is charged in a
// commit before the unmask request leaves, whatever becomes of it, and the run stops before its budget. Grouped mode: a
// coordinator that is killed behind any commit ends with the same version.
#include <algorithm>
#include <deque>
#include <memory>

#include "aggregation/secagg_client.h"
#include "aggregation/secagg_words.h"
#include "coordinator/privacy_report.h"
#include "coordinator/verify.h"
#include "core/crypto/identity.h"
#include "core/wire/codec.h"
#include "core/wire/message.h"
#include "core/wire/signing.h"
#include "machine_world.h"
#include "tests/support/support.h"

namespace covey::coordinator {
namespace {
using namespace aggregation;  // NOLINT: this file is about both halves

TaskConfig noised_task() {
  TaskConfig config = test_world::small_task();
  config.rounds = 3;
  config.goal_count = 6;
  config.min_count = 4;
  config.server_optimizer = {};
  config.privacy = {};
  config.privacy.clip_norm = 1;
  config.privacy.survivors_min = 4;
  config.privacy.phase_ms = 1000;
  config.privacy.noise = {wire::NoiseKind::discrete_gaussian, 1};
  config.privacy.dp.budget = {1e4, 1e-6};
  return config;
}

template <class T>
T must(Result<T> result) {
  REQUIRE_OK(result);
  return *std::move(result);
}

struct Member {
  crypto::IdentityKey identity;
  std::optional<SecAggClient> client;
  SecAggLedger ledger;
  wire::RoundPlan plan;
  std::vector<std::uint32_t> words;
  Bytes update;
  std::optional<wire::Message> last;  ///< said, and said again to a coordinator that was away
};

TaskConfig grouped_task() {
  TaskConfig config = test_world::small_task();
  config.rounds = 2;
  config.goal_count = 6;
  config.min_count = 6;
  config.server_optimizer = {};
  config.privacy = {};
  config.privacy.mode = wire::PrivacyMode::grouped;
  config.privacy.groups = 3;
  config.privacy.survivors_min = 2;
  config.privacy.clip_norm = 1;
  config.aggregation.rule = Strategy::median;
  return config;
}

/// A machine and six devices that train nothing: their deltas are zero, so that what comes out is noise.
class Fleet {
 public:
  explicit Fleet(const TaskConfig& config) : config_(config) {
    for (std::uint8_t i = 1; i <= 6; ++i) {
      auto member =
          std::make_unique<Member>(Member{*crypto::IdentityKey::from_seed(Bytes(32, i)), {}, {}, {}, {}, {}, {}});
      const DeviceId id = member->identity.device_id();
      members_.emplace(id, std::move(member));
    }
    boot();
  }

  void boot() {
    auto made = RoundMachine::create(config_, [](const DeviceId&, std::uint64_t) { return true; });
    REQUIRE_OK(made);
    machine.emplace(*std::move(made));
    REQUIRE_OK(machine->restore(store));
    queue_.clear();
    answers_.clear();
    evaluated_.clear();
    timers_.clear();
    step(Started{});
  }

  void run(int ticks = 400) {
    while (ticks-- > 0 && machine->phase() != Phase::finished) {
      for (auto& [id, member] : members_) {
        wire::CheckIn here;
        here.capabilities.weakest_mode = wire::PrivacyMode::grouped;
        if (!member->client) queue_.emplace_back(id, here);
      }
      drain();
      // Devices come back before any deadline passes.
      if (std::exchange(came_back_, false) || timers_.empty()) continue;
      const auto due = std::ranges::min_element(timers_, {}, [](const auto& entry) { return entry.second; });
      const TimerId timer = due->first;
      now = std::max(now + 1, due->second);
      timers_.erase(due);
      step(TimerFired{timer});
      drain();
    }
  }

  store::MemoryStore store;
  std::optional<RoundMachine> machine;
  bool unmasks = true;             ///< devices answer the last question
  std::vector<std::string> order;  ///< "charge", "unmask", "ended": as they came
  std::vector<RoundEnded> ended;
  std::int64_t now = 0;
  int commits = 0;       ///< made so far
  int killed_after = 0;  ///< the coordinator dies behind this one; what waited for it is not sent

 private:
  void step(const Event& event) {
    if (!killed(event)) return;
    killed_after = 0;
    came_back_ = true;
    boot();
    for (auto& [id, member] : members_) {
      if (member->client && member->last) queue_.emplace_back(id, *member->last);
    }
  }

  /// True where the coordinator died in this step.
  bool killed(const Event& event) {
    for (Effect& effect : machine->step(event, now)) {
      if (auto* persist = std::get_if<Persist>(&effect)) {
        for (const auto& write : persist->writes) {
          if (write.table == "privacy") order.emplace_back("charge");
        }
        REQUIRE_OK(store.commit(persist->writes));
        if (++commits == killed_after) return true;
      } else if (auto* send = std::get_if<Send>(&effect)) {
        if (std::holds_alternative<wire::SecureUnmask>(send->message)) order.emplace_back("unmask");
        const auto frame = wire::encode_frame(send->message);
        REQUIRE_OK(frame);
        answers_.emplace_back(send->device, wire::decode_frame(*frame)->message);
      } else if (auto* timer = std::get_if<SetTimer>(&effect)) {
        timers_[timer->timer] = timer->at_ms;
      } else if (auto* cancel = std::get_if<CancelTimer>(&effect)) {
        timers_.erase(cancel->timer);
      } else if (auto* evaluate = std::get_if<Evaluate>(&effect)) {
        evaluated_.push_back({evaluate->version, 1.0, 0.5, 1});
      } else if (auto* round = std::get_if<RoundEnded>(&effect)) {
        if (round->round.value > 0) order.emplace_back("ended");
        if (round->round.value > 0) ended.push_back(*round);
      }
    }
    return false;
  }

  void say(const DeviceId& id, Member& member, wire::Message message) {
    member.last = message;
    queue_.emplace_back(id, std::move(message));
  }

  void drain() {
    while (!queue_.empty() || !answers_.empty() || !evaluated_.empty()) {
      if (!evaluated_.empty()) {
        const Evaluated answer = evaluated_.front();
        evaluated_.pop_front();
        step(answer);
      } else if (!answers_.empty()) {
        auto [id, message] = std::move(answers_.front());
        answers_.pop_front();
        std::visit([&, device = id](const auto& m) { hear(device, *members_.at(device), m); }, message);
      } else {
        auto [id, message] = std::move(queue_.front());
        queue_.pop_front();
        step(MessageReceived{id, std::move(message)});
      }
    }
  }

  /// Noise alone, or where the plan has none a small update that is this device's own.
  static std::vector<std::uint32_t> words_of(const DeviceId& id, const wire::RoundPlan& plan,
                                             const SecAggClientInputs& inputs) {
    std::vector<float> delta(16);
    if (plan.noise.kind != wire::NoiseKind::none) {
      dp::NoiseBits noise(crypto::hash_in("test noise", inputs.seed).span());
      return must(secagg_noised_contribution(inputs.setup.spec, dp::distributed_of(plan), delta,
                                             seeded_bits(inputs.seed), noise, inputs.setup.bits));
    }
    for (std::size_t i = 0; i < 16; ++i) delta[i] = static_cast<float>(id.key[i]) / 2048;
    return must(secagg_contribution(inputs.setup.spec, delta, 1, seeded_bits(inputs.seed), inputs.setup.bits));
  }
  void hear(const DeviceId& id, Member& member, const wire::TaskOffer& m) {
    if (member.client) return;  // it asked twice before the invitation was a row
    member.plan = must(wire::decode<wire::RoundPlan>(m.plan));
    SecAggClientInputs inputs;
    inputs.setup = must(SecAggSetup::of(member.plan, wire::plan_hash(m.plan), 16));
    inputs.version = member.plan.base_version;
    inputs.identity = &member.identity;
    inputs.roster = [](const wire::Key&) { return true; };
    inputs.seed = id.key;
    inputs.seed[0] ^= static_cast<std::uint8_t>(member.plan.round.value);
    inputs.masked_per_version_max = 9;  // rounds are aborted here after masking, and tried again
    member.words = words_of(id, member.plan, inputs);
    member.client.emplace(must(SecAggClient::create(std::move(inputs))));
    queue_.emplace_back(id, wire::TaskAnswer{member.plan.round, true, wire::RefusalReason::none});
    say(id, member, must(member.client->advertise(member.ledger)));
  }
  void hear(const DeviceId& id, Member& member, const wire::SecureList& m) {
    say(id, member, must(member.client->share(m)));
  }
  void hear(const DeviceId& id, Member& member, const wire::SecureInbox& m) {
    if (member.client->phase() == SecAggClient::Phase::shared) {
      member.update = wire::encode(must(member.client->mask(m, member.words, member.ledger)));
    }
    say(id, member,
        wire::SubmitBegin{
            member.plan.round, wire::UpdateKind::masked, wire::content_hash(member.update), member.update.size(), {}});
  }
  void hear(const DeviceId& id, Member& member, const wire::SubmitNext& m) {
    queue_.emplace_back(id, wire::SubmitChunk{m.round, 0, member.update});
  }
  void hear(const DeviceId& id, Member& member, const wire::SecureSurvivors& m) {
    say(id, member, must(member.client->agree(m)));
  }
  void hear(const DeviceId& id, Member& member, const wire::SecureUnmask& m) {
    if (unmasks) say(id, member, must(member.client->unmask(m)));
  }
  void hear(const DeviceId&, Member& member, const wire::SecureAbort&) { member.client.reset(); }
  template <typename Other>
  void hear(const DeviceId&, Member&, const Other&) {}

  TaskConfig config_;
  bool came_back_ = false;
  std::map<DeviceId, std::unique_ptr<Member>> members_;
  std::deque<std::pair<DeviceId, wire::Message>> queue_;    ///< to the coordinator
  std::deque<std::pair<DeviceId, wire::Message>> answers_;  ///< to devices
  std::deque<Evaluated> evaluated_;
  std::map<TimerId, std::int64_t> timers_;
};

PrivacyReport report_in(const TaskConfig& config, store::Store& store) {
  const auto report = read_privacy_report(config, store);
  REQUIRE_OK(report);
  REQUIRE(report->has_value());
  return **report;
}

}  // namespace

TEST_CASE("each round with devices' noise is charged once, before the unmask request, and its sum has the noise") {
  for (const auto kind : {wire::NoiseKind::discrete_gaussian, wire::NoiseKind::skellam}) {
    TaskConfig config = noised_task();
    config.privacy.noise.kind = kind;
    Fleet fleet(config);
    fleet.run();
    REQUIRE(fleet.machine->published() == 3);
    REQUIRE(fleet.order.size() == 3 * (1 + 6 + 1));
    for (std::size_t i = 0; i < fleet.order.size(); ++i) {
      CHECK(fleet.order[i] == (i % 8 == 0 ? "charge" : i % 8 == 7 ? "ended" : "unmask"));
    }
    // Six shares of 1/4 of the variance that is claimed, over a goal of 6: deviation sqrt(6/4) sensitivity / 6.
    CHECK(fleet.ended[0].row.delta_norm > 0.3);
    CHECK(fleet.ended[0].row.delta_norm < 2.5);
    const PrivacyReport report = report_in(config, fleet.store);
    CHECK(report.rounds_charged == 3);
    CHECK(report.epsilon > 5);  // a multiplier of 1, three times
    CHECK(report.epsilon < 40);
    CHECK(report.words().find("at least 4 devices") != std::string::npos);  // ceil(0.9 x 4)
    CHECK(report.words().find("demonstration") != std::string::npos);
    CHECK(report.words().find(kind == wire::NoiseKind::skellam ? "Skellam" : "discrete Gaussian") != std::string::npos);
  }
}

TEST_CASE("a charge is not given back where the shares never come, and holds after a restart") {
  TaskConfig config = noised_task();
  config.rounds_tried_max = 2;
  Fleet fleet(config);
  fleet.unmasks = false;
  fleet.run();
  CHECK(fleet.machine->published() == 0);
  REQUIRE(fleet.ended.size() == 2);
  CHECK(report_in(config, fleet.store).rounds_charged == 2);
  fleet.boot();
  CHECK(report_in(config, fleet.store).rounds_charged == 2);
}

TEST_CASE("a task of devices' noise stops before epsilon_max, and stays stopped") {
  TaskConfig config = noised_task();
  config.rounds = 50;
  config.privacy.dp.budget.epsilon_max = 12;
  Fleet fleet(config);
  fleet.run(2000);
  CHECK(fleet.machine->phase() == Phase::finished);
  const PrivacyReport report = report_in(config, fleet.store);
  CHECK(report.rounds_charged == fleet.machine->published());
  CHECK(report.rounds_charged > 1);
  CHECK(report.rounds_charged < 10);
  CHECK(report.epsilon <= 12);
  fleet.boot();
  CHECK(fleet.machine->phase() == Phase::finished);
}

TEST_CASE(
    "a coordinator killed behind any commit of a grouped task ends with the same version, and nothing is left over") {
  Fleet steady(grouped_task());
  steady.run();
  REQUIRE(steady.machine->published() == 2);
  CHECK(steady.ended[0].row.contributors == 6);
  CHECK(steady.ended[0].row.weight == 6);
  const std::vector<float> expected(steady.machine->values().begin(), steady.machine->values().end());
  REQUIRE(steady.commits > 10);
  for (int at = 1; at <= steady.commits; ++at) {
    CAPTURE(at);
    Fleet fleet(grouped_task());
    fleet.killed_after = at;
    fleet.run();
    REQUIRE(fleet.machine->published() == 2);
    CHECK(fleet.machine->round().value == 2);  // none was lost
    CHECK(std::ranges::equal(fleet.machine->values(), expected));
    const auto checks = verify_store(fleet.store, nullptr);
    REQUIRE_OK(checks);
    for (const auto& check : *checks) CHECK_MESSAGE(check.problem.empty(), check.name << ": " << check.problem);
    int rows = 0;
    for (const char* table : {kSecureTable, "sums"}) {
      REQUIRE_OK(fleet.store.scan(table, {}, [&](ByteSpan, ByteSpan) -> Status {
        ++rows;
        return {};
      }));
    }
    CHECK(rows == 0);
  }
}

TEST_CASE("noise of the devices' needs secure mode, equal weights, a budget and shares that are not too fine") {
  CHECK(noised_task().check().ok());
  const auto refused = [](auto change) {
    TaskConfig config = noised_task();
    change(config);
    const Status status = config.check();
    return status.ok() ? std::string() : status.error().message;
  };
  CHECK(refused([](auto& c) { c.privacy.mode = wire::PrivacyMode::robust; }).find("secure") != std::string::npos);
  CHECK(refused([](auto& c) { c.privacy.weight_max = 2; }).find("weight_max") != std::string::npos);
  CHECK(refused([](auto& c) { c.privacy.dp.budget.epsilon_max = 0; }).find("epsilon_max") != std::string::npos);
  CHECK(refused([](auto& c) { c.privacy.noise.multiplier = 0; }).find("noise") != std::string::npos);
  CHECK(refused([](auto& c) {
          c.privacy.value_bits = 4;
          c.privacy.noise.multiplier = 1e-2;
        }).find("noise") != std::string::npos);
}

}  // namespace covey::coordinator

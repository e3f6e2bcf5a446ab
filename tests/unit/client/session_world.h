/// A device's session between a fake coordinator, a fake trainer and a store that survives it: enough world to lead the
/// state machine anywhere, and to kill it before any effect.
#pragma once

#include <cmath>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "adapters/layout.h"
#include "client/session.h"
#include "core/base/rng.h"
#include "core/crypto/identity.h"
#include "core/store/memory_store.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"
#include "roster_world.h"
#include "support/support.h"

namespace covey::test {

inline wire::Hash hash_of(std::uint8_t fill) {
  wire::Hash out{};
  out.fill(fill);
  return out;
}

/// A plan with P = rank * (in + out) values that a session of `session_config()` accepts.
inline wire::RoundPlan sample_plan(std::uint64_t round = 1, int width = 8) {
  adapters::AdapterLayout layout;
  layout.lora.push_back({"model.layers.0.self_attn.q_proj", width, width, 2, 4.0, false, 0});
  layout.size = std::int64_t{4} * width;
  wire::RoundPlan plan;
  plan.task = "assistant";
  plan.round = RoundId{round};
  plan.model = {{"config.json", hash_of(1), 100}, {"model.safetensors", hash_of(2), 1000}};
  plan.adapter_layout = layout.canonical();
  plan.adapter = {"adapter.f32", hash_of(3), static_cast<std::uint64_t>(layout.size) * 4};
  plan.learning_rate = 0.01;
  plan.local_steps = 4;
  plan.local_steps_max = 100;
  plan.batch = 2;
  plan.seq = 16;
  plan.mode = wire::PrivacyMode::robust;
  plan.clip_norm = 1;
  plan.value_bits = 16;
  plan.weight_max = 64;
  plan.cohort_invited = 4;
  plan.goal_count = 3;
  plan.min_count = 2;
  plan.update_bytes_max = std::uint64_t{1} << 24;
  plan.deadline_ms = 600'000;
  plan.roster_epoch = 1;
  return plan;
}

/// The same in secure mode: sums over at least 3 of 4 devices.
inline wire::RoundPlan secure_plan(std::uint64_t round = 1) {
  auto plan = sample_plan(round);
  plan.mode = wire::PrivacyMode::secure;
  plan.secure = {.corrupt_fraction = 0.1, .dropout_fraction = 0.2, .survivors_min = 3, .phase_ms = 10'000};
  return plan;
}

inline client::SessionConfig session_config() {
  client::SessionConfig config;
  config.task = "assistant";
  config.coordinator = key_of_seed(7).public_key().bytes;
  config.roster = key_of_seed(9).public_key().bytes;
  config.identity = key_of_seed(1).public_key().bytes;
  static const crypto::IdentityKey identity = key_of_seed(1);
  config.identity_key = &identity;
  config.policy.weakest_mode = wire::PrivacyMode::robust;
  config.policy.survivors_min = 3;
  config.jitter_seed = 5;
  return config;
}

inline wire::Capabilities capable() {
  wire::Capabilities capabilities;
  capabilities.examples = 64;
  return capabilities;
}

/// Executes effects at once and in order, on virtual time.
struct SessionWorld {
  client::SessionConfig config = session_config();
  store::MemoryStore store;
  std::unique_ptr<client::Session> session;
  std::int64_t now = 1'000'000;
  std::map<client::SessionTimer, std::int64_t> timers;
  std::deque<client::Event> events;
  bool connected = false;
  bool connecting_fails = false;
  bool trainer_answers = true;
  bool fetches_answer = true;
  int values = 32;

  // coordinator
  crypto::IdentityKey coordinator = key_of_seed(7);
  TestRoster roster;
  bool roster_answers = true;
  std::uint64_t claimed_epoch = 0;     ///< what Welcome says instead of the roster's head; 0: the truth
  std::vector<wire::RoundPlan> plans;  ///< offered in turn, each until there is a receipt or a refusal
  std::size_t next_plan = 0;
  std::map<std::uint64_t, wire::SubmitBegin> announced;
  std::map<std::uint64_t, Bytes> uploads;
  std::set<std::uint64_t> complete;
  bool finish_after_plans = false;

  // what was seen
  std::vector<wire::Message> sent;
  std::map<std::uint64_t, std::set<std::string>> contents;  ///< round -> content hashes announced
  int effects = 0;
  int crash_before = -1;  ///< the effect before which the process dies, once
  int crashes = 0;
  std::uint8_t training_runs = 0;
  int stops = 0;

  SessionWorld() { roster.add(1); }

  void boot() {
    session = std::make_unique<client::Session>(config);
    const auto restored = session->restore(store);
    REQUIRE_OK(restored);
    timers.clear();
    events.clear();
    connected = false;
    events.emplace_back(client::CapabilitiesChanged{capable()});
    events.emplace_back(client::Started{});
    pump();
  }

  void give(client::Event event) {
    events.push_back(std::move(event));
    pump();
  }

  void pump() {
    while (!events.empty()) {
      const client::Event event = std::move(events.front());
      events.pop_front();
      for (auto& effect : session->step(event, now)) {
        if (effects++ == crash_before) {
          ++crashes;
          return boot();
        }
        std::visit([this](auto& e) { perform(e); }, effect);
      }
    }
  }

  /// Fires timers in order until the session rests with nothing left to offer, or `steps` timers have fired.
  void run(int steps = 200) {
    while (steps-- > 0 && !settled() && !timers.empty()) fire_next();
  }
  [[nodiscard]] bool settled() const {
    return next_plan >= plans.size() && session->phase() == client::SessionPhase::resting;
  }
  void fire_next() {
    auto due = timers.begin();
    for (auto it = timers.begin(); it != timers.end(); ++it)
      if (it->second < due->second) due = it;
    now = std::max(now, due->second);
    const auto timer = due->first;
    timers.erase(due);
    give(client::TimerFired{timer});
  }

  void perform(client::Persist& e) { REQUIRE_OK(store.commit(e.writes)); }
  void perform(client::Connect&) {
    connected = !connecting_fails;
    if (connected) {
      reply(wire::Welcome{0, claimed_epoch > 0 ? claimed_epoch : roster.head(), {}});
    } else {
      events.emplace_back(client::ConnectionLost{});
    }
  }
  void perform(client::Disconnect&) { connected = false; }
  void perform(client::SetTimer& e) { timers[e.timer] = e.at_ms; }
  void perform(client::CancelTimer& e) { timers.erase(e.timer); }
  void perform(client::Fetch& e) {
    if (fetches_answer) events.emplace_back(client::Fetched{e.file.blob, e.file.bytes, 10});
  }
  void perform(client::Train& e) {
    ++training_runs;
    if (trainer_answers) events.emplace_back(trained(e.plan.round));
  }
  void perform(client::StopTraining&) { ++stops; }
  void perform(client::Send& e) {
    sent.push_back(e.message);
    if (connected) std::visit([this](const auto& m) { serve(m); }, e.message);
  }

  /// Every run rounds with another seed, as a real driver would.
  [[nodiscard]] client::TrainingDone trained(RoundId round) const {
    client::TrainingDone done;
    done.round = round;
    for (int i = 0; i < values; ++i) done.outcome.delta.push_back(0.001F * static_cast<float>(i % 97));
    done.outcome.weight = 10;
    done.outcome.report.steps = 4;
    done.seed.fill(static_cast<std::uint8_t>(training_runs + 1));
    done.session_seed.fill(static_cast<std::uint8_t>(training_runs + 101));
    return done;
  }

  void reply(wire::Message message) { events.emplace_back(client::MessageReceived{std::move(message)}); }
  wire::TaskOffer offer(const wire::RoundPlan& plan) {
    auto made = wire::sign_plan(wire::encode(plan), coordinator);
    made.left_ms = plan.deadline_ms;
    return made;
  }

  void serve(const wire::RosterRequest& m) {
    if (roster_answers) reply(roster.after(m.after_epoch));
  }
  void serve(const wire::CheckIn& m) {
    while (next_plan < plans.size() && plans[next_plan].round <= m.last_round) ++next_plan;
    if (next_plan < plans.size()) return reply(offer(plans[next_plan]));
    reply(wire::CheckBack{1000, finish_after_plans ? wire::WaitReason::finished : wire::WaitReason::no_round});
  }
  void serve(const wire::TaskAnswer& m) {
    if (!m.accepted) ++next_plan;
  }
  void serve(const wire::SubmitBegin& m) {
    contents[m.round.value].insert(to_hex(m.content));
    if (complete.contains(m.round.value)) return receipt(m.round.value);
    announced.emplace(m.round.value, m);
    reply(wire::SubmitNext{m.round, static_cast<std::uint32_t>(uploads[m.round.value].size() / wire::kChunkBytes)});
  }
  void serve(const wire::SubmitChunk& m) {
    auto& have = uploads[m.round.value];
    const auto& begin = announced.at(m.round.value);
    if (have.size() != std::size_t{m.chunk} * wire::kChunkBytes) return;
    have.insert(have.end(), m.bytes.begin(), m.bytes.end());
    if (have.size() < begin.bytes) return reply(wire::SubmitNext{m.round, m.chunk + 1});
    complete.insert(m.round.value);
    receipt(m.round.value);
  }
  void receipt(std::uint64_t round) {
    const auto& begin = announced.at(round);
    const bool intact = wire::content_hash(uploads[round]) == begin.content;
    reply(wire::Receipt{RoundId{round}, begin.content,
                        intact ? wire::ReceiptStatus::accepted : wire::ReceiptStatus::refused});
  }
  template <typename Other>
  void serve(const Other&) {}

  template <typename T>
  [[nodiscard]] int count() const {
    int n = 0;
    for (const auto& message : sent) n += std::holds_alternative<T>(message) ? 1 : 0;
    return n;
  }
  [[nodiscard]] wire::RefusalReason last_refusal() const {
    for (auto it = sent.rbegin(); it != sent.rend(); ++it)
      if (const auto* answer = std::get_if<wire::TaskAnswer>(&*it)) return answer->reason;
    return wire::RefusalReason::none;
  }
};

}  // namespace covey::test

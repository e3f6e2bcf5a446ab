// Secure aggregation within a round (security.md section 4): the client half (client/secure_round.h) driven by the
// session's events and commits; and the roster that its lists are checked against.
#include <cmath>
#include <cstdio>

#include "adapters/layout.h"
#include "client/session_machine.h"
#include "core/wire/signing.h"

namespace covey::client {

// ---- secure aggregation
// -------------------------------------------------------------------------------------------------

void Session::Machine::say_secure(const wire::Message& message) {
  if (link != Link::up || following) return;
  send(message);
  if (secure->uploading()) {
    await_reply();
  } else {
    emit(CancelTimer{SessionTimer::reply});
  }
}

template <typename Question>
void Session::Machine::answer_secure(const Question& m) {
  if (!secure || m.round != open->plan.round) return;
  failures = 0;
  const auto before = secure->phase();
  auto answer = secure->on(m, ledger.secagg);
  if (!answer.ok()) return end_secure(secure->reason(), answer.error().message);
  const bool masked = before != secure->phase() && secure->phase() == SessionPhase::secure_mask;
  if (masked) {
    charge_privacy();
    count_correlated();
    persist({}, round_text(m.round) + " masked: " + std::to_string(secure->update().size()) +
                    " bytes, one of at least " + std::to_string(open->plan.secure.survivors_min) +
                    " that only a sum of can be read" + privacy_words());
  }
  say_secure(*answer);
}

void Session::Machine::on(const wire::SecureList& m) {
  answer_secure(m);
}
void Session::Machine::on(const wire::SecureInbox& m) {
  answer_secure(m);
}
void Session::Machine::on(const wire::SecureSurvivors& m) {
  answer_secure(m);
}
void Session::Machine::on(const wire::SecureUnmask& m) {
  answer_secure(m);
}

void Session::Machine::on(const wire::SecureAbort& m) {
  if (!secure || m.round != open->plan.round) return;
  failures = 0;
  if (m.reason != wire::SecureReason::none) {
    return drop(std::string("the coordinator ended secure aggregation: ") + wire::to_string(m.reason));
  }
  problem.clear();
  close_round(round_text(m.round) + " done: the coordinator has the sum");
  disconnect();
  rest(config.rest_ms);
}

void Session::Machine::end_secure(wire::SecureReason reason, const std::string& why) {
  const RoundId round = open->plan.round;
  note(round_text(round) + " dropped: " + why);
  close_round(problem);
  if (link != Link::up) {
    disconnect();
    return rest(kRefusalRest_ms);
  }
  send(wire::SecureAbort{round, reason});
  parting = true;
  emit(SetTimer{SessionTimer::reply, now + kParting_ms});
}

/// The plan's charge against this device's own account. It was allowed when the round was accepted, and no other round
/// was open since.
void Session::Machine::charge_privacy() {
  if (open->plan.noise.kind == wire::NoiseKind::none) return;
  auto account = privacy_account();
  if (!account.ok()) return;  // restore() has read it
  const auto layout = adapters::AdapterLayout::parse(open->plan.adapter_layout);
  const std::size_t values = aggregation::update_values(open->plan, static_cast<std::size_t>(layout->size));
  (void)account->charge(aggregation::dp::plan_charge(open->plan, values));
  ledger.privacy = account->serialize();
}

std::string Session::Machine::privacy_words() const {
  if (open->plan.noise.kind == wire::NoiseKind::none) return {};
  char text[96];
  std::snprintf(text, sizeof text, ", with its share of noise (epsilon %.3g at delta %.1g spent)", epsilon(),
                config.policy.delta);
  return text;
}

/// Without a bound of the owner's it only counts.
Result<aggregation::dp::Ledger> Session::Machine::privacy_account() const {
  const double most = config.policy.epsilon_max > 0 ? config.policy.epsilon_max : HUGE_VAL;
  const aggregation::dp::Budget budget{most, config.policy.delta};
  if (ledger.privacy.empty()) return aggregation::dp::Ledger(budget);
  return aggregation::dp::Ledger::restore(budget, ledger.privacy);
}

double Session::Machine::epsilon() const {
  const auto account = privacy_account();
  return account.ok() ? account->epsilon() : HUGE_VAL;
}

/// Whether the owner's bound bears another round of this plan.
PlanVerdict Session::Machine::judge_privacy(const wire::RoundPlan& plan) const {
  if (config.policy.epsilon_max <= 0) return {};
  if (plan.correlated.kind != wire::CorrelatedKind::none && config.policy.coordinator_noise) return {};
  if (plan.noise.kind == wire::NoiseKind::none)
    return {wire::RefusalReason::mode, "no noise; this device's policy asks for differential privacy (epsilon_max)"};
  const auto layout = adapters::AdapterLayout::parse(plan.adapter_layout);  // check_plan() has read it
  const std::size_t values = aggregation::update_values(plan, static_cast<std::size_t>(layout->size));
  const auto account = privacy_account();
  if (account.ok() && account->allows(aggregation::dp::plan_charge(plan, values))) return {};
  char text[160];
  std::snprintf(text, sizeof text, "this round would bring epsilon from %.3g over the owner's epsilon_max of %.3g",
                epsilon(), config.policy.epsilon_max);
  return {wire::RefusalReason::budget, text};
}

/// Whether this round's devices are drawn as the owner asks, this one among them.
PlanVerdict Session::Machine::judge_draw(const wire::RoundPlan& plan) const {
  if (plan.secure.drawn_below == 0) {
    if (!config.policy.sortition) return {};
    return {wire::RefusalReason::mode, "its devices are chosen freely; this device's policy asks for sortition"};
  }
  const auto root = roster.root(plan.roster_epoch);
  if (!root) return {wire::RefusalReason::policy, "its draw cannot be checked: its roster epoch is too old"};
  if (wire::draw_of(*root, plan.round, config.identity) < plan.secure.drawn_below) return {};
  return {wire::RefusalReason::bad_plan, "sortition did not draw this device"};
}

std::optional<aggregation::SecAggDraw> Session::Machine::draw_of_round() const {
  const auto& plan = open->plan;
  if (plan.secure.drawn_below == 0) return std::nullopt;
  const auto root = roster.root(plan.roster_epoch);
  // Where the epoch got too old meanwhile nothing can be checked: nobody counts as drawn.
  if (!root) return aggregation::SecAggDraw{};
  return aggregation::SecAggDraw{*root, plan.secure.drawn_below, roster.active_count(), config.policy.listed_share_min};
}

void Session::Machine::begin_secure(const TrainingDone& e) {
  auto& round = *open;
  auto begun = SecureRound::begin({.plan = &round.plan,
                                   .plan_hash = wire::plan_hash(round.plan_bytes),
                                   .outcome = &e.outcome,
                                   .rounding_seed = e.seed,
                                   .session_seed = e.session_seed,
                                   .noise_seed = e.noise_seed,
                                   .identity = config.identity_key,
                                   .roster = [this](const wire::Key& key) { return roster.active(key); },
                                   .draw = draw_of_round(),
                                   .masked_per_version_max = config.policy.masked_per_version_max},
                                  ledger.secagg);
  if (!begun.ok()) return refuse(e.round, wire::RefusalReason::failed, begun.error().message);
  secure.emplace(*std::move(begun));
  round.state = RoundState::securing;
  finish_training(e, {});
}

// ---- the roster
// ---------------------------------------------------------------------------------------------------------

void Session::Machine::follow_roster(std::uint64_t target) {
  const std::uint64_t known = roster.head().epoch;
  if (target < known)
    return distrust("the coordinator is at epoch " + std::to_string(target) + ", this device knows epoch " +
                    std::to_string(known));
  if (target == known) return roster_followed();
  following = true;
  roster_target = target;
  send(wire::RosterRequest{known});
  await_reply();
}

void Session::Machine::on(const wire::RosterReply& m) {
  if (!following) return;
  if (m.epochs.empty())
    return distrust("the coordinator speaks of epoch " + std::to_string(roster_target) + " and does not show it");
  RosterChain next = roster;
  std::vector<store::Write> writes;
  for (const auto& document : m.epochs) {
    const auto changes = next.extend(document);
    if (!changes.ok()) return distrust(changes.error().message);
    for (const auto& change : *changes) writes.push_back(roster_row(change));
  }
  roster = std::move(next);
  writes.push_back({kSessionTable, roster_key(), wire::encode(roster.head())});
  persist(std::move(writes), "");
  following = false;
  if (roster.head().epoch < roster_target) return follow_roster(roster_target);
  roster_followed();
}

void Session::Machine::roster_followed() {
  emit(CancelTimer{SessionTimer::reply});
  if (const auto listed = roster.check_listed(config.curve); !listed.ok()) return distrust(listed.error().message);
  distrust_told.clear();
  if (!held) return proceed();
  auto offer = *std::exchange(held, std::nullopt);
  offer.left_ms = std::max<std::int64_t>(offer.left_ms, 0) - (now - held_since);
  on(offer);
}

void Session::Machine::distrust(std::string why) {
  why = "roster refused: " + why;
  if (why != distrust_told) persist({}, why);
  distrust_told = why;
  fail_link(std::move(why));
}

void Session::Machine::welcome(const wire::Welcome& m) {
  link = Link::up;
  follow_roster(m.roster_epoch);
}

}  // namespace covey::client

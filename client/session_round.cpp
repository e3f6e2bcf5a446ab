// The link, and a round from the offer to the receipt.
#include "aggregation/update.h"
#include "client/session_machine.h"
#include "core/base/clock.h"
#include "core/wire/signing.h"

namespace covey::client {
namespace {
constexpr std::int64_t kRevokedRest_ms = 3600 * 1000;
constexpr std::int64_t kSecurePhases = 4;      ///< share, mask, agree, unmask
constexpr std::uint64_t kJournalMax = 10'000;  ///< entries; the oldest make room
}  // namespace

// ---- small effects
// ------------------------------------------------------------------------------------------------------

std::int64_t Session::Machine::limit_ms() const {
  if (open->state == RoundState::submitting) return open->deadline_ms + config.submit_grace_ms;
  if (open->state != RoundState::securing) return open->deadline_ms;
  return open->deadline_ms + kSecurePhases * open->plan.secure.phase_ms + config.submit_grace_ms;
}

// ---- durable changes
// ----------------------------------------------------------------------------------------------------

void Session::Machine::write_journal(std::vector<store::Write>& writes, const std::string& line) {
  if (ledger.journal_next >= kJournalMax)
    writes.push_back({kJournalTable, store::key_of(ledger.journal_next - kJournalMax), std::nullopt});
  writes.push_back({kJournalTable, store::key_of(ledger.journal_next++), wire::encode(JournalEntry{now, line})});
}

void Session::Machine::persist(std::vector<store::Write> writes, const std::string& journal) {
  if (!journal.empty()) write_journal(writes, journal);
  writes.push_back({kSessionTable, ledger_key(), wire::encode(ledger)});
  emit(Persist{std::move(writes)});
}

// ---- link
// ---------------------------------------------------------------------------------------------------------------

void Session::Machine::connect() {
  if (link != Link::down) return;
  parting = false;
  link = Link::connecting;
  emit(CancelTimer{SessionTimer::wake});
  emit(Connect{});
  await_reply();
}

void Session::Machine::link_is_down() {
  link = Link::down;
  parting = following = false;
  held.reset();
}

void Session::Machine::disconnect() {
  if (link == Link::down) return;
  link_is_down();
  emit(CancelTimer{SessionTimer::reply});
  emit(Disconnect{});
}

void Session::Machine::rest(std::int64_t at_least_ms) {
  const auto extra = static_cast<std::int64_t>(static_cast<double>(at_least_ms) * 0.25 * jitter.uniform());
  emit(SetTimer{SessionTimer::wake, now + at_least_ms + extra});
}

void Session::Machine::back_off() {
  const int doublings = std::min(failures++, 20);
  const std::int64_t base = std::min(config.backoff_first_ms << doublings, config.backoff_max_ms);
  const auto extra = static_cast<std::int64_t>(static_cast<double>(base) * 0.5 * jitter.uniform());
  emit(SetTimer{SessionTimer::wake, now + base + extra});
}

void Session::Machine::fail_link(std::string why) {
  note(std::move(why));
  disconnect();
  back_off();
}

// ---- what to do next
// ----------------------------------------------------------------------------------------------------

void Session::Machine::proceed() {
  if (!started || !eligible) return;
  if (open && now >= limit_ms()) return drop("deadline passed");
  if (open && open->state == RoundState::training) return train();
  if (link == Link::down) return connect();
  if (link == Link::connecting || following) return;
  if (!open) return check_in();
  if (open->state == RoundState::fetching) return fetch_next();
  if (open->state == RoundState::securing) return say_secure(secure->last());
  submit();
}

void Session::Machine::check_in() {
  send(wire::CheckIn{capabilities, RoundId{ledger.last_round}});
  await_reply();
}

void Session::Machine::fetch_next() {
  const auto& plan = open->plan;
  if (fetch_at <= plan.model.size()) {
    emit(Fetch{fetch_at < plan.model.size() ? plan.model[fetch_at] : plan.adapter});
    return;
  }
  open->state = RoundState::training;
  persist({{kSessionTable, open_key(), wire::encode(*open)}}, "");
  train();
}

void Session::Machine::train() {
  if (training) return;
  training = true;
  emit(Train{open->plan});
}

void Session::Machine::submit() {
  // The one place from which an upload starts; only `robust` plans reach RoundState::submitting.
  COVEY_ASSERT(open->plan.mode == wire::PrivacyMode::robust);
  send(wire::SubmitBegin{open->plan.round, wire::UpdateKind::clear, open->content, open->update.size(), open->report});
  await_reply();
}

// ---- a round's ends
// -----------------------------------------------------------------------------------------------------

void Session::Machine::close_round(const std::string& journal) {
  if (training) {
    training = false;
    emit(StopTraining{false});
  }
  secure.reset();  // and wipes its keys
  std::vector<store::Write> writes = {{kSessionTable, open_key(), std::nullopt},
                                      {kSessionTable, update_key(), std::nullopt}};
  if (!residual_next.empty()) writes.push_back({kSessionTable, residual_next_key(), std::nullopt});
  residual_next.clear();
  persist(std::move(writes), journal);
  emit(CancelTimer{SessionTimer::round_deadline});
  open.reset();
}

void Session::Machine::drop(const std::string& why) {
  note(round_text(open->plan.round) + " dropped: " + why);
  close_round(problem);
  disconnect();
  rest(config.rest_ms);
}

void Session::Machine::refuse(RoundId round, wire::RefusalReason reason, const std::string& why) {
  note(round_text(round) + " refused (" + wire::to_string(reason) + "): " + why);
  if (open) {
    close_round(problem);
  } else {
    persist({}, problem);
  }
  if (link != Link::up) {
    disconnect();
    return rest(kRefusalRest_ms);
  }
  send(wire::TaskAnswer{round, false, reason});
  parting = true;
  emit(SetTimer{SessionTimer::reply, now + kParting_ms});
}

// ---- messages; all arrive on a link that said Welcome
// -------------------------------------------------------------------

void Session::Machine::on(const wire::CheckBack& m) {
  if (parting) return;
  if (open) {  // it has no room for our upload now
    if (!uploading()) return;
    disconnect();
    return rest(std::clamp<std::int64_t>(m.retry_after_ms, 10, kDay_ms));
  }
  failures = 0;
  finished = m.reason == wire::WaitReason::finished;
  if (m.reason != wire::WaitReason::busy) problem.clear();
  disconnect();
  rest(std::clamp<std::int64_t>(m.retry_after_ms, 10, kDay_ms));
}

void Session::Machine::on(const wire::TaskOffer& m) {
  if (open || parting) return;
  auto plan = wire::open_plan(m, config.coordinator);
  if (!plan.ok()) return fail_link("an offer that cannot be trusted: " + plan.error().message);
  if (plan->task == config.task && plan->round.value > ledger.last_round) {
    if (plan->roster_epoch > roster.head().epoch) {  // signed since Welcome
      held = m;
      held_since = now;
      return follow_roster(plan->roster_epoch);
    }
    if (plan->roster_epoch < ledger.plan_epoch)
      return distrust(round_text(plan->round) + " goes back to epoch " + std::to_string(plan->roster_epoch) +
                      ", before that of an earlier round");
    ledger.plan_epoch = plan->roster_epoch;
  }
  failures = 0;
  const auto verdict = judge(*plan, m.left_ms);
  if (verdict.reason != wire::RefusalReason::none) return refuse(plan->round, verdict.reason, verdict.detail);

  open.emplace();
  open->plan_bytes = m.plan;
  open->signature = m.signature;
  open->plan = *std::move(plan);
  open->deadline_ms = now + std::min(m.left_ms, open->plan.deadline_ms);
  ledger.last_round = open->plan.round.value;
  count_round();
  fetch_at = 0;
  fetch_failures = 0;
  fetched_bytes = fetched_ms = 0;
  finished = false;
  persist({{kSessionTable, open_key(), wire::encode(*open)}},
          round_text(open->plan.round) + " accepted: " + open->plan.method + ", mode " +
              wire::to_string(open->plan.mode) + ", " + std::to_string(capabilities.examples) + "+ examples");
  emit(CancelTimer{SessionTimer::reply});
  emit(SetTimer{SessionTimer::round_deadline, open->deadline_ms});
  send(wire::TaskAnswer{open->plan.round, true, wire::RefusalReason::none});
  proceed();
}

PlanVerdict Session::Machine::judge(const wire::RoundPlan& plan, std::int64_t left_ms) {
  using wire::RefusalReason;
  if (plan.task != config.task) return {RefusalReason::bad_plan, "another task"};
  if (plan.round.value <= ledger.last_round) return {RefusalReason::policy, "this round was started before"};
  if (left_ms <= 0) return {RefusalReason::bad_plan, "no time left"};
  auto verdict = check_plan(plan, config.policy);
  if (verdict.reason != RefusalReason::none) return verdict;
  if (verdict = judge_draw(plan); verdict.reason != RefusalReason::none) return verdict;
  if (verdict = judge_privacy(plan); verdict.reason != RefusalReason::none) return verdict;
  if (verdict = judge_correlated(plan); verdict.reason != RefusalReason::none) return verdict;
  if (capabilities.examples == 0) return {RefusalReason::no_data, "no examples; `covey-device import FILE`"};
  const auto limit = config.policy.rounds_per_day_max;
  if (limit > 0 && ledger.day == now / kDay_ms && ledger.rounds_in_day >= limit)
    return {RefusalReason::budget, "rounds_per_day_max is reached"};
  // It would be found out in the mask phase as well; by then a round would count on this device.
  if (plan.mode != wire::PrivacyMode::robust && ledger.secagg.version == plan.base_version &&
      ledger.secagg.masked >= config.policy.masked_per_version_max)
    return {RefusalReason::policy, "a masked update for this version has left this device before"};
  return {};
}

void Session::Machine::count_round() {
  if (ledger.day != now / kDay_ms) {
    ledger.day = now / kDay_ms;
    ledger.rounds_in_day = 0;
  }
  ++ledger.rounds_in_day;
}

void Session::Machine::on(const wire::SubmitNext& m) {
  if (!uploading() || m.round != open->plan.round) return;
  failures = 0;
  const Bytes& update = secure ? secure->update() : open->update;
  const std::uint64_t first = std::uint64_t{m.chunk} * wire::kChunkBytes;
  if (first >= update.size()) return fail_link("the coordinator asks for a chunk beyond the update's end");
  const ByteSpan piece =
      ByteSpan(update).subspan(first).first(std::min<std::size_t>(wire::kChunkBytes, update.size() - first));
  send(wire::SubmitChunk{m.round, m.chunk, Bytes(piece.begin(), piece.end())});
  await_reply();
}

void Session::Machine::on(const wire::Receipt& m) {
  if (!uploading() || m.round != open->plan.round) return;
  const bool ours = m.content == (secure ? secure->content() : open->content);
  if (!ours && m.status != wire::ReceiptStatus::conflicting) return;
  failures = 0;
  const std::size_t bytes = secure ? secure->update().size() : open->update.size();
  const std::string line = round_text(m.round) + " " + wire::to_string(m.status) + ": " + std::to_string(bytes) +
                           " bytes of update sent in mode " + wire::to_string(open->plan.mode);
  if (m.status == wire::ReceiptStatus::accepted) {
    ++ledger.accepted;
    ledger.bytes_submitted += bytes;
    problem.clear();
    advance_residual();
    if (secure) {  // it counts; the others still need this device to take the masks off
      secure->acknowledged();
      emit(CancelTimer{SessionTimer::reply});
      return persist({}, line);
    }
  } else {
    note(round_text(m.round) + ": the coordinator answered " + wire::to_string(m.status));
  }
  close_round(line);
  disconnect();
  rest(config.rest_ms);
}

void Session::Machine::on(const wire::ErrorReply& m) {
  note(std::string("the coordinator says ") + wire::to_string(m.complaint) + ": " + shown(m.message, kProblemMax));
  disconnect();
  if (m.complaint == wire::Complaint::revoked) return rest(kRevokedRest_ms);
  back_off();
}

}  // namespace covey::client

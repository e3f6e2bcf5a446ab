// What may happen to a session, and how it comes back after a restart.
#include "client/session.h"

#include "aggregation/update.h"
#include "client/session_machine.h"
#include "core/wire/signing.h"

namespace covey::client {
namespace {
constexpr int kFetchTries = 5;
}  // namespace

// ---- events
// -------------------------------------------------------------------------------------------------------------

void Session::Machine::handle(const Started&) {
  started = true;
  if (open) {
    // The owner may have changed the policy since the round was accepted: it is asked again before anything goes on.
    const auto verdict = check_plan(open->plan, config.policy);
    if (verdict.reason != wire::RefusalReason::none) return drop("the policy forbids it now: " + verdict.detail);
    if (open->state == RoundState::securing)
      return drop("the process ended in secure aggregation, whose keys are never stored");
    emit(SetTimer{SessionTimer::round_deadline, limit_ms()});
  }
  proceed();
}

void Session::Machine::handle(const MessageReceived& e) {
  if (link == Link::down) return;
  if (link == Link::connecting) {
    if (const auto* hail = std::get_if<wire::Welcome>(&e.message)) return welcome(*hail);
    if (const auto* error = std::get_if<wire::ErrorReply>(&e.message)) return on(*error);
    return;
  }
  const bool waits = std::holds_alternative<wire::RosterReply>(e.message) ||
                     std::holds_alternative<wire::ErrorReply>(e.message) ||
                     std::holds_alternative<wire::CheckBack>(e.message);
  if (following && !waits) return;
  std::visit([this](const auto& message) { on(message); }, e.message);
}

void Session::Machine::handle(const ConnectionLost& e) {
  if (link == Link::down) return;
  link_is_down();
  emit(CancelTimer{SessionTimer::reply});
  if (!eligible || training) return;  // training goes on without a link and connects when it has something to say
  note(e.why.empty() ? "the connection was lost" : e.why);
  back_off();
}

void Session::Machine::handle(const TimerFired& e) {
  switch (e.timer) {
    case SessionTimer::wake:
      if (link == Link::down) proceed();
      return;
    case SessionTimer::reply:
      if (link == Link::down) return;
      if (parting) {
        disconnect();
        return rest(kRefusalRest_ms);
      }
      // While files come in, silence is the fetcher's to notice; while training, nobody owes us an answer.
      if (link == Link::up && !following && open && !uploading()) return;
      return fail_link("the coordinator did not answer in time");
    case SessionTimer::round_deadline:
      if (!open) return;
      if (now < limit_ms()) return emit(SetTimer{SessionTimer::round_deadline, limit_ms()});
      return drop("deadline passed");
  }
}

void Session::Machine::handle(const Fetched& e) {
  if (!fetching(e.blob)) return;
  fetch_failures = 0;
  fetched_bytes += e.bytes;
  fetched_ms += e.took_ms;
  ++fetch_at;
  fetch_next();
}

void Session::Machine::handle(const FetchFailed& e) {
  if (!fetching(e.blob)) return;
  if (++fetch_failures >= kFetchTries)
    return refuse(open->plan.round, wire::RefusalReason::failed, "download failed: " + e.reason);
  fail_link("download failed: " + e.reason);
}

bool Session::Machine::fetching(const wire::Hash& blob) const {
  if (!open || open->state != RoundState::fetching || link != Link::up || following) return false;
  const auto& model = open->plan.model;
  return fetch_at <= model.size() && (fetch_at < model.size() ? model[fetch_at] : open->plan.adapter).blob == blob;
}

void Session::Machine::handle(const TrainingProgressed& e) {
  // How many steps there are says how many examples this device has: not in modes that promise sums only.
  const bool may_tell = trains(e.round) && open->plan.mode == wire::PrivacyMode::robust;
  if (may_tell && link == Link::up) send(wire::Progress{e.round, e.step, e.steps});
}

void Session::Machine::handle(const TrainingFailed& e) {
  if (!trains(e.round)) return;
  training = false;
  const auto reason = e.refusal == wire::RefusalReason::none ? wire::RefusalReason::failed : e.refusal;
  refuse(e.round, reason, e.reason);
}

void Session::Machine::handle(const TrainingDone& e) {
  if (!trains(e.round)) return;
  training = false;
  if (open->plan.mode != wire::PrivacyMode::robust) return begin_secure(e);
  auto& round = *open;
  std::vector<store::Write> writes;
  auto update = protect(e, writes);
  if (!update.ok()) return refuse(e.round, wire::RefusalReason::failed, update.error().message);
  round.update = wire::encode(*update);
  if (round.update.size() > round.plan.update_bytes_max)
    return refuse(e.round, wire::RefusalReason::bad_plan, "update_bytes_max: below the size of an update");
  round.content = wire::content_hash(round.update);
  round.report = report_of(e.outcome);
  round.state = RoundState::submitting;
  count_correlated();
  writes.push_back({kSessionTable, update_key(), round.update});
  finish_training(e, std::move(writes));
}

wire::TrainingReport Session::Machine::report_of(const TrainingOutcome& outcome) const {
  wire::TrainingReport report = outcome.report;
  if (fetched_ms > 0)
    report.bytes_per_s = 1000.0 * static_cast<double>(fetched_bytes) / static_cast<double>(fetched_ms);
  return report;
}

void Session::Machine::finish_training(const TrainingDone& e, std::vector<store::Write> writes) {
  const auto report = report_of(e.outcome);
  if (report.tokens_per_s > 0) capabilities.tokens_per_s = report.tokens_per_s;
  if (report.bytes_per_s > 0) capabilities.bytes_per_s = report.bytes_per_s;
  writes.push_back({kSessionTable, open_key(), wire::encode(*open)});
  persist(std::move(writes), round_text(e.round) + " trained: " + std::to_string(report.steps) + " steps, " +
                                 std::to_string(report.tokens) + " tokens");
  emit(SetTimer{SessionTimer::round_deadline, limit_ms()});
  emit(StopTraining{false});
  proceed();
}

void Session::Machine::handle(const EligibilityChanged& e) {
  if (eligible == e.eligible) return;
  eligible = e.eligible;
  if (eligible) {
    problem.clear();
    return proceed();
  }
  note("paused: " + e.reason);
  if (training) {
    training = false;
    emit(StopTraining{true});
  }
  disconnect();
  emit(CancelTimer{SessionTimer::wake});
}

void Session::Machine::handle(const Forgotten&) {
  if (!training) emit(StopTraining{false});  // a checkpoint may lie there from before a pause
  if (!residual.empty()) {                   // made from the examples, too
    residual.clear();
    persist({{kSessionTable, residual_key(), std::nullopt}}, "");
  }
  if (open) drop("its examples were forgotten");
}

void Session::Machine::handle(const CapabilitiesChanged& e) {
  const double tokens_per_s = capabilities.tokens_per_s;
  const double bytes_per_s = capabilities.bytes_per_s;
  capabilities = e.capabilities;
  if (capabilities.tokens_per_s <= 0) capabilities.tokens_per_s = tokens_per_s;
  if (capabilities.bytes_per_s <= 0) capabilities.bytes_per_s = bytes_per_s;
}

Status Session::Machine::restore(store::Store& store, const ActiveDevices& active) {
  COVEY_ASSIGN(const auto ledger_row, store.get(kSessionTable, ledger_key()));
  if (ledger_row) {
    COVEY_ASSIGN(ledger, wire::decode<Ledger>(*ledger_row));
    COVEY_TRY(privacy_account());
  }
  COVEY_ASSIGN(const auto head_row, store.get(kSessionTable, roster_key()));
  if (head_row) {
    COVEY_ASSIGN(const auto head, wire::decode<RosterHead>(*head_row));
    if (active) {
      roster.restore(head, active);
    } else {
      const auto listed = std::make_shared<std::set<wire::Key>>();
      COVEY_TRY(store.scan(kRosterTable, {}, [&](ByteSpan key, ByteSpan) -> Status {
        COVEY_ASSIGN(const DeviceId device, store::device_in_key(key));
        listed->insert(device.key);
        return {};
      }));
      roster.restore(head, listed);
    }
  }
  COVEY_TRY(restore_residual(store));
  COVEY_ASSIGN(const auto open_row, store.get(kSessionTable, open_key()));
  if (!open_row) return {};
  const Error damaged{ErrorCode::corrupt_data,
                      "device store: the open round's rows do not fit each other; start afresh with "
                      "`covey-device forget`"};
  COVEY_ASSIGN(OpenRound round, wire::decode<OpenRound>(*open_row));
  const wire::TaskOffer offer{round.plan_bytes, 0, round.signature};
  COVEY_ASSIGN(round.plan, wire::open_plan(offer, config.coordinator));
  if (round.plan.roster_epoch > roster.head().epoch) return damaged;
  if (round.state == RoundState::submitting) {
    COVEY_ASSIGN(auto update, store.get(kSessionTable, update_key()));
    if (round.plan.mode != wire::PrivacyMode::robust || !update || wire::content_hash(*update) != round.content)
      return damaged;
    round.update = *std::move(update);
  }
  open = std::move(round);
  return {};
}

Session::Session(SessionConfig config) : machine_(std::make_unique<Machine>(std::move(config))) {}
Session::~Session() = default;
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;

Status Session::restore(store::Store& store) {
  return machine_->restore(store, nullptr);
}

std::optional<RestingSession> Session::rest() const {
  const auto& m = *machine_;
  const bool waits = m.started && m.link == Link::down && !m.open && !m.training && !m.held && m.distrust_told.empty();
  if (!waits) return std::nullopt;
  return RestingSession{m.jitter.position(),
                        m.now,
                        m.failures,
                        m.eligible,
                        m.finished,
                        m.capabilities.tokens_per_s,
                        m.capabilities.bytes_per_s,
                        m.roster.head().hash,
                        m.roster.active_devices()};
}

Status Session::resume(store::Store& store, const RestingSession& resting, const wire::Capabilities& capabilities) {
  auto& m = *machine_;
  COVEY_TRY(m.restore(store, resting.active));
  m.started = true;
  m.jitter.seek(resting.jitter_position);
  m.now = resting.now_ms;
  m.failures = resting.failures;
  m.eligible = resting.eligible;
  m.finished = resting.finished;
  m.capabilities = capabilities;
  m.capabilities.tokens_per_s = resting.tokens_per_s;
  m.capabilities.bytes_per_s = resting.bytes_per_s;
  return {};
}

std::vector<Effect> Session::step(const Event& event, std::int64_t now_ms) {
  machine_->now = std::max(machine_->now, now_ms);
  std::visit([this](const auto& e) { machine_->handle(e); }, event);
  return std::exchange(machine_->out, {});
}

SessionPhase Session::phase() const {
  const auto& m = *machine_;
  if (m.open && m.eligible && m.started) {
    switch (m.open->state) {
      case RoundState::fetching:
        return SessionPhase::fetching;
      case RoundState::training:
        return SessionPhase::training;
      case RoundState::submitting:
        return SessionPhase::submitting;
      case RoundState::securing:
        return m.secure ? m.secure->phase() : SessionPhase::secure_advertise;
    }
  }
  if (m.link == Link::connecting) return SessionPhase::connecting;
  return m.link == Link::up ? SessionPhase::checking_in : SessionPhase::resting;
}

std::optional<RoundId> Session::round() const {
  if (!machine_->open) return std::nullopt;
  return machine_->open->plan.round;
}
std::uint64_t Session::roster_epoch() const {
  return machine_->roster.head().epoch;
}
bool Session::finished() const {
  return machine_->finished;
}
std::uint64_t Session::receipts_accepted() const {
  return machine_->ledger.accepted;
}
std::uint64_t Session::bytes_submitted() const {
  return machine_->ledger.bytes_submitted;
}
double Session::epsilon() const {
  return machine_->epsilon();
}
const std::string& Session::last_problem() const {
  return machine_->problem;
}

}  // namespace covey::client

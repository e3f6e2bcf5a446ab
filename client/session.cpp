#include "client/session.h"

#include <algorithm>
#include <utility>

#include "aggregation/update.h"
#include "client/roster.h"
#include "client/secure_round.h"
#include "client/session_rows.h"
#include "core/base/clock.h"
#include "core/base/rng.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"

namespace covey::client {
namespace {

constexpr int kFetchTries = 5;
constexpr std::int64_t kRevokedRest_ms = 3600 * 1000;
constexpr std::int64_t kRefusalRest_ms = 10'000;
constexpr std::int64_t kParting_ms = 500;  ///< time for a refusal to leave before the connection ends
constexpr std::size_t kProblemMax = 200;
constexpr std::int64_t kSecurePhases = 4;      ///< share, mask, agree, unmask
constexpr std::uint64_t kJournalMax = 10'000;  ///< entries; the oldest make room

enum class Link : std::uint8_t { down, connecting, up };

std::string round_text(RoundId round) {
  return "round " + std::to_string(round.value);
}

}  // namespace

struct Session::Machine {
  explicit Machine(SessionConfig c)
      : config(std::move(c)), jitter(config.jitter_seed, 0x73657373), roster(config.roster, config.identity) {}

  SessionConfig config;
  Rng jitter;

  // durable
  std::optional<OpenRound> open;
  Ledger ledger;
  RosterChain roster;

  // of this process
  std::vector<Effect> out;
  std::int64_t now = 0;
  wire::Capabilities capabilities;
  Link link = Link::down;
  bool started = false;
  bool eligible = true;
  bool finished = false;
  bool training = false;                ///< a Train effect is out and neither answered nor stopped
  bool parting = false;                 ///< a refusal was sent; the reply timer ends the connection
  bool following = false;               ///< epochs are asked for; nothing else goes on meanwhile
  std::uint64_t roster_target = 0;      ///< the epoch that the coordinator spoke of
  std::optional<wire::TaskOffer> held;  ///< waits for its roster epoch
  std::int64_t held_since = 0;
  std::string distrust_told;  ///< in the journal already
  int failures = 0;           ///< in a row; sets the backoff
  std::size_t fetch_at = 0;
  int fetch_failures = 0;
  std::uint64_t fetched_bytes = 0;
  std::uint64_t fetched_ms = 0;
  std::optional<SecureRound> secure;  ///< with RoundState::securing
  std::string problem;

  // ---- small effects
  template <typename OneEffect>
  void emit(OneEffect&& effect) {  // in place: GCC 12 warns of a variant that moves without reason
    out.emplace_back(std::forward<OneEffect>(effect));
  }
  void send(wire::Message message) { emit(Send{std::move(message)}); }
  void await_reply() { emit(SetTimer{SessionTimer::reply, now + config.reply_ms}); }
  void note(std::string what) { problem = what.substr(0, kProblemMax); }
  [[nodiscard]] std::int64_t limit_ms() const {
    if (open->state == RoundState::submitting) return open->deadline_ms + config.submit_grace_ms;
    if (open->state != RoundState::securing) return open->deadline_ms;
    return open->deadline_ms + kSecurePhases * open->plan.secure.phase_ms + config.submit_grace_ms;
  }
  [[nodiscard]] bool uploading() const {
    return open && (open->state == RoundState::submitting || (secure && secure->uploading()));
  }

  // ---- durable changes
  void write_journal(std::vector<store::Write>& writes, const std::string& line) {
    if (ledger.journal_next >= kJournalMax)
      writes.push_back({kJournalTable, store::key_of(ledger.journal_next - kJournalMax), std::nullopt});
    writes.push_back({kJournalTable, store::key_of(ledger.journal_next++), wire::encode(JournalEntry{now, line})});
  }
  void persist(std::vector<store::Write> writes, const std::string& journal) {
    if (!journal.empty()) write_journal(writes, journal);
    writes.push_back({kSessionTable, ledger_key(), wire::encode(ledger)});
    emit(Persist{std::move(writes)});
  }

  // ---- link
  void connect() {
    if (link != Link::down) return;
    parting = false;
    link = Link::connecting;
    emit(CancelTimer{SessionTimer::wake});
    emit(Connect{});
    await_reply();
  }
  void link_is_down() {
    link = Link::down;
    parting = following = false;
    held.reset();
  }
  void disconnect() {
    if (link == Link::down) return;
    link_is_down();
    emit(CancelTimer{SessionTimer::reply});
    emit(Disconnect{});
  }
  /// `at_least_ms`, and up to a quarter more, so that a fleet does not come back as one.
  void rest(std::int64_t at_least_ms) {
    const auto extra = static_cast<std::int64_t>(static_cast<double>(at_least_ms) * 0.25 * jitter.uniform());
    emit(SetTimer{SessionTimer::wake, now + at_least_ms + extra});
  }
  void back_off() {
    const int doublings = std::min(failures++, 20);
    const std::int64_t base = std::min(config.backoff_first_ms << doublings, config.backoff_max_ms);
    const auto extra = static_cast<std::int64_t>(static_cast<double>(base) * 0.5 * jitter.uniform());
    emit(SetTimer{SessionTimer::wake, now + base + extra});
  }
  void fail_link(std::string why) {
    note(std::move(why));
    disconnect();
    back_off();
  }

  // ---- what to do next
  void proceed() {
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
  void check_in() {
    send(wire::CheckIn{capabilities, RoundId{ledger.last_round}});
    await_reply();
  }
  void fetch_next() {
    const auto& plan = open->plan;
    if (fetch_at <= plan.model.size()) {
      emit(Fetch{fetch_at < plan.model.size() ? plan.model[fetch_at] : plan.adapter});
      return;
    }
    open->state = RoundState::training;
    persist({{kSessionTable, open_key(), wire::encode(*open)}}, "");
    train();
  }
  void train() {
    if (training) return;
    training = true;
    emit(Train{open->plan});
  }
  void submit() {
    // The one place from which an upload starts; only `robust` plans reach RoundState::submitting.
    COVEY_ASSERT(open->plan.mode == wire::PrivacyMode::robust);
    send(
        wire::SubmitBegin{open->plan.round, wire::UpdateKind::clear, open->content, open->update.size(), open->report});
    await_reply();
  }

  // ---- a round's ends
  void close_round(const std::string& journal) {
    if (training) {
      training = false;
      emit(StopTraining{false});
    }
    secure.reset();  // and wipes its keys
    std::vector<store::Write> writes = {{kSessionTable, open_key(), std::nullopt},
                                        {kSessionTable, update_key(), std::nullopt}};
    persist(std::move(writes), journal);
    emit(CancelTimer{SessionTimer::round_deadline});
    open.reset();
  }
  void drop(const std::string& why) {
    note(round_text(open->plan.round) + " dropped: " + why);
    close_round(problem);
    disconnect();
    rest(config.rest_ms);
  }
  /// Says no, to an offer or in the middle of the work, and leaves once the answer had time to go.
  void refuse(RoundId round, wire::RefusalReason reason, const std::string& why) {
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
  void on(const wire::CheckBack& m) {
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

  void on(const wire::TaskOffer& m) {
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

  PlanVerdict judge(const wire::RoundPlan& plan, std::int64_t left_ms) {
    using wire::RefusalReason;
    if (plan.task != config.task) return {RefusalReason::bad_plan, "another task"};
    if (plan.round.value <= ledger.last_round) return {RefusalReason::policy, "this round was started before"};
    if (left_ms <= 0) return {RefusalReason::bad_plan, "no time left"};
    auto verdict = check_plan(plan, config.policy);
    if (verdict.reason != RefusalReason::none) return verdict;
    if (capabilities.examples == 0) return {RefusalReason::no_data, "no examples; `covey-device import FILE`"};
    const auto limit = config.policy.rounds_per_day_max;
    if (limit > 0 && ledger.day == now / kDay_ms && ledger.rounds_in_day >= limit)
      return {RefusalReason::budget, "rounds_per_day_max is reached"};
    return {};
  }
  void count_round() {
    if (ledger.day != now / kDay_ms) {
      ledger.day = now / kDay_ms;
      ledger.rounds_in_day = 0;
    }
    ++ledger.rounds_in_day;
  }

  void on(const wire::SubmitNext& m) {
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

  void on(const wire::Receipt& m) {
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

  // ---- secure aggregation
  /// On a link that may carry it; a new link says it again.
  void say_secure(const wire::Message& message) {
    if (link != Link::up || following) return;
    send(message);
    if (secure->uploading()) {
      await_reply();
    } else {
      emit(CancelTimer{SessionTimer::reply});
    }
  }
  template <typename Question>
  void answer_secure(const Question& m) {
    if (!secure || m.round != open->plan.round) return;
    failures = 0;
    const auto before = secure->phase();
    auto answer = secure->on(m, ledger.secagg);
    if (!answer.ok()) return end_secure(secure->reason(), answer.error().message);
    const bool masked = before != secure->phase() && secure->phase() == SessionPhase::secure_mask;
    if (masked) {
      persist({}, round_text(m.round) + " masked: " + std::to_string(secure->update().size()) +
                      " bytes, one of at least " + std::to_string(open->plan.secure.survivors_min) +
                      " that only a sum of can be read");
    }
    say_secure(*answer);
  }
  void on(const wire::SecureList& m) { answer_secure(m); }
  void on(const wire::SecureInbox& m) { answer_secure(m); }
  void on(const wire::SecureSurvivors& m) { answer_secure(m); }
  void on(const wire::SecureUnmask& m) { answer_secure(m); }
  void on(const wire::SecureAbort& m) {
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
  /// This device goes no further: it says why, and no share, mask or signature after that.
  void end_secure(wire::SecureReason reason, const std::string& why) {
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
  void begin_secure(const TrainingDone& e) {
    auto& round = *open;
    auto begun = SecureRound::begin({.plan = &round.plan,
                                     .plan_hash = wire::plan_hash(round.plan_bytes),
                                     .outcome = &e.outcome,
                                     .rounding_seed = e.seed,
                                     .session_seed = e.session_seed,
                                     .identity = config.identity_key,
                                     .roster = [this](const wire::Key& key) { return roster.active(key); },
                                     .masked_per_version_max = config.policy.masked_per_version_max},
                                    ledger.secagg);
    if (!begun.ok()) return refuse(e.round, wire::RefusalReason::failed, begun.error().message);
    secure.emplace(*std::move(begun));
    round.state = RoundState::securing;
    finish_training(e, {});
  }

  void on(const wire::ErrorReply& m) {
    note(std::string("the coordinator says ") + wire::to_string(m.complaint) + ": " + shown(m.message, kProblemMax));
    disconnect();
    if (m.complaint == wire::Complaint::revoked) return rest(kRevokedRest_ms);
    back_off();
  }

  // ---- the roster
  /// Asks until `target` is verified; then goes on. Whatever is wrong on the way ends the connection.
  void follow_roster(std::uint64_t target) {
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
  void on(const wire::RosterReply& m) {
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
  void roster_followed() {
    emit(CancelTimer{SessionTimer::reply});
    if (const auto listed = roster.check_listed(config.curve); !listed.ok()) return distrust(listed.error().message);
    distrust_told.clear();
    if (!held) return proceed();
    auto offer = *std::exchange(held, std::nullopt);
    offer.left_ms = std::max<std::int64_t>(offer.left_ms, 0) - (now - held_since);
    on(offer);
  }
  /// Leaves, and tells the owner once: this coordinator shows another roster than before.
  void distrust(std::string why) {
    why = "roster refused: " + why;
    if (why != distrust_told) persist({}, why);
    distrust_told = why;
    fail_link(std::move(why));
  }

  /// Whatever else a coordinator may say has no place here; blobs are the driver's.
  template <typename Other>
  void on(const Other&) {}

  void on(const wire::Welcome&) {}

  void welcome(const wire::Welcome& m) {
    link = Link::up;
    follow_roster(m.roster_epoch);
  }

  // ---- events
  void handle(const Started&) {
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
  void handle(const MessageReceived& e) {
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
  void handle(const ConnectionLost& e) {
    if (link == Link::down) return;
    link_is_down();
    emit(CancelTimer{SessionTimer::reply});
    if (!eligible || training) return;  // training goes on without a link and connects when it has something to say
    note(e.why.empty() ? "the connection was lost" : e.why);
    back_off();
  }
  void handle(const TimerFired& e) {
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
  void handle(const Fetched& e) {
    if (!fetching(e.blob)) return;
    fetch_failures = 0;
    fetched_bytes += e.bytes;
    fetched_ms += e.took_ms;
    ++fetch_at;
    fetch_next();
  }
  void handle(const FetchFailed& e) {
    if (!fetching(e.blob)) return;
    if (++fetch_failures >= kFetchTries)
      return refuse(open->plan.round, wire::RefusalReason::failed, "download failed: " + e.reason);
    fail_link("download failed: " + e.reason);
  }
  [[nodiscard]] bool fetching(const wire::Hash& blob) const {
    if (!open || open->state != RoundState::fetching || link != Link::up || following) return false;
    const auto& model = open->plan.model;
    return fetch_at <= model.size() && (fetch_at < model.size() ? model[fetch_at] : open->plan.adapter).blob == blob;
  }
  [[nodiscard]] bool trains(RoundId round) const { return open && training && open->plan.round == round; }

  void handle(const TrainingProgressed& e) {
    // How many steps there are says how many examples this device has: not in modes that promise sums only.
    const bool may_tell = trains(e.round) && open->plan.mode == wire::PrivacyMode::robust;
    if (may_tell && link == Link::up) send(wire::Progress{e.round, e.step, e.steps});
  }
  void handle(const TrainingFailed& e) {
    if (!trains(e.round)) return;
    training = false;
    const auto reason = e.refusal == wire::RefusalReason::none ? wire::RefusalReason::failed : e.refusal;
    refuse(e.round, reason, e.reason);
  }
  void handle(const TrainingDone& e) {
    if (!trains(e.round)) return;
    training = false;
    if (open->plan.mode != wire::PrivacyMode::robust) return begin_secure(e);
    auto& round = *open;
    const auto plan_hash = wire::plan_hash(round.plan_bytes);
    auto update = aggregation::protect(round.plan, plan_hash, e.outcome.delta, e.outcome.weight,
                                       aggregation::seeded_bits(e.seed));
    if (!update.ok()) return refuse(e.round, wire::RefusalReason::failed, update.error().message);
    round.update = wire::encode(*update);
    if (round.update.size() > round.plan.update_bytes_max)
      return refuse(e.round, wire::RefusalReason::bad_plan, "update_bytes_max: below the size of an update");
    round.content = wire::content_hash(round.update);
    round.report = report_of(e.outcome);
    round.state = RoundState::submitting;
    finish_training(e, {{kSessionTable, update_key(), round.update}});
  }
  [[nodiscard]] wire::TrainingReport report_of(const TrainingOutcome& outcome) const {
    wire::TrainingReport report = outcome.report;
    if (fetched_ms > 0)
      report.bytes_per_s = 1000.0 * static_cast<double>(fetched_bytes) / static_cast<double>(fetched_ms);
    return report;
  }
  /// The protected update is made, or the session that will make it begun: from here on the checkpoint is not needed.
  void finish_training(const TrainingDone& e, std::vector<store::Write> writes) {
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
  void handle(const EligibilityChanged& e) {
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
  void handle(const Forgotten&) {
    if (!training) emit(StopTraining{false});  // a checkpoint may lie there from before a pause
    if (open) drop("its examples were forgotten");
  }
  void handle(const CapabilitiesChanged& e) {
    const double tokens_per_s = capabilities.tokens_per_s;
    const double bytes_per_s = capabilities.bytes_per_s;
    capabilities = e.capabilities;
    if (capabilities.tokens_per_s <= 0) capabilities.tokens_per_s = tokens_per_s;
    if (capabilities.bytes_per_s <= 0) capabilities.bytes_per_s = bytes_per_s;
  }

  Status restore(store::Store& store);
};

Status Session::Machine::restore(store::Store& store) {
  COVEY_ASSIGN(const auto ledger_row, store.get(kSessionTable, ledger_key()));
  if (ledger_row) {
    COVEY_ASSIGN(ledger, wire::decode<Ledger>(*ledger_row));
  }
  COVEY_ASSIGN(const auto head_row, store.get(kSessionTable, roster_key()));
  if (head_row) {
    COVEY_ASSIGN(const auto head, wire::decode<RosterHead>(*head_row));
    std::set<wire::Key> active;
    COVEY_TRY(store.scan(kRosterTable, {}, [&](ByteSpan key, ByteSpan) -> Status {
      COVEY_ASSIGN(const DeviceId device, store::device_in_key(key));
      active.insert(device.key);
      return {};
    }));
    roster.restore(head, std::move(active));
  }
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
  return machine_->restore(store);
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
const std::string& Session::last_problem() const {
  return machine_->problem;
}

}  // namespace covey::client

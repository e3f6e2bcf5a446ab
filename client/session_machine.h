/// Internal to the session: its state, shared by the files that hold its transitions.
///   session.cpp         events, restart        session_round.cpp   the link, a round from offer to receipt
///   session_plan.cpp    bounds on a plan       session_secure.cpp  secure aggregation, the roster
///   session_correlated.cpp  separation under DP-FTRL    session_sparse.cpp  top-k, its residual
#pragma once

#include <algorithm>
#include <utility>

#include "aggregation/dp_distributed.h"
#include "aggregation/dp_ledger.h"
#include "client/roster.h"
#include "client/secure_round.h"
#include "client/session.h"
#include "client/session_rows.h"
#include "core/base/rng.h"
#include "core/wire/codec.h"

namespace covey::client {

inline constexpr std::size_t kProblemMax = 200;
inline constexpr std::int64_t kRefusalRest_ms = 10'000;
inline constexpr std::int64_t kParting_ms = 500;  ///< time for a refusal to leave before the connection ends

enum class Link : std::uint8_t { down, connecting, up };

inline std::string round_text(RoundId round) {
  return "round " + std::to_string(round.value);
}

struct Session::Machine {
  explicit Machine(SessionConfig c)
      : config(std::move(c)), jitter(config.jitter_seed, 0x73657373), roster(config.roster, config.identity) {}

  SessionConfig config;
  Rng jitter;

  // durable
  std::optional<OpenRound> open;
  Ledger ledger;
  std::vector<float> residual;       ///< what sparse updates have left out so far; empty: nothing
  std::vector<float> residual_next;  ///< the same once the open round's update is accepted
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
  [[nodiscard]] std::int64_t limit_ms() const;
  [[nodiscard]] bool uploading() const {
    return open && (open->state == RoundState::submitting || (secure && secure->uploading()));
  }

  // ---- durable changes
  /// The clear update of the open round, and the rows that belong to it.
  Result<wire::ClearUpdate> protect(const TrainingDone& e, std::vector<store::Write>& writes);
  /// The open round's update counts: what it left out is the residual now.
  void advance_residual();
  Status restore_residual(store::Store& store);
  void write_journal(std::vector<store::Write>& writes, const std::string& line);
  void persist(std::vector<store::Write> writes, const std::string& journal);

  // ---- link
  void connect();
  void link_is_down();
  void disconnect();
  /// `at_least_ms`, and up to a quarter more, so that a fleet does not come back as one.
  void rest(std::int64_t at_least_ms);
  void back_off();
  void fail_link(std::string why);

  // ---- what to do next
  void proceed();
  void check_in();
  void fetch_next();
  void train();
  void submit();

  // ---- a round's ends
  void close_round(const std::string& journal);
  void drop(const std::string& why);
  /// Says no, to an offer or in the middle of the work, and leaves once the answer had time to go.
  void refuse(RoundId round, wire::RefusalReason reason, const std::string& why);

  // ---- messages; all arrive on a link that said Welcome
  void on(const wire::CheckBack& m);
  void on(const wire::TaskOffer& m);
  PlanVerdict judge(const wire::RoundPlan& plan, std::int64_t left_ms);
  void count_round();
  void on(const wire::SubmitNext& m);
  void on(const wire::Receipt& m);
  void on(const wire::ErrorReply& m);
  void on(const wire::Welcome&) {}
  /// Whatever else a coordinator may say has no place here; blobs are the driver's.
  template <typename Other>
  void on(const Other&) {}

  // ---- secure aggregation (session_secure.cpp)
  /// On a link that may carry it; a new link says it again.
  void say_secure(const wire::Message& message);
  template <typename Question>
  void answer_secure(const Question& m);
  void on(const wire::SecureList& m);
  void on(const wire::SecureInbox& m);
  void on(const wire::SecureSurvivors& m);
  void on(const wire::SecureUnmask& m);
  void on(const wire::SecureAbort& m);
  /// This device goes no further: it says why, and no share, mask or signature after that.
  void end_secure(wire::SecureReason reason, const std::string& why);
  void begin_secure(const TrainingDone& e);
  void charge_privacy();
  [[nodiscard]] std::string privacy_words() const;
  [[nodiscard]] Result<aggregation::dp::Ledger> privacy_account() const;
  [[nodiscard]] double epsilon() const;
  [[nodiscard]] PlanVerdict judge_draw(const wire::RoundPlan& plan) const;
  [[nodiscard]] std::optional<aggregation::SecAggDraw> draw_of_round() const;
  [[nodiscard]] PlanVerdict judge_privacy(const wire::RoundPlan& plan) const;
  /// DP-FTRL (session_correlated.cpp): against what this device has agreed to, and when it sent last.
  [[nodiscard]] PlanVerdict judge_correlated(const wire::RoundPlan& plan) const;
  /// Goes into the commit before the update can leave.
  void count_correlated();

  // ---- the roster (session_secure.cpp)
  /// Asks until `target` is verified; then goes on. Whatever is wrong on the way ends the connection.
  void follow_roster(std::uint64_t target);
  void on(const wire::RosterReply& m);
  void roster_followed();
  /// Leaves, and tells the owner once: this coordinator shows another roster than before.
  void distrust(std::string why);

  void welcome(const wire::Welcome& m);

  // ---- events (session.cpp)
  void handle(const Started&);
  void handle(const MessageReceived& e);
  void handle(const ConnectionLost& e);
  void handle(const TimerFired& e);
  void handle(const Fetched& e);
  void handle(const FetchFailed& e);
  [[nodiscard]] bool fetching(const wire::Hash& blob) const;
  [[nodiscard]] bool trains(RoundId round) const { return open && training && open->plan.round == round; }

  void handle(const TrainingProgressed& e);
  void handle(const TrainingFailed& e);
  void handle(const TrainingDone& e);
  [[nodiscard]] wire::TrainingReport report_of(const TrainingOutcome& outcome) const;
  /// The protected update is made, or the session that will make it begun: from here on the checkpoint is not needed.
  void finish_training(const TrainingDone& e, std::vector<store::Write> writes);
  void handle(const EligibilityChanged& e);
  void handle(const Forgotten&);
  void handle(const CapabilitiesChanged& e);

  /// @param active  at the stored head; null: read from the store.
  Status restore(store::Store& store, const ActiveDevices& active);
};

}  // namespace covey::client

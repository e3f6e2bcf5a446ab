/// A device's life as a pure state machine: step(event, now) -> effects. No socket, file, clock, thread or entropy:
/// the daemon and the simulator run the same code.
///
///   resting -> connecting -> checking_in -> fetching -> training -> submitting -> resting
///      ^                         |  CheckBack                |  killed: the checkpoint resumes it
///      +-------------------------+---------------------------+
///
/// Two things move apart inside: the link (down, connecting, up) and the open round (fetching, training, submitting).
/// A round outlives its link and its process: its row is written before work starts and erased when it ends, and the
/// protected update is a row before its first byte leaves, so that every later attempt sends the same bytes.
///
/// Between Welcome and whatever comes next, and again before a plan that names a newer epoch, the roster is followed:
/// RosterRequest until the device has verified the epoch that the coordinator speaks of, and the head is a row. A
/// roster that does not extend the known one ends the connection; nothing is said or trained on it.
///
/// In `secure` mode the phases of secure aggregation stand in place of `submitting` (secure_round.h); no transition
/// emits a ClearUpdate in them. Their secrets live in memory only: a process that ends in them has dropped out.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "client/roster.h"
#include "core/base/ids.h"
#include "core/base/result.h"
#include "core/crypto/identity.h"
#include "core/store/store.h"
#include "core/wire/messages.h"

namespace covey::client {

enum class SessionPhase : std::uint8_t {
  resting = 0,
  connecting = 1,  ///< Hello sent, Welcome awaited
  checking_in = 2,
  fetching = 3,
  training = 4,
  submitting = 5,
  secure_advertise = 6,  // 6 to 10: secure aggregation, security.md section 4
  secure_share = 7,
  secure_mask = 8,
  secure_agree = 9,
  secure_unmask = 10,
};
const char* to_string(SessionPhase phase);

enum class SessionTimer : std::uint8_t { wake, reply, round_deadline };

/// What training gives back; the delta never leaves memory unprotected (checkpoints are encrypted).
struct TrainingOutcome {
  std::vector<float> delta;  ///< shape (P): trained minus received
  std::uint32_t weight = 1;
  wire::TrainingReport report;
};

// ---- events --------------------------------------------------------------------------------------------------------
struct Started {};
struct MessageReceived {
  wire::Message message;
};
struct ConnectionLost {
  std::string why = {};  ///< for `status`; empty: nothing is known
};
struct TimerFired {
  SessionTimer timer{};
};
struct Fetched {
  wire::Hash blob{};
  std::uint64_t bytes = 0;
  std::uint32_t took_ms = 0;
};  ///< complete and verified
struct FetchFailed {
  wire::Hash blob{};
  std::string reason;
};
struct TrainingProgressed {
  RoundId round;
  std::uint32_t step = 0;
  std::uint32_t steps = 0;
};
struct TrainingDone {
  RoundId round;
  TrainingOutcome outcome;
  std::array<std::uint8_t, 32> seed{};          ///< fresh randomness from the driver: what rounding draws from
  std::array<std::uint8_t, 32> session_seed{};  ///< likewise: keys of a secure aggregation, and nothing else
  std::array<std::uint8_t, 32> noise_seed{};    ///< likewise: this device's share of a plan's noise, and nothing else
};
struct TrainingFailed {
  RoundId round;
  wire::RefusalReason refusal = wire::RefusalReason::failed;  ///< memory, no_data, bad_plan where the trainer says so
  std::string reason;
};
struct EligibilityChanged {
  bool eligible = true;
  std::string reason;
};  ///< power, network, pause by the user
struct CapabilitiesChanged {
  wire::Capabilities capabilities;
};                    ///< what the next check-in says; before Started, and when examples come or go
struct Forgotten {};  ///< the user wiped the examples: what was made from them and has not left ends too
using Event =
    std::variant<Started, MessageReceived, ConnectionLost, TimerFired, Fetched, FetchFailed, TrainingProgressed,
                 TrainingDone, TrainingFailed, EligibilityChanged, CapabilitiesChanged, Forgotten>;

// ---- effects -------------------------------------------------------------------------------------------------------
struct Persist {
  std::vector<store::Write> writes;
};
struct Connect {};  ///< the driver connects and sends the signed Hello
struct Disconnect {};
struct Send {
  wire::Message message;
};
struct SetTimer {
  SessionTimer timer{};
  std::int64_t at_ms = 0;
};
struct CancelTimer {
  SessionTimer timer{};
};
struct Fetch {
  wire::FileBlob file;
};  ///< one at a time, resumable; answer: Fetched (at once where it is there already) or FetchFailed. Ends with the
    ///< link
struct Train {
  wire::RoundPlan plan;
};  ///< answer: TrainingDone or TrainingFailed
struct StopTraining {
  bool keep_checkpoint = true;
};
using Effect = std::variant<Persist, Connect, Disconnect, Send, SetTimer, CancelTimer, Fetch, Train, StopTraining>;

// ---- the machine ---------------------------------------------------------------------------------------------------

/// What the owner of the device allows.
struct SessionPolicy {
  wire::PrivacyMode weakest_mode = wire::PrivacyMode::secure;
  // Of secure aggregation (security.md section 4); plans that promise less are refused.
  std::uint32_t survivors_min = 32;    ///< n_min: sums over fewer devices
  double corrupt_fraction_min = 0.05;  ///< gamma: protection from fewer colluding devices
  bool sortition = false;              ///< only rounds whose devices are drawn in a way that this one can check
  double listed_share_min = 0.25;      ///< of the devices drawn on average, so many must be in a round's list
  std::uint32_t masked_per_version_max =
      1;  ///< more than 1 lets a coordinator learn an update by running a round again
  /// What all noised rounds together may tell of this device, by its own account: a plan that would pass it, or one
  /// without noise, is refused. 0: any plan.
  double epsilon_max = 0;
  double delta = 1e-6;
  /// Whether noise that the coordinator promises to add over the rounds (DP-FTRL) counts as noise to epsilon_max. It
  /// protects from everyone but the coordinator.
  bool coordinator_noise = false;
  std::uint32_t separation_min = 1;                           ///< rounds between this device's updates, under DP-FTRL
  std::uint64_t upload_bytes_max = std::uint64_t{256} << 20;  ///< of one round
  std::uint64_t model_bytes_max = std::uint64_t{8} << 30;     ///< all files of one base model
  std::uint32_t steps_max = 100'000;                          ///< of one round
  std::uint32_t rounds_per_day_max = 0;                       ///< 0: any number
};

struct SessionConfig {
  std::string task;         ///< the only one it takes part in
  wire::Key coordinator{};  ///< identity pinned at enrolment: every plan must be signed by it
  wire::Key roster{};       ///< pinned at enrolment: every epoch of the roster must be signed by it
  wire::Key identity{};     ///< this device's: it takes part only while the roster lists it; the agent fills it in
  const crypto::IdentityKey* identity_key = nullptr;  ///< signs in secure aggregation; borrowed, the agent fills it in
  wire::Key curve{};                                  ///< with this transport key; the agent fills it in
  SessionPolicy policy;
  std::int64_t reply_ms = 30'000;       ///< how long an answer may take
  std::int64_t backoff_first_ms = 500;  ///< doubled per failure in a row, plus up to half of it as jitter
  std::int64_t backoff_max_ms = 60'000;
  std::int64_t rest_ms = 200;             ///< from a round's end to the next check-in, with jitter
  std::int64_t submit_grace_ms = 60'000;  ///< after the deadline, for a receipt that got lost
  std::uint64_t jitter_seed = 0;
};

/// Why a plan is not accepted, and in words. `none`: it is.
struct PlanVerdict {
  wire::RefusalReason reason = wire::RefusalReason::none;
  std::string detail;
};
/// Bounds on everything a plan asks for, before any of it is believed. Whether the adapter fits the model and memory
/// suffices is found out by the trainer, which sees the model's files.
PlanVerdict check_plan(const wire::RoundPlan& plan, const SessionPolicy& policy);

/// Tables it writes: "session" (open round, its protected update, counters, the roster's head), "roster" (who is
/// active) and "journal" (number -> ms, text).
inline constexpr const char* kSessionTable = "session";
inline constexpr const char* kRosterTable = "roster";
inline constexpr const char* kJournalTable = "journal";

/// One line of what was done with the device's data.
struct JournalEntry {
  std::int64_t at_ms = 0;
  std::string line;
  template <class Archive>
  void serialize(Archive& a) {
    a(at_ms, line);
  }
};
/// All entries, oldest first. @errors corrupt_data and what the store reports.
Result<std::vector<JournalEntry>> read_journal(store::Store& store);

/// What a session that only waits for its next check-in keeps beside its rows. With it a driver that holds many devices
/// may end such a session and go on later as if it had stayed; a process that ends keeps none of it.
struct RestingSession {
  std::uint64_t jitter_position = 0;
  std::int64_t now_ms = 0;
  int failures = 0;  ///< in a row
  bool eligible = true;
  bool finished = false;
  double tokens_per_s = 0;  ///< as measured here
  double bytes_per_s = 0;
  wire::Hash roster{};   ///< hash of the newest verified epoch
  ActiveDevices active;  ///< at that epoch
};

/// Deterministic: the same restore and events give the same effects. Not thread-safe. `now_ms` never goes back (a
/// smaller one counts as the last) and is comparable between processes: wall-clock milliseconds.
class Session {
 public:
  explicit Session(SessionConfig config);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  /// Continues what an earlier process left; call before the first step. @errors corrupt_data: rows that this class did
  /// not write, or whose plan the pinned coordinator did not sign. What the store reports.
  [[nodiscard]] Status restore(store::Store& store);

  /// Nothing where it does more than wait: a link, a round, an offer that waits for its roster.
  [[nodiscard]] std::optional<RestingSession> rest() const;
  /// In place of restore() and of the Started event: goes on where rest() was asked, from the same store.
  [[nodiscard]] Status resume(store::Store& store, const RestingSession& resting,
                              const wire::Capabilities& capabilities);

  /// Effects are executed in order; a Persist must be durable before what follows it is done. Any event may come at any
  /// time: what does not fit is ignored, or ends the connection where a peer sent it.
  [[nodiscard]] std::vector<Effect> step(const Event& event, std::int64_t now_ms);

  [[nodiscard]] SessionPhase phase() const;
  [[nodiscard]] std::optional<RoundId> round() const;     ///< the open one
  [[nodiscard]] std::uint64_t roster_epoch() const;       ///< newest one verified: what Hello says
  [[nodiscard]] bool finished() const;                    ///< the coordinator said that the task is done
  [[nodiscard]] std::uint64_t receipts_accepted() const;  ///< over all processes
  [[nodiscard]] std::uint64_t bytes_submitted() const;    ///< of accepted updates, over all processes
  [[nodiscard]] double epsilon() const;                   ///< spent in noised rounds, at the policy's delta
  [[nodiscard]] const std::string& last_problem() const;  ///< one line for `status`; empty: none

 private:
  struct Machine;
  std::unique_ptr<Machine> machine_;
};

}  // namespace covey::client

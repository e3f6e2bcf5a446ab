/// Internal to the round machine: its state, shared by the files that hold its transitions.
///   round_machine.cpp   events, timers, commits, restart        round_collect.cpp   check-ins and uploads
///   round_close.cpp     start, close, publish, abort        round_privacy.cpp   noise, ledger, adaptive clipping
///                                                             round_secure.cpp    phases of secure aggregation
#pragma once

#include <set>

#include "adapters/layout.h"
#include "aggregation/dp_correlated.h"
#include "aggregation/robust_set.h"
#include "aggregation/running_sum.h"
#include "aggregation/secagg_round.h"
#include "aggregation/server_optimizer.h"
#include "coordinator/round_machine.h"
#include "coordinator/selection.h"

namespace covey::coordinator {

/// An upload in progress. Memory grows with what has arrived; `bytes` is reserved in the total from the start.
struct Assembly {
  wire::Hash content{};
  std::uint64_t bytes = 0;
  wire::TrainingReport report;
  Bytes received;
  bool connected = true;
  [[nodiscard]] std::uint32_t next_chunk() const {
    return static_cast<std::uint32_t>(received.size() / wire::kChunkBytes);
  }
};

struct RoundMachine::Impl {
  Impl(TaskConfig task, adapters::AdapterLayout adapter_layout, aggregation::ServerOptimizer server_optimizer);

  // -- round_machine.cpp
  Status restore(store::Store& store);
  Status restore_rounds(store::Store& store);
  Status restore_open_round(store::Store& store);
  Status restore_singles(store::Store& store);
  [[nodiscard]] bool keeps_singles() const {
    return plan.mode == wire::PrivacyMode::robust && !aggregation::traits(config.aggregation.rule).needs_only_sums;
  }
  void on_started();
  void on_timer(TimerId timer);
  void on_pause(bool pause);
  void send(const DeviceId& device, wire::Message message) { effects.emplace_back(Send{device, std::move(message)}); }
  /// Adds to the next commit; `within_ms` from now at the latest.
  void write(std::string table, Bytes key, std::optional<Bytes> value);
  void erase(std::string table, Bytes key) { write(std::move(table), std::move(key), std::nullopt); }
  void commit_within(std::int64_t within_ms);
  /// Commits all that waits, then sends what waited for it.
  void flush();

  // -- round_collect.cpp
  void on_message(const DeviceId& device, const wire::Message& message);
  void on_check_in(const DeviceId& device, const wire::CheckIn& message);
  void on_answer(const DeviceId& device, const wire::TaskAnswer& message);
  void on_submit_begin(const DeviceId& device, const wire::SubmitBegin& message);
  void on_submit_chunk(const DeviceId& device, const wire::SubmitChunk& message);
  void on_gone(const DeviceId& device);
  void check_back(const DeviceId& device, wire::WaitReason reason);
  void offer(const DeviceId& device);
  bool invite(const DeviceId& device);
  /// Sortition: whether the device is drawn in this round under this root.
  [[nodiscard]] bool drawn(const DeviceId& device, const DrawRoot& root) const;
  [[nodiscard]] std::uint32_t places_taken() const;
  /// Seen lately, and so likely to come again.
  [[nodiscard]] std::vector<DeviceId> present_devices() const;
  [[nodiscard]] Competitors& competitors_now();
  [[nodiscard]] bool competes(const DeviceId& device) const;
  [[nodiscard]] Choice choose(const DeviceId& device);
  [[nodiscard]] bool make_room(std::uint64_t bytes);
  /// True where the submit was answered from what is known of (round, device): nothing is left to do.
  bool answer_known(const DeviceId& device, RoundId round, const wire::Hash& content);
  void answer_late(const DeviceId& device, RoundId round, const wire::Hash& content);
  void drop_assembly(const DeviceId& device);
  void store_cohort(const DeviceId& device);
  void complete(const DeviceId& device, Assembly whole);
  /// Decodes and checks an update against the plan, and adds it to the sum. @errors what breaks the plan.
  Result<std::uint32_t> add_update(const DeviceId& device, const Bytes& content);
  void reject(const DeviceId& device, const wire::Hash& content, const std::string& why);
  void store_receipt(const DeviceId& device, const ReceiptRow& receipt);

  // -- round_secure.cpp
  Status open_secure(std::span<const aggregation::SecAggRow> rows);
  Status restore_secure(store::Store& store);
  Status restore_groups(ByteSpan stored);
  /// The row of the round's sum, or of its groups' sums.
  void write_sums();
  void write_secure_rows(bool with_sum);
  void erase_secure_rows();
  [[nodiscard]] bool may_be_invited(const DeviceId& device) const;
  [[nodiscard]] bool secure_round_ready();
  void on_secure_message(const DeviceId& device, const wire::Message& message);
  template <typename M>
  void on_secure(const DeviceId& device, const M& message, aggregation::SecAggRound::Phase belongs);
  void tell_secure_end(const DeviceId& device, RoundId of, wire::SecureReason reason);
  void refuse_secure(const DeviceId& device, const std::string& why);
  void leave_secure(const DeviceId& device, const std::string& why);
  void say_due(const DeviceId& device);
  Result<std::uint32_t> add_masked(const DeviceId& device, ByteSpan content);
  [[nodiscard]] Phase secure_phase() const;
  void advance_secure();
  void on_secure_deadline();
  void close_secure_phase();
  void announce_secure();
  void finish_secure();
  void abort_secure(const std::string& reason);

  // -- round_close.cpp
  Status open_plan(wire::RoundPlan decoded);
  void start_round();
  void open_round(RoundId id);
  void on_deadline();
  void finish_cohort();
  void count_cohort();
  void close_round(const std::string& reason);
  void end_uploads();
  void evaluate_candidate();
  Status make_candidate();
  void on_evaluated(const Evaluated& event);
  [[nodiscard]] std::optional<std::string> canary(const Metrics& metrics) const;
  void publish(const Metrics& metrics);
  void abort_round(const std::string& reason);
  void end_round(bool with_version);
  void after_round();
  void serve_version();

  // -- round_privacy.cpp
  /// The coordinator adds the noise.
  [[nodiscard]] bool noised() const { return config.privacy.dp.on() || config.privacy.correlates(); }
  /// There is a ledger: noise of the coordinator's or of the devices'.
  [[nodiscard]] bool accounted() const { return noised() || config.privacy.distributed(); }
  /// Of round `next`, were it closed with a sum.
  [[nodiscard]] std::vector<double> round_charge(RoundId next) const;
  [[nodiscard]] Status check_correlated_unchanged() const;
  /// Under DP-FTRL: it contributed too lately, as far as its history tells. The device decides by its own memory.
  [[nodiscard]] bool too_soon(const DeviceId& device) const;
  Status charge_round();
  Status restore_privacy(store::Store& store);
  [[nodiscard]] bool waits_for_noise() const { return noised() && privacy.charged != round.round; }
  void on_noise(const NoiseDrawn& event);
  void write_privacy();
  [[nodiscard]] bool budget_left() const;
  /// The round's aggregate before the server optimizer, shape (P).
  Result<std::vector<float>> aggregate_round();

  TaskConfig config;
  adapters::AdapterLayout layout;
  std::uint64_t roster_epoch = 0;
  RosterView roster;
  DrawRoot newest_root;
  DrawRoot draw_root;  ///< of the open round's plan
  ThreadPool* pool = nullptr;

  // what step() is doing now
  std::int64_t now = 0;
  std::vector<Effect> effects;

  // durable, mirrored in memory
  Phase phase = Phase::idle;
  bool paused = false;
  bool fresh = true;  ///< no version 0 in the store yet
  bool started = false;
  VersionRow version;
  std::vector<float> values;
  std::optional<aggregation::ServerOptimizer> optimizer;
  std::uint64_t published = 0;
  RoundRow round;
  wire::RoundPlan plan;  ///< of `round`
  wire::Hash plan_hash{};
  std::map<DeviceId, CohortRow> cohort;
  std::optional<aggregation::RunningSum> sum;       ///< of the open round, where the rule needs no more
  std::optional<aggregation::RobustSet> singles;    ///< of the open round, where the rule looks at single updates
  std::optional<aggregation::SecAggRound> secure;   ///< of the open round, until its sum is unmasked
  std::vector<aggregation::RunningSum> group_sums;  ///< of the closed round, in `grouped` mode
  ContributorsRow contributors;
  std::set<DeviceId> contributed;                              ///< the same devices, for look-up
  std::map<RoundId, std::map<DeviceId, ReceiptRow>> receipts;  ///< of the newest kReceiptRounds rounds
  Registry registry;
  std::optional<aggregation::dp::Ledger> ledger;               ///< under differential privacy
  PrivacyRow privacy;                                          ///< its `ledger` is filled in when it is written
  std::optional<aggregation::dp::CorrelatedNoise> correlated;  ///< what privacy.task_seed gives, made when it is needed

  // of the life of this process only
  std::map<DeviceId, Assembly> assemblies;
  std::uint64_t assembly_bytes = 0;
  std::vector<store::Write> waiting_writes;
  std::vector<Send> waiting_sends;
  std::uint32_t waiting_updates = 0;
  std::set<DeviceId> uncommitted_invites;
  /// Of `cohort`, whoever was invited: the others are the whole fleet. Rows of a map stay where they are.
  std::vector<std::pair<DeviceId, const CohortRow*>> invited_rows;
  Competitors competitors;
  wire::Hash competing_for{};         ///< the plan that `competitors` are of
  std::set<DeviceId> unacknowledged;  ///< receipts that wait for the next commit
  std::optional<std::int64_t> commit_at;
  std::vector<float> candidate;  ///< values under evaluation
  double candidate_clip = 0;     ///< the next round's clip norm, where this one is published
  std::optional<aggregation::ServerOptimizer> candidate_optimizer;
};

inline constexpr std::size_t kReceiptRounds = 8;
inline constexpr std::size_t kReasonMax = 200;  ///< bytes of a reason that a row keeps
inline constexpr const char* kGoalReached = "goal reached";

}  // namespace covey::coordinator

#include "coordinator/round_machine.h"

#include <algorithm>
#include <utility>

#include "coordinator/round_machine_impl.h"
#include "coordinator/round_planner.h"
#include "core/crypto/hash.h"
#include "core/wire/codec.h"

namespace covey::coordinator {

namespace {
template <typename... F>
struct Overloaded : F... {
  using F::operator()...;
};
}  // namespace

const char* to_string(Phase phase) {
  switch (phase) {
    case Phase::idle:
      return "idle";
    case Phase::collecting:
      return "collecting";
    case Phase::secure_share:
      return "share";
    case Phase::secure_mask:
      return "mask";
    case Phase::secure_agree:
      return "agree";
    case Phase::secure_unmask:
      return "unmask";
    case Phase::evaluating:
      return "evaluating";
    case Phase::finished:
      return "finished";
  }
  return "unknown";
}

RoundMachine::Impl::Impl(TaskConfig task, adapters::AdapterLayout adapter_layout,
                         aggregation::ServerOptimizer server_optimizer)
    : config(std::move(task)),
      layout(std::move(adapter_layout)),
      values(config.initial),
      optimizer(std::move(server_optimizer)) {
  if (!accounted()) return;
  ledger.emplace(config.privacy.dp.budget);
  privacy.clip_norm = config.privacy.clip_norm;
}

RoundMachine::RoundMachine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RoundMachine::RoundMachine(RoundMachine&&) noexcept = default;
RoundMachine& RoundMachine::operator=(RoundMachine&&) noexcept = default;
RoundMachine::~RoundMachine() = default;

Result<RoundMachine> RoundMachine::create(TaskConfig config, RosterView roster) {
  COVEY_TRY(config.check());
  if (config.privacy.mode != wire::PrivacyMode::robust && !roster) {
    return Error{ErrorCode::invalid_argument, "task: secure aggregation needs the roster of devices"};
  }
  COVEY_ASSIGN(auto layout, adapters::AdapterLayout::parse(config.adapter_layout));
  if (config.local.candidates == 0 && static_cast<std::uint64_t>(layout.size) != config.values()) {
    return Error{ErrorCode::invalid_argument, "task: the adapter layout has " + std::to_string(layout.size) +
                                                  " values, the initial adapter " + std::to_string(config.values())};
  }
  COVEY_ASSIGN(auto optimizer, aggregation::ServerOptimizer::create(config.server_optimizer, config.initial.size()));
  auto impl = std::make_unique<Impl>(std::move(config), std::move(layout), std::move(optimizer));
  impl->roster = std::move(roster);
  return RoundMachine(std::move(impl));
}

Status RoundMachine::restore(store::Store& store) {
  return impl_->restore(store);
}

std::vector<Effect> RoundMachine::step(const Event& event, std::int64_t now_ms) {
  impl_->now = now_ms;
  impl_->effects.clear();
  std::visit(Overloaded{
                 [&](const Started&) { impl_->on_started(); },
                 [&](const MessageReceived& e) { impl_->on_message(e.device, e.message); },
                 [&](const DeviceGone& e) { impl_->on_gone(e.device); },
                 [&](const TimerFired& e) { impl_->on_timer(e.timer); },
                 [&](const Evaluated& e) { impl_->on_evaluated(e); },
                 [&](const NoiseDrawn& e) { impl_->on_noise(e); },
                 [&](const Pause&) { impl_->on_pause(true); },
                 [&](const Resume&) { impl_->on_pause(false); },
             },
             event);
  return std::exchange(impl_->effects, {});
}

void RoundMachine::set_roster_epoch(std::uint64_t epoch) {
  impl_->roster_epoch = epoch;
}
void RoundMachine::set_draw_root(const DrawRoot& root) {
  impl_->newest_root = root;
  // A restart finds the open round's root again where no epoch was signed since; else it invites nobody further.
  if (impl_->draw_root.epoch != impl_->plan.roster_epoch && root.epoch == impl_->plan.roster_epoch) {
    impl_->draw_root = root;
  }
}
void RoundMachine::set_pool(ThreadPool* pool) {
  impl_->pool = pool;
}
Phase RoundMachine::phase() const {
  return impl_->phase;
}
bool RoundMachine::paused() const {
  return impl_->paused;
}
RoundId RoundMachine::round() const {
  return impl_->round.round;
}
std::uint64_t RoundMachine::published() const {
  return impl_->published;
}
const RoundRow& RoundMachine::round_row() const {
  return impl_->round;
}
std::uint32_t RoundMachine::collected() const {
  if (impl_->secure) return impl_->secure->counted();
  return static_cast<std::uint32_t>(impl_->contributors.devices.size());
}
const VersionRow& RoundMachine::version() const {
  return impl_->version;
}
std::span<const float> RoundMachine::values() const {
  return impl_->values;
}
const Registry& RoundMachine::registry() const {
  return impl_->registry;
}
const TaskConfig& RoundMachine::config() const {
  return impl_->config;
}

// ---- restart -------------------------------------------------------------------------------------------------------

Status RoundMachine::Impl::restore(store::Store& store) {
  COVEY_ASSIGN(const auto identity, store.get("task", store::key_of("identity")));
  if (!identity) return {};
  const wire::Hash own = task_identity(config);
  if (!std::ranges::equal(*identity, own)) {
    return Error{ErrorCode::invalid_argument,
                 "store: it belongs to another task, model, adapter or seed; restore those in the configuration, or "
                 "start with an empty data_dir"};
  }
  COVEY_ASSIGN(const auto pause_row, store.get("task", store::key_of("paused")));
  paused = pause_row && !pause_row->empty() && pause_row->front() != 0;
  COVEY_TRY(store.scan("devices", {}, [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const DeviceId device, store::device_in_key(key));
    COVEY_ASSIGN(auto row, wire::decode<DeviceRow>(value));
    registry.put_restored(device, std::move(row));
    return {};
  }));
  COVEY_TRY(store.scan("versions", {}, [&](ByteSpan, ByteSpan value) -> Status {
    COVEY_ASSIGN(version, wire::decode<VersionRow>(value));
    fresh = false;
    return {};
  }));
  if (fresh) return {};
  COVEY_ASSIGN(const auto content, store.get("adapters", store::key_of(version.version)));
  if (!content) {
    return Error{ErrorCode::corrupt_data,
                 "store: the values of version " + std::to_string(version.version.value) + " are missing"};
  }
  COVEY_ASSIGN(values, decode_values(*content, config.initial.size()));
  COVEY_ASSIGN(const auto state, store.get("optimizer", store::key_of("state")));
  if (state) {
    COVEY_ASSIGN(optimizer, aggregation::ServerOptimizer::restore(config.server_optimizer, values.size(), *state));
  }
  COVEY_TRY(restore_privacy(store));
  return restore_rounds(store);
}

Status RoundMachine::Impl::restore_rounds(store::Store& store) {
  COVEY_TRY(store.scan("rounds", {}, [&](ByteSpan, ByteSpan value) -> Status {
    COVEY_ASSIGN(round, wire::decode<RoundRow>(value));
    if (round.state == RoundState::published) ++published;
    return {};
  }));
  const std::uint64_t newest = round.round.value;
  for (std::uint64_t r = newest >= kReceiptRounds ? newest - kReceiptRounds + 1 : 1; r <= newest; ++r) {
    COVEY_TRY(store.scan("receipts", store::key_of(r), [&](ByteSpan key, ByteSpan value) -> Status {
      COVEY_ASSIGN(const DeviceId device, store::device_in_key(key, 8));
      COVEY_ASSIGN(receipts[RoundId{r}][device], wire::decode<ReceiptRow>(value));
      return {};
    }));
  }
  if (newest == 0) return {};
  COVEY_TRY(store.scan("cohort", store::key_of(round.round), [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const DeviceId device, store::device_in_key(key, 8));
    CohortRow& row = cohort[device];
    COVEY_ASSIGN(row, wire::decode<CohortRow>(value));
    if (row.state != CohortState::not_drawn) invited_rows.emplace_back(device, &row);
    return {};
  }));
  COVEY_ASSIGN(const auto list, store.get("contributors", store::key_of(round.round)));
  if (list) {
    COVEY_ASSIGN(contributors, wire::decode<ContributorsRow>(*list));
    contributed = {contributors.devices.begin(), contributors.devices.end()};
  }
  if (round.state == RoundState::open || round.state == RoundState::closed) return restore_open_round(store);
  return {};
}

Status RoundMachine::Impl::restore_open_round(store::Store& store) {
  COVEY_ASSIGN(auto stored_plan, wire::decode<wire::RoundPlan>(round.plan));
  COVEY_TRY(open_plan(std::move(stored_plan)));
  phase = round.state == RoundState::open ? Phase::collecting : Phase::evaluating;
  if (keeps_singles()) return restore_singles(store);
  COVEY_ASSIGN(const auto stored_sum, store.get("sums", store::key_of(round.round)));
  if (stored_sum && plan.mode == wire::PrivacyMode::grouped) {
    COVEY_TRY(restore_groups(*stored_sum));
  } else if (stored_sum) {
    COVEY_ASSIGN(sum, aggregation::RunningSum::restore(sum->spec(), *stored_sum));
  }
  if (plan.mode == wire::PrivacyMode::grouped && round.state == RoundState::closed) return {};
  if (plan.mode != wire::PrivacyMode::robust && round.state == RoundState::open) {
    COVEY_TRY(restore_secure(store));
    phase = secure_phase();
    return {};
  }
  if (sum->contributors() != contributors.devices.size() || sum->weight() != contributors.weight) {
    return Error{ErrorCode::corrupt_data, "store: the sum of round " + std::to_string(round.round.value) +
                                              " does not belong to its contributors"};
  }
  return {};
}

Status RoundMachine::Impl::restore_singles(store::Store& store) {
  std::set<DeviceId> kept;
  COVEY_TRY(store.scan("updates", store::key_of(round.round), [&](ByteSpan key, ByteSpan value) -> Status {
    COVEY_ASSIGN(const DeviceId device, store::device_in_key(key, 8));
    COVEY_ASSIGN(const auto update, wire::decode<wire::ClearUpdate>(value));
    kept.insert(device);
    return singles->add(update);
  }));
  if (kept == contributed && singles->weight() == contributors.weight) return {};
  return Error{ErrorCode::corrupt_data, "store: the updates of round " + std::to_string(round.round.value) +
                                            " do not belong to its contributors; restore the last backup"};
}

void RoundMachine::Impl::on_started() {
  if (std::exchange(started, true)) return;
  if (fresh) {
    fresh = false;
    const Bytes content = encode_values(values);
    version.adapter = *adapter_blob(ModelVersion{0}, content);  // check() has tried this size
    version.created_ms = now;
    version.chain = chain_hash({}, version);
    const wire::Hash identity = task_identity(config);
    write("task", store::key_of("identity"), Bytes(identity.begin(), identity.end()));
    write("versions", store::key_of(version.version), wire::encode(version));
    write("adapters", store::key_of(version.version), content);
    if (config.privacy.correlates()) {
      privacy.correlated = config.privacy.correlated;
      privacy.value_bits = config.privacy.value_bits;
      write_privacy();
    }
    flush();
  }
  serve_version();
  if (!version.evaluated) {
    phase = Phase::evaluating;
    effects.emplace_back(Evaluate{version.version, values});
    effects.emplace_back(SetTimer{TimerId::evaluation, now + config.evaluation_timeout_ms});
    return;
  }
  switch (phase) {
    case Phase::collecting:
      // The scale of `now` may have moved between two lives: never wait longer than a whole deadline.
      round.deadline_at_ms = std::min(round.deadline_at_ms, now + plan.deadline_ms);
      round.started_ms = std::min(round.started_ms, now);
      effects.emplace_back(SetTimer{TimerId::round_deadline, round.deadline_at_ms});
      if (!secure && contributors.devices.size() >= plan.goal_count) close_round(kGoalReached);
      break;
    case Phase::evaluating:
      evaluate_candidate();
      break;
    case Phase::secure_share:
    case Phase::secure_mask:
    case Phase::secure_agree:
    case Phase::secure_unmask:
      announce_secure();  // to nobody yet: devices that come back say their last message again
      break;
    default:
      after_round();
      break;
  }
}

// ---- timers, commits -----------------------------------------------------------------------------------------------

void RoundMachine::Impl::on_timer(TimerId timer) {
  switch (timer) {
    case TimerId::round_deadline:
      if (phase == Phase::collecting) on_deadline();
      break;
    case TimerId::group_commit:
      commit_at.reset();
      flush();
      break;
    case TimerId::evaluation:
      if (phase == Phase::evaluating) {
        on_evaluated({version.evaluated ? ModelVersion{version.version.value + 1} : version.version, {}, {}, 0});
      }
      break;
    case TimerId::secure_phase:
      on_secure_deadline();
      break;
    case TimerId::next_round:
      if (phase == Phase::idle && !paused) start_round();
      break;
  }
}

void RoundMachine::Impl::on_pause(bool pause) {
  if (paused == pause) return;
  paused = pause;
  write("task", store::key_of("paused"), Bytes{static_cast<std::uint8_t>(pause ? 1 : 0)});
  flush();
  if (phase != Phase::idle) return;
  if (pause) {
    effects.emplace_back(CancelTimer{TimerId::next_round});
  } else {
    effects.emplace_back(SetTimer{TimerId::next_round, now});
  }
}

void RoundMachine::Impl::write(std::string table, Bytes key, std::optional<Bytes> value) {
  waiting_writes.push_back({std::move(table), std::move(key), std::move(value)});
}

void RoundMachine::Impl::commit_within(std::int64_t within_ms) {
  const std::int64_t at = now + within_ms;
  if (commit_at && *commit_at <= at) return;
  commit_at = at;
  effects.emplace_back(SetTimer{TimerId::group_commit, at});
}

void RoundMachine::Impl::flush() {
  registry.flush(waiting_writes);
  if (waiting_updates > 0) {
    if (secure) {
      write_secure_rows(true);
    } else if (!keeps_singles() && !has_ended(round.state)) {  // a sum does not outlive its round
      write_sums();
    }
    write("contributors", store::key_of(round.round), wire::encode(contributors));
  }
  if (!waiting_writes.empty()) effects.emplace_back(Persist{std::exchange(waiting_writes, {})});
  for (Send& waiting : waiting_sends) effects.emplace_back(std::move(waiting));
  waiting_sends.clear();
  unacknowledged.clear();
  uncommitted_invites.clear();
  waiting_updates = 0;
  if (commit_at) effects.emplace_back(CancelTimer{TimerId::group_commit});
  commit_at.reset();
}

}  // namespace covey::coordinator

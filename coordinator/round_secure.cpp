// Secure aggregation within a round (security.md section 4): the server half (aggregation/secagg_round.h) driven by
// the machine's events, timers and commits. The training phase is its advertise phase.
#include <algorithm>

#include "aggregation/secagg_params.h"
#include "coordinator/round_machine_impl.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"

namespace covey::coordinator {

namespace {
using Half = aggregation::SecAggRound;

Phase phase_of(Half::Phase phase) {
  switch (phase) {
    case Half::Phase::share:
      return Phase::secure_share;
    case Half::Phase::mask:
      return Phase::secure_mask;
    case Half::Phase::agree:
      return Phase::secure_agree;
    case Half::Phase::unmask:
      return Phase::secure_unmask;
    default:
      return Phase::collecting;
  }
}

Bytes row_key(RoundId round, std::string_view name) {
  Bytes key = store::key_of(round);
  key.insert(key.end(), name.begin(), name.end());
  return key;
}

}  // namespace

Status RoundMachine::Impl::open_secure(std::span<const aggregation::SecAggRow> rows) {
  secure.reset();
  if (plan.mode == wire::PrivacyMode::robust) return {};
  COVEY_ASSIGN(auto setup,
               aggregation::SecAggSetup::of(plan, plan_hash, aggregation::update_values(plan, values.size())));
  const auto listed = [this](const wire::Key& identity) { return roster(DeviceId{identity}, plan.roster_epoch); };
  COVEY_ASSIGN(secure, Half::restore(std::move(setup), listed, config.privacy.groups_needed(), rows));
  return {};
}

Status RoundMachine::Impl::restore_secure(store::Store& store) {
  std::vector<aggregation::SecAggRow> rows;
  const std::size_t head = store::key_of(round.round).size();
  COVEY_TRY(store.scan(kSecureTable, store::key_of(round.round), [&](ByteSpan key, ByteSpan value) -> Status {
    rows.push_back(
        {std::string(key.begin() + static_cast<std::ptrdiff_t>(head), key.end()), Bytes(value.begin(), value.end())});
    return {};
  }));
  return open_secure(rows);
}

void RoundMachine::Impl::write_secure_rows(bool with_sum) {
  if (!secure) return;
  for (auto& row : secure->take_rows(with_sum))
    write(kSecureTable, row_key(round.round, row.key), std::move(row.value));
}

bool RoundMachine::Impl::may_be_invited(const DeviceId& device) const {
  return !too_soon(device) && (!secure || roster(device, plan.roster_epoch));
}

bool RoundMachine::Impl::drawn(const DeviceId& device, const DrawRoot& root) const {
  if (!config.selection.sortition) return true;
  const std::uint64_t below = draw_threshold(config.selection.spare * config.invited_max(), root.active);
  return wire::draw_of(root.hash, round.round, device.key) < below;
}

/// A plan names the roster epoch that everyone checks lists against. Until somebody was invited it can name a newer
/// one, so that devices which enrolled after the round began need not wait for the next.
bool RoundMachine::Impl::secure_round_ready() {
  if (!secure) return true;
  const bool begun = std::ranges::any_of(cohort, [](const auto& entry) { return entry.second.invited_ms > 0; });
  if (begun) return true;
  std::uint32_t here = 0;
  for (const DeviceId& device : present_devices()) {
    here += roster(device, roster_epoch) && drawn(device, newest_root) ? 1 : 0;
  }
  if (here < config.privacy.devices_min()) return false;
  open_round(round.round);
  return true;
}

// ---- messages ------------------------------------------------------------------------------------------------------

void RoundMachine::Impl::tell_secure_end(const DeviceId& device, RoundId of, wire::SecureReason reason) {
  send(device, wire::SecureAbort{of, reason});
}

template <typename M>
void RoundMachine::Impl::on_secure(const DeviceId& device, const M& message, Half::Phase belongs) {
  if (!secure || message.round != round.round) {
    // Repeated by a device that did not hear how the round ended.
    const auto given = receipts.find(message.round);
    const bool counted = given != receipts.end() && given->second.contains(device) && message.round <= round.round;
    const bool summed = counted && (message.round < round.round || round.state == RoundState::closed ||
                                    round.state == RoundState::published);
    return tell_secure_end(device, message.round, summed ? wire::SecureReason::none : wire::SecureReason::ended);
  }
  const Status taken = secure->on(device, message);
  if (!taken.ok()) return refuse_secure(device, taken.error().message);
  if (secure->phase() > belongs) return say_due(device);
  advance_secure();
}

void RoundMachine::Impl::on_secure_message(const DeviceId& device, const wire::Message& message) {
  const auto at = cohort.find(device);
  if (const auto* m = std::get_if<wire::SecureAdvertise>(&message)) {
    if (m->round == round.round && secure && (at == cohort.end() || !in_play(at->second.state))) {
      return tell_secure_end(device, m->round, wire::SecureReason::unexpected);
    }
    on_secure(device, *m, Half::Phase::advertise);
  } else if (const auto* boxes = std::get_if<wire::SecureBoxes>(&message)) {
    on_secure(device, *boxes, Half::Phase::share);
  } else if (const auto* agreed = std::get_if<wire::SecureAgree>(&message)) {
    on_secure(device, *agreed, Half::Phase::agree);
  } else if (const auto* shares = std::get_if<wire::SecureShares>(&message)) {
    on_secure(device, *shares, Half::Phase::unmask);
  } else if (const auto* abort = std::get_if<wire::SecureAbort>(&message)) {
    if (secure && abort->round == round.round) leave_secure(device, wire::to_string(abort->reason));
  }
}

/// A message that breaks the protocol, or came too late for its phase: it is not counted, and the device is told.
void RoundMachine::Impl::refuse_secure(const DeviceId& device, const std::string& why) {
  const wire::SecureReason reason = secure->blame();
  tell_secure_end(device, round.round, reason);
  if (reason != wire::SecureReason::unexpected) effects.emplace_back(Incident{device, round.round, why});
  leave_secure(device, why);
}

/// The device takes no further part: its phases wait for it no longer. What is in the sum already stays there.
void RoundMachine::Impl::leave_secure(const DeviceId& device, const std::string& why) {
  secure->on_gone(device);
  if (const auto at = cohort.find(device); at != cohort.end() && in_play(at->second.state)) {
    at->second.reason = why.substr(0, kReasonMax);
    at->second.at_ms = now;
    store_cohort(device);
    commit_within(config.group_commit_ms);
  }
  advance_secure();
}

void RoundMachine::Impl::say_due(const DeviceId& device) {
  if (auto due = secure->due(device)) send(device, *std::move(due));
}

Result<std::uint32_t> RoundMachine::Impl::add_masked(const DeviceId& device, ByteSpan content) {
  COVEY_ASSIGN(const auto update, wire::decode<wire::MaskedUpdate>(content));
  COVEY_TRY(secure->on(device, update));
  return 0;  // its weight is in the sum alone
}

Phase RoundMachine::Impl::secure_phase() const {
  return phase_of(secure->phase());
}

// ---- phases --------------------------------------------------------------------------------------------------------

/// Closes phases for as long as nobody is waited for.
void RoundMachine::Impl::advance_secure() {
  if (!secure || round.state != RoundState::open) return;
  if (secure->phase() == Half::Phase::advertise) {
    if (secure->counted() >= plan.goal_count || secure->all_in()) close_secure_phase();
    return;
  }
  if (secure->phase() == Half::Phase::unmask ? secure->enough_shares() || secure->awaited().empty()
                                             : secure->all_in()) {
    close_secure_phase();
  }
}

void RoundMachine::Impl::on_secure_deadline() {
  if (secure && round.state == RoundState::open) close_secure_phase();
}

void RoundMachine::Impl::close_secure_phase() {
  const Half::Phase closing = secure->phase();
  if (closing == Half::Phase::unmask) return finish_secure();
  if (closing == Half::Phase::advertise) effects.emplace_back(CancelTimer{TimerId::round_deadline});
  Status closed = secure->close_phase();
  if (closed.ok() && closing == Half::Phase::mask) end_uploads();
  // Before the request for shares leaves, and never given back.
  if (closed.ok() && closing == Half::Phase::agree) closed = charge_round();
  if (!closed.ok()) return abort_secure(closed.error().message);
  phase = secure_phase();
  waiting_updates = std::max<std::uint32_t>(waiting_updates, secure->phase() >= Half::Phase::mask ? 1 : 0);
  write_secure_rows(true);
  flush();
  announce_secure();
}

/// To everyone, and the phase's time begins.
void RoundMachine::Impl::announce_secure() {
  effects.emplace_back(SetTimer{TimerId::secure_phase, now + plan.secure.phase_ms});
  for (const DeviceId& device : secure->devices()) say_due(device);
}

void RoundMachine::Impl::finish_secure() {
  auto unmasked = secure->finish(pool);
  for (const DeviceId& suspect : secure->suspects()) {
    effects.emplace_back(Incident{suspect, round.round, "gave a wrong share of a secret, or was given one"});
  }
  if (!unmasked.ok()) return abort_secure(unmasked.error().message);
  contributors.weight = 0;
  for (const auto& of_group : *unmasked) contributors.weight += of_group.weight();
  std::string reason = contributors.devices.size() >= plan.goal_count
                           ? std::string(kGoalReached)
                           : std::to_string(contributors.devices.size()) + " masked updates in time";
  if (plan.mode == wire::PrivacyMode::grouped) {
    group_sums = *std::move(unmasked);
    const bool whole = group_sums.size() == plan.secure.groups;
    if (!whole)
      reason = std::to_string(group_sums.size()) + " of " + std::to_string(plan.secure.groups) + " groups: " + reason;
  } else {
    sum = std::move(unmasked->front());
  }
  effects.emplace_back(CancelTimer{TimerId::secure_phase});
  std::map<DeviceId, wire::SecureReason> told;
  for (const DeviceId& device : secure->devices()) {
    told[device] = secure->in_play(device) ? wire::SecureReason::none : wire::SecureReason::ended;
  }
  write_sums();
  write("contributors", store::key_of(round.round), wire::encode(contributors));
  erase_secure_rows();
  secure.reset();
  close_round(reason);
  for (const auto& [device, how] : told) tell_secure_end(device, round.round, how);
}

void RoundMachine::Impl::write_sums() {
  if (plan.mode != wire::PrivacyMode::grouped) {
    return write("sums", store::key_of(round.round), sum->serialize());
  }
  GroupSumsRow row;
  for (const auto& of_group : group_sums) row.sums.push_back(of_group.serialize());
  write("sums", store::key_of(round.round), wire::encode(row));
}

Status RoundMachine::Impl::restore_groups(ByteSpan stored) {
  COVEY_ASSIGN(const auto row, wire::decode<GroupSumsRow>(stored));
  std::uint64_t weight = 0;
  for (const Bytes& bytes : row.sums) {
    COVEY_ASSIGN(auto of_group, aggregation::RunningSum::restore(sum->spec(), bytes));
    weight += of_group.weight();
    group_sums.push_back(std::move(of_group));
  }
  if (weight == contributors.weight) return {};
  return Error{ErrorCode::corrupt_data, "store: the groups' sums of round " + std::to_string(round.round.value) +
                                            " do not belong to its contributors; restore the last backup"};
}

void RoundMachine::Impl::erase_secure_rows() {
  for (const std::string& name : secure->row_keys()) erase(kSecureTable, row_key(round.round, name));
}

void RoundMachine::Impl::abort_secure(const std::string& reason) {
  effects.emplace_back(CancelTimer{TimerId::secure_phase});
  const auto devices = secure->devices();
  erase_secure_rows();
  secure.reset();  // erased: nothing of it is unmasked, now or later
  finish_cohort();
  const RoundId ended = round.round;
  abort_round(reason);
  for (const DeviceId& device : devices) tell_secure_end(device, ended, wire::SecureReason::ended);
}

}  // namespace covey::coordinator

// Secure aggregation within a round (security.md section 4): the server half (aggregation/secagg_server.h) driven by
// the machine's events, timers and commits. The training phase is its advertise phase.
#include <algorithm>

#include "aggregation/secagg_params.h"
#include "coordinator/round_machine_impl.h"
#include "core/wire/codec.h"

namespace covey::coordinator {

namespace {
using Half = aggregation::SecAggServer;

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
  if (plan.mode != wire::PrivacyMode::secure) return {};
  COVEY_ASSIGN(auto setup,
               aggregation::SecAggSetup::of(plan, plan_hash, aggregation::update_values(plan, values.size())));
  const auto listed = [this](const wire::Key& identity) { return roster(DeviceId{identity}, plan.roster_epoch); };
  COVEY_ASSIGN(secure, Half::restore(std::move(setup), listed, rows));
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
  return !secure || roster(device, plan.roster_epoch);
}

/// A plan names the roster epoch that everyone checks lists against. Until somebody was invited it can name a newer
/// one, so that devices which enrolled after the round began need not wait for the next.
bool RoundMachine::Impl::secure_round_ready() {
  if (!secure) return true;
  const bool begun = std::ranges::any_of(cohort, [](const auto& entry) { return entry.second.invited_ms > 0; });
  if (begun) return true;
  std::uint32_t here = 0;
  for (const DeviceId& device : present_devices()) here += roster(device, roster_epoch) ? 1 : 0;
  if (here < plan.secure.survivors_min) return false;
  open_round(round.round);
  return true;
}

// ---- messages ------------------------------------------------------------------------------------------------------

void RoundMachine::Impl::tell_secure_end(const DeviceId& device, RoundId of, wire::SecureReason reason) {
  send(device, wire::SecureAbort{of, reason});
}

template <typename M>
void RoundMachine::Impl::on_secure(const DeviceId& device, const M& message, aggregation::SecAggServer::Phase belongs) {
  if (!secure || message.round != round.round) {
    // Repeated by a device that did not hear how the round ended.
    const auto given = receipts.find(message.round);
    const bool counted = given != receipts.end() && given->second.contains(device) && message.round <= round.round;
    const bool summed = counted && (message.round < round.round || round.state == RoundState::closed ||
                                    round.state == RoundState::published);
    return tell_secure_end(device, message.round, summed ? wire::SecureReason::none : wire::SecureReason::ended);
  }
  const Status taken = [&]() -> Status {
    if constexpr (std::is_same_v<M, wire::SecureAdvertise>) return secure->on_advertise(device, message);
    if constexpr (std::is_same_v<M, wire::SecureBoxes>) return secure->on_boxes(device, message);
    if constexpr (std::is_same_v<M, wire::SecureAgree>) return secure->on_agree(device, message);
    if constexpr (std::is_same_v<M, wire::SecureShares>) return secure->on_shares(device, message);
  }();
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
  COVEY_TRY(secure->on_masked(device, update));
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
  Status closed;
  switch (secure->phase()) {
    case Half::Phase::advertise:
      effects.emplace_back(CancelTimer{TimerId::round_deadline});
      closed = secure->close_advertise();
      break;
    case Half::Phase::share:
      closed = secure->close_share();
      break;
    case Half::Phase::mask:
      closed = secure->close_mask();
      if (closed.ok()) end_uploads();
      break;
    case Half::Phase::agree:
      closed = secure->close_agree();
      if (closed.ok()) closed = charge_round();  // before the request for shares leaves, and never given back
      break;
    case Half::Phase::unmask:
      return finish_secure();
    default:
      return;
  }
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
  sum = *std::move(unmasked);
  contributors.weight = sum->weight();
  effects.emplace_back(CancelTimer{TimerId::secure_phase});
  const auto devices = secure->devices();
  write("sums", store::key_of(round.round), sum->serialize());
  write("contributors", store::key_of(round.round), wire::encode(contributors));
  erase_secure_rows();
  secure.reset();
  const bool all = contributors.devices.size() >= plan.goal_count;
  close_round(all ? kGoalReached : std::to_string(contributors.devices.size()) + " masked updates in time");
  for (const DeviceId& device : devices) tell_secure_end(device, round.round, wire::SecureReason::none);
}

void RoundMachine::Impl::erase_secure_rows() {
  for (const char* name : {"head", "boxes", kMaskedSum}) erase(kSecureTable, row_key(round.round, name));
}

void RoundMachine::Impl::abort_secure(const std::string& reason) {
  effects.emplace_back(CancelTimer{TimerId::secure_phase});
  const auto devices = secure->devices();
  secure.reset();  // erased: nothing of it is unmasked, now or later
  erase_secure_rows();
  finish_cohort();
  const RoundId ended = round.round;
  abort_round(reason);
  for (const DeviceId& device : devices) tell_secure_end(device, ended, wire::SecureReason::ended);
}

}  // namespace covey::coordinator

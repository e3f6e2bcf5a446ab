// Check-ins and uploads: everything that devices say while a round collects.
#include <algorithm>
#include <cmath>

#include "coordinator/round_machine_impl.h"
#include "coordinator/selection.h"
#include "core/base/rng.h"
#include "core/wire/codec.h"
#include "core/wire/message.h"
#include "core/wire/signing.h"

namespace covey::coordinator {

namespace {
using SecAggPhase = aggregation::SecAggRound::Phase;
/// A device counts as present this long after its last check-in.
constexpr std::int64_t kPresentMs = 30'000;

bool is_secure(const wire::Message& message) {
  const auto type = static_cast<std::uint16_t>(wire::type_of(message));
  return type >= wire::kSecureFirst && type <= wire::kSecureLast;
}
wire::ErrorReply unexpected(std::string what) {
  return {wire::Complaint::unexpected, std::move(what), {}};
}
}  // namespace

void RoundMachine::Impl::on_message(const DeviceId& device, const wire::Message& message) {
  if (const auto* check_in = std::get_if<wire::CheckIn>(&message)) return on_check_in(device, *check_in);
  if (const auto* answer = std::get_if<wire::TaskAnswer>(&message)) return on_answer(device, *answer);
  if (const auto* begin = std::get_if<wire::SubmitBegin>(&message)) return on_submit_begin(device, *begin);
  if (const auto* chunk = std::get_if<wire::SubmitChunk>(&message)) return on_submit_chunk(device, *chunk);
  if (is_secure(message)) return on_secure_message(device, message);
  if (std::holds_alternative<wire::Progress>(message)) return;  // a sign of life; nothing depends on it yet
  send(device, unexpected("this message is not one a device sends in a round"));
}

// ---- check-in ------------------------------------------------------------------------------------------------------

void RoundMachine::Impl::check_back(const DeviceId& device, wire::WaitReason reason) {
  // Spread by up to a quarter, so that a fleet does not come back all at once.
  const std::uint64_t spread = derive_seed(static_cast<std::uint64_t>(now), uniform_score(1, RoundId{0}, device));
  const std::uint32_t wait = config.check_back_ms + static_cast<std::uint32_t>(spread % (config.check_back_ms / 4 + 1));
  send(device, wire::CheckBack{wait, reason});
}

void RoundMachine::Impl::on_check_in(const DeviceId& device, const wire::CheckIn& message) {
  registry.seen(device, message.capabilities, now);
  if (registry.dirty()) commit_within(config.group_commit_ms);
  if (phase == Phase::finished) return check_back(device, wire::WaitReason::finished);
  // It asks for work: whatever session it had is gone.
  if (secure && phase != Phase::collecting && cohort.contains(device)) leave_secure(device, "has lost its session");
  if (phase != Phase::collecting) {
    return check_back(device, paused ? wire::WaitReason::paused : wire::WaitReason::no_round);
  }
  if (contributed.contains(device)) return check_back(device, wire::WaitReason::already_contributed);
  const auto known = cohort.find(device);
  if (known != cohort.end() && in_play(known->second.state)) return offer(device);
  if (known != cohort.end() && known->second.state != CohortState::not_drawn) {
    return check_back(device, wire::WaitReason::not_selected);
  }
  if (paused) return check_back(device, wire::WaitReason::paused);
  if (!secure_round_ready()) return check_back(device, wire::WaitReason::no_round);
  if (!may_be_invited(device) || !invite(device)) return check_back(device, wire::WaitReason::not_selected);
}

std::vector<DeviceId> RoundMachine::Impl::present_devices() const {
  return registry.seen_since(now - kPresentMs - 2 * std::int64_t{config.check_back_ms});
}

std::uint32_t RoundMachine::Impl::places_taken() const {
  return static_cast<std::uint32_t>(std::ranges::count_if(invited_rows, [](const auto& entry) {
    return in_play(entry.second->state) || entry.second->state == CohortState::contributed;
  }));
}

/// Who competes for the places of the present plan; kept from check-in to check-in.
Competitors& RoundMachine::Impl::competitors_now() {
  const std::int64_t from_ms = now - kPresentMs - 2 * std::int64_t{config.check_back_ms};
  if (competing_for != plan_hash) {
    competing_for = plan_hash;
    competitors = Competitors(plan.seed, plan.round);
    for (const DeviceId& device : present_devices()) {
      if (competes(device)) competitors.add(device, registry.find(device)->last_seen_ms);
    }
  }
  competitors.expire(from_ms, [this](const DeviceId& device) { return registry.find(device)->last_seen_ms; });
  return competitors;
}

bool RoundMachine::Impl::competes(const DeviceId& device) const {
  return may_be_invited(device) && registry.find(device)->capabilities.weakest_mode <= plan.mode;
}

Choice RoundMachine::Impl::choose(const DeviceId& device) {
  if (registry.find(device)->capabilities.weakest_mode > plan.mode) {
    return {false, "its policy asks for a stronger privacy mode than this round's"};
  }
  DrawState state{.seed = plan.seed,
                  .round = plan.round,
                  .wanted = plan.cohort_invited,
                  .taken = places_taken(),
                  .anyone = now - round.started_ms > plan.deadline_ms / 4};
  if (config.selection.sortition) {
    state.anyone = false;
    if (draw_root.epoch != plan.roster_epoch) return {false, "sortition: the roster has changed since the round began"};
    return draw_sortition(state, draw_root.hash, plan.secure.drawn_below, device);
  }
  if (state.taken >= state.wanted) return draw_at_rank(state, 0, 0);
  Competitors& others = competitors_now();
  others.add(device, now);
  std::size_t before = others.before(device);
  std::size_t competing = others.size();
  const std::uint64_t own = uniform_score(plan.seed, plan.round, device);
  for (const auto& [other, row] : invited_rows) {  // whoever refused, or sent what it should not, competes no more
    if (row->state != CohortState::refused && row->state != CohortState::rejected) continue;
    if (!others.contains(other)) continue;
    --competing;
    if (std::pair(uniform_score(plan.seed, plan.round, other), other) < std::pair(own, device)) --before;
  }
  return draw_at_rank(state, before + 1, competing);
}

bool RoundMachine::Impl::invite(const DeviceId& device) {
  const Choice choice = choose(device);
  const bool first_time = !cohort.contains(device);
  if (!choice.drawn && !first_time) return false;
  CohortRow& row = cohort[device];
  row.state = choice.drawn ? CohortState::invited : CohortState::not_drawn;
  row.at_ms = now;
  row.reason = choice.reason;
  if (choice.drawn) {
    row.invited_ms = now;
    invited_rows.emplace_back(device, &row);
    registry.invited(device, round.round);
    uncommitted_invites.insert(device);
  }
  store_cohort(device);
  commit_within(choice.drawn ? config.invite_commit_ms : config.group_commit_ms);
  if (choice.drawn) offer(device);
  return choice.drawn;
}

void RoundMachine::Impl::offer(const DeviceId& device) {
  Send message{device, wire::TaskOffer{round.plan, std::max<std::int64_t>(round.deadline_at_ms - now, 0), {}}};
  // The row of an invitation is durable before the device hears of it.
  if (!uncommitted_invites.contains(device)) {
    effects.emplace_back(std::move(message));
    return;
  }
  std::erase_if(waiting_sends, [&](const Send& waiting) {
    return waiting.device == device && std::holds_alternative<wire::TaskOffer>(waiting.message);
  });
  waiting_sends.push_back(std::move(message));
}

void RoundMachine::Impl::on_answer(const DeviceId& device, const wire::TaskAnswer& message) {
  const auto at = cohort.find(device);
  if (phase != Phase::collecting || message.round != round.round || at == cohort.end()) return;
  CohortRow& row = at->second;
  if (!in_play(row.state)) return;
  const CohortState next = message.accepted ? CohortState::accepted : CohortState::refused;
  if (row.state == next) return;
  row.state = next;
  row.refusal = message.reason;
  row.at_ms = now;
  if (!message.accepted) {
    registry.refused(device, round.round);
    drop_assembly(device);
    if (secure) secure->on_gone(device);
  }
  store_cohort(device);
  commit_within(config.group_commit_ms);
}

void RoundMachine::Impl::store_cohort(const DeviceId& device) {
  write("cohort", store::key_of(round.round, device), wire::encode(cohort[device]));
}

// ---- uploads -------------------------------------------------------------------------------------------------------

bool RoundMachine::Impl::answer_known(const DeviceId& device, RoundId of, const wire::Hash& content) {
  const auto in_round = receipts.find(of);
  if (in_round == receipts.end()) return false;
  const auto at = in_round->second.find(device);
  if (at == in_round->second.end()) return false;
  if (at->second.content != content) {
    effects.emplace_back(Incident{device, of, "sent a second, different update; it is refused"});
    constexpr std::string_view text = "sent a second, different update";
    write("incidents", store::key_of(of, device), Bytes(text.begin(), text.end()));
    commit_within(config.group_commit_ms);
    send(device, wire::Receipt{of, content, wire::ReceiptStatus::conflicting});
    return true;
  }
  const bool waits = of == round.round && unacknowledged.contains(device);  // its receipt leaves behind the commit
  if (!waits) send(device, wire::Receipt{of, content, at->second.status});
  return true;
}

void RoundMachine::Impl::answer_late(const DeviceId& device, RoundId of, const wire::Hash& content) {
  const auto at = cohort.find(device);
  const bool silent = at != cohort.end() && at->second.state == CohortState::silent;
  if (of == round.round && at != cohort.end() && (silent || in_play(at->second.state))) {
    at->second.state = CohortState::late;
    at->second.at_ms = now;
    registry.late(device, of, silent);
    store_cohort(device);
    commit_within(config.group_commit_ms);
  }
  send(device, wire::Receipt{of, content, wire::ReceiptStatus::late});
}

void RoundMachine::Impl::on_submit_begin(const DeviceId& device, const wire::SubmitBegin& message) {
  if (answer_known(device, message.round, message.content)) {
    const bool said_again = secure && message.round == round.round && secure->phase() > SecAggPhase::mask;
    if (said_again) say_due(device);
    return;
  }
  if (phase != (secure ? Phase::secure_mask : Phase::collecting) || message.round != round.round) {
    return answer_late(device, message.round, message.content);
  }
  const auto at = cohort.find(device);
  if (at == cohort.end() || !in_play(at->second.state)) {
    effects.emplace_back(Incident{device, round.round, "sent an update without taking part in the round"});
    send(device, wire::Receipt{message.round, message.content, wire::ReceiptStatus::refused});
    return;
  }
  if (const auto open = assemblies.find(device); open != assemblies.end()) {
    if (open->second.content == message.content && open->second.bytes == message.bytes) {
      open->second.connected = true;
      open->second.report = message.report;
      send(device, wire::SubmitNext{message.round, open->second.next_chunk()});
      return;
    }
    drop_assembly(device);  // it trained again, e.g. after a crash: nothing of the first one was counted
  }
  if (message.kind != (secure ? wire::UpdateKind::masked : wire::UpdateKind::clear)) {
    return reject(device, message.content, std::string("not what mode ") + wire::to_string(plan.mode) + " sends");
  }
  if (message.bytes == 0 || message.bytes > plan.update_bytes_max) {
    return reject(device, message.content,
                  "announces " + std::to_string(message.bytes) + " bytes; the plan allows " +
                      std::to_string(plan.update_bytes_max));
  }
  if (!make_room(message.bytes)) return check_back(device, wire::WaitReason::busy);
  assembly_bytes += message.bytes;
  assemblies[device] = {message.content, message.bytes, message.report, {}, true};
  send(device, wire::SubmitNext{message.round, 0});
}

bool RoundMachine::Impl::make_room(std::uint64_t bytes) {
  // Uploads of devices that went away give way to those that are here.
  for (auto at = assemblies.begin(); at != assemblies.end() && assembly_bytes + bytes > config.assembly_bytes_max;) {
    if (at->second.connected) {
      ++at;
      continue;
    }
    assembly_bytes -= at->second.bytes;
    at = assemblies.erase(at);
  }
  return assembly_bytes + bytes <= config.assembly_bytes_max;
}

void RoundMachine::Impl::drop_assembly(const DeviceId& device) {
  const auto at = assemblies.find(device);
  if (at == assemblies.end()) return;
  assembly_bytes -= at->second.bytes;
  assemblies.erase(at);
}

void RoundMachine::Impl::on_gone(const DeviceId& device) {
  const auto at = assemblies.find(device);
  if (at != assemblies.end()) at->second.connected = false;
}

void RoundMachine::Impl::on_submit_chunk(const DeviceId& device, const wire::SubmitChunk& message) {
  const auto at = assemblies.find(device);
  if (at == assemblies.end() || message.round != round.round) {
    const auto in_round = receipts.find(message.round);
    const bool known = in_round != receipts.end() && in_round->second.contains(device);
    if (known) {
      answer_known(device, message.round, in_round->second.at(device).content);
    } else {
      send(device, unexpected("no upload is in progress; announce it again"));
    }
    return;
  }
  Assembly& assembly = at->second;
  const std::uint32_t next = assembly.next_chunk();
  if (message.chunk != next) {
    send(device, wire::SubmitNext{message.round, next});
    return;
  }
  const std::uint64_t wanted = std::min<std::uint64_t>(wire::kChunkBytes, assembly.bytes - assembly.received.size());
  if (message.bytes.size() != wanted) {
    return reject(device, assembly.content,
                  "chunk " + std::to_string(next) + " has " + std::to_string(message.bytes.size()) + " bytes, not " +
                      std::to_string(wanted));
  }
  assembly.received.insert(assembly.received.end(), message.bytes.begin(), message.bytes.end());
  if (assembly.received.size() < assembly.bytes) {
    send(device, wire::SubmitNext{message.round, next + 1});
    return;
  }
  Assembly whole = std::move(assembly);
  drop_assembly(device);
  complete(device, std::move(whole));
}

void RoundMachine::Impl::complete(const DeviceId& device, Assembly whole) {
  if (wire::content_hash(whole.received) != whole.content) {
    return reject(device, whole.content, "its bytes do not have the announced hash");
  }
  const auto weight = secure ? add_masked(device, whole.received) : add_update(device, whole.received);
  if (!weight.ok()) return reject(device, whole.content, weight.error().message);

  CohortRow& row = cohort[device];
  row.state = CohortState::contributed;
  row.at_ms = now;
  store_cohort(device);
  contributors.devices.push_back(device);
  contributors.weight += *weight;
  contributed.insert(device);
  registry.contributed(
      device,
      {.round = round.round,
       .state = CohortState::contributed,
       .took_ms = static_cast<std::uint32_t>(std::clamp<std::int64_t>(now - row.invited_ms, 0, UINT32_MAX)),
       .train_ms = whole.report.train_ms,
       .bytes = whole.bytes},
      whole.report);
  store_receipt(device, {whole.content, wire::ReceiptStatus::accepted, *weight, whole.bytes, now, {}, whole.report});
  ++waiting_updates;
  if (secure && secure->all_in()) {
    flush();
    return advance_secure();
  }
  if (!secure && contributors.devices.size() >= plan.goal_count) {
    flush();
    return close_round(kGoalReached);
  }
  if (waiting_updates >= config.group_commit_updates) return flush();
  commit_within(config.group_commit_ms);
}

Result<std::uint32_t> RoundMachine::Impl::add_update(const DeviceId& device, const Bytes& content) {
  const auto broken = [](std::string what) { return Error{ErrorCode::invalid_argument, std::move(what)}; };
  COVEY_ASSIGN(const auto update, wire::decode<wire::ClearUpdate>(content));
  if (update.round != round.round || update.plan != plan_hash) return broken("answers another plan");
  if (keeps_singles()) {
    COVEY_TRY(singles->add(update));
    write("updates", store::key_of(round.round, device), content);
  } else {
    COVEY_TRY(sum->add(update));
  }
  return update.weight;
}

void RoundMachine::Impl::reject(const DeviceId& device, const wire::Hash& content, const std::string& why) {
  drop_assembly(device);
  effects.emplace_back(Incident{device, round.round, "its update is refused: " + why});
  CohortRow& row = cohort[device];
  row.state = CohortState::rejected;
  row.at_ms = now;
  row.reason = why;
  store_cohort(device);
  registry.failed(device, round.round, CohortState::rejected);
  ReceiptRow receipt;
  receipt.content = content;
  receipt.status = wire::ReceiptStatus::refused;
  receipt.at_ms = now;
  receipt.why = why;
  store_receipt(device, receipt);
  commit_within(config.group_commit_ms);
}

void RoundMachine::Impl::store_receipt(const DeviceId& device, const ReceiptRow& receipt) {
  receipts[round.round][device] = receipt;
  unacknowledged.insert(device);
  write("receipts", store::key_of(round.round, device), wire::encode(receipt));
  waiting_sends.push_back({device, wire::Receipt{round.round, receipt.content, receipt.status}});
}

}  // namespace covey::coordinator

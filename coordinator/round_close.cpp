// The ends of a round: start, deadline, close, evaluate, publish, abort.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "adapters/adapter.h"
#include "coordinator/round_machine_impl.h"
#include "coordinator/round_planner.h"
#include "core/wire/codec.h"
#include "core/wire/signing.h"

namespace covey::coordinator {

Status RoundMachine::Impl::open_plan(wire::RoundPlan decoded) {
  plan = std::move(decoded);
  plan_hash = wire::plan_hash(round.plan);
  const auto spec = aggregation::UpdateSpec::of(plan, aggregation::update_values(plan, values.size()));
  if (keeps_singles()) {
    COVEY_ASSIGN(singles, aggregation::RobustSet::create(spec));
  } else {
    COVEY_ASSIGN(sum, aggregation::RunningSum::create(spec));
  }
  return {};
}

void RoundMachine::Impl::start_round() {
  open_round(RoundId{round.round.value + 1});
}

/// A round with its plan: a new one, or, while nobody was invited, the same one planned again.
void RoundMachine::Impl::open_round(RoundId next) {
  round = {};
  round.round = next;
  round.started_ms = now;
  round.deadline_at_ms = now + config.deadline_ms;
  wire::RoundPlan decoded = plan_round(config, version, next, roster_epoch);
  if (noised()) decoded.clip_norm = privacy.clip_norm;
  if (config.selection.sortition) {
    draw_root = newest_root;
    decoded.secure.drawn_below = draw_threshold(config.selection.spare * config.invited_max(), draw_root.active);
  }
  round.plan = wire::encode(decoded);
  const Status opened = open_plan(std::move(decoded));
  const Status secured = open_secure({});
  COVEY_ASSERT(opened.ok() && secured.ok());  // TaskConfig::check() has tried this plan
  cohort.clear();
  invited_rows.clear();
  contributors = {};
  contributed.clear();
  group_sums.clear();
  while (receipts.size() >= kReceiptRounds) receipts.erase(receipts.begin());
  write("rounds", store::key_of(next), wire::encode(round));
  flush();
  phase = Phase::collecting;
  effects.emplace_back(SetTimer{TimerId::round_deadline, round.deadline_at_ms});
}

void RoundMachine::Impl::on_deadline() {
  flush();
  if (secure) {
    if (secure->counted() >= plan.min_count) return close_secure_phase();
    return abort_secure(std::to_string(secure->counted()) +
                        " devices ready by the deadline, fewer than the minimum of " + std::to_string(plan.min_count));
  }
  const std::string got = std::to_string(contributors.devices.size()) + " updates by the deadline";
  if (contributors.devices.size() >= plan.min_count) return close_round(got);
  finish_cohort();
  abort_round(got + ", fewer than the minimum of " + std::to_string(plan.min_count));
}

/// Devices that were invited and brought nothing usable in time are booked as failed, once, and their row says so. An
/// upload under way is left to end_uploads(), which books it as late.
void RoundMachine::Impl::finish_cohort() {
  for (auto& [device, row] : cohort) {
    if (!in_play(row.state) || assemblies.contains(device)) continue;
    row.state = CohortState::silent;
    row.at_ms = now;
    registry.failed(device, round.round, row.state);
    store_cohort(device);
  }
}

/// What the round's row says of its cohort; the same for every order of arrival.
void RoundMachine::Impl::count_cohort() {
  round.invited = round.refused = round.late = round.contributors = 0;
  for (const auto& [device, row] : cohort) {
    if (row.state != CohortState::not_drawn) ++round.invited;
    if (row.state == CohortState::refused) ++round.refused;
    if (row.state == CohortState::late) ++round.late;
  }
  round.contributors = static_cast<std::uint32_t>(contributors.devices.size());
  round.weight = contributors.weight;
  round.update_bytes = round.tokens = 0;
  double first = 0;
  double last = 0;
  for (const auto& [device, receipt] : receipts[round.round]) {
    if (receipt.status != wire::ReceiptStatus::accepted) continue;
    round.update_bytes += receipt.bytes;
    round.tokens += receipt.report.tokens;
    if (std::isfinite(receipt.report.loss_first)) first += receipt.report.loss_first;
    if (std::isfinite(receipt.report.loss_last)) last += receipt.report.loss_last;
  }
  const double count = std::max<double>(round.contributors, 1);
  round.train_loss_first = first / count;
  round.train_loss_last = last / count;
}

void RoundMachine::Impl::close_round(const std::string& reason) {
  if (reason != kGoalReached) finish_cohort();
  count_cohort();
  round.state = RoundState::closed;
  round.closed_ms = now;
  round.reason = reason;
  phase = Phase::evaluating;
  write("rounds", store::key_of(round.round), wire::encode(round));
  flush();
  effects.emplace_back(CancelTimer{TimerId::round_deadline});
  end_uploads();
  evaluate_candidate();
}

/// Nobody whose upload is under way need go on with it.
void RoundMachine::Impl::end_uploads() {
  const auto open = std::exchange(assemblies, {});
  assembly_bytes = 0;
  for (const auto& [device, assembly] : open) answer_late(device, round.round, assembly.content);
}

void RoundMachine::Impl::evaluate_candidate() {
  if (waits_for_noise()) {
    effects.emplace_back(DrawNoise{round.round});
    return;
  }
  if (const Status made = make_candidate(); !made.ok()) return abort_round(made.error().message);
  effects.emplace_back(Evaluate{ModelVersion{version.version.value + 1}, candidate});
  effects.emplace_back(SetTimer{TimerId::evaluation, now + config.evaluation_timeout_ms});
}

/// From committed rows alone: after a restart the same candidate comes out, bit for bit.
Status RoundMachine::Impl::make_candidate() {
  COVEY_ASSIGN(auto mean_update, aggregate_round());
  COVEY_ASSIGN(const auto mean_contribution, aggregation::delta_of_update(plan, std::move(mean_update), values.size()));
  const std::vector<double> wide(mean_contribution.begin(), mean_contribution.end());
  const bool seeded = plan.seeded.candidates > 0;  // scalars are no layers' values: nothing is to be recovered
  const std::vector<float> mean = seeded ? mean_contribution : adapters::recover(layout, wide, 1);
  double squares = 0;
  for (const float value : mean) squares += double{value} * value;
  round.delta_norm = std::sqrt(squares);
  candidate_optimizer = optimizer;
  candidate = values;
  COVEY_TRY(candidate_optimizer->step(candidate, mean));
  if (!std::ranges::all_of(candidate, [](float value) { return std::isfinite(value); })) {
    return Error{ErrorCode::internal, "the server optimizer's step is not finite; lower its learning rate"};
  }
  return {};
}

void RoundMachine::Impl::on_evaluated(const Evaluated& event) {
  if (phase != Phase::evaluating) return;
  const ModelVersion awaited{version.evaluated ? version.version.value + 1 : version.version.value};
  if (event.version != awaited) return;
  const Metrics metrics{event.loss, event.accuracy, event.tokens};
  effects.emplace_back(CancelTimer{TimerId::evaluation});
  if (version.evaluated) {
    if (const auto worse = canary(metrics)) return abort_round(*worse);
    return publish(metrics);
  }
  version.evaluated = true;
  version.metrics = metrics;
  write("versions", store::key_of(version.version), wire::encode(version));
  flush();
  RoundRow baseline;
  baseline.metrics = metrics;
  baseline.started_ms = baseline.ended_ms = now;
  effects.emplace_back(RoundEnded{RoundId{0}, true, "initial adapter", baseline});
  after_round();
}

/// Why a candidate is not published: its held-out loss grew over the allowed factor. The version before stays.
std::optional<std::string> RoundMachine::Impl::canary(const Metrics& metrics) const {
  if (config.loss_growth_max == 0 || !metrics.loss || !version.metrics.loss) return std::nullopt;
  const double allowed = *version.metrics.loss * config.loss_growth_max;
  if (std::isfinite(*metrics.loss) && *metrics.loss <= allowed) return std::nullopt;
  char text[128];
  std::snprintf(text, sizeof text, "canary: held-out loss went from %.4g to %.4g, over the factor %.4g; rolled back",
                *version.metrics.loss, *metrics.loss, config.loss_growth_max);
  return text;
}

void RoundMachine::Impl::publish(const Metrics& metrics) {
  const Bytes content = encode_values(candidate);
  VersionRow next;
  next.version = ModelVersion{version.version.value + 1};
  next.round = round.round;
  next.adapter = *adapter_blob(next.version, content);  // check() has tried this size
  next.chain = chain_hash(version.chain, next);
  next.created_ms = now;
  next.contributors = round.contributors;
  next.weight = round.weight;
  next.evaluated = true;
  next.metrics = metrics;

  count_cohort();
  round.state = RoundState::published;
  round.ended_ms = now;
  round.version = next.version;
  round.metrics = metrics;
  write("versions", store::key_of(next.version), wire::encode(next));
  write("adapters", store::key_of(next.version), content);
  write("optimizer", store::key_of("state"), candidate_optimizer->serialize());
  if (next.version.value >= config.versions_kept) {
    erase("adapters", store::key_of(next.version.value - config.versions_kept));
  }
  version = std::move(next);
  values = std::move(candidate);
  optimizer = std::move(candidate_optimizer);
  ++published;
  end_round(true);
}

void RoundMachine::Impl::abort_round(const std::string& reason) {
  count_cohort();
  round.state = RoundState::aborted;
  round.ended_ms = now;
  round.reason = reason;
  effects.emplace_back(CancelTimer{TimerId::round_deadline});
  end_round(false);
  end_uploads();
}

/// One commit for everything the round's end changes; then the world may see it.
void RoundMachine::Impl::end_round(bool with_version) {
  write("rounds", store::key_of(round.round), wire::encode(round));
  if (keeps_singles()) {
    for (const DeviceId& device : contributors.devices) erase("updates", store::key_of(round.round, device));
    singles.reset();
  } else {
    erase("sums", store::key_of(round.round));
  }
  if (noised()) {
    if (with_version) privacy.clip_norm = candidate_clip;
    privacy.seed.clear();
    write_privacy();
  }
  flush();
  candidate.clear();
  candidate_optimizer.reset();
  if (with_version) serve_version();
  effects.emplace_back(RoundEnded{round.round, with_version, round.reason, round});
  after_round();
}

void RoundMachine::Impl::serve_version() {
  effects.emplace_back(Serve{version.adapter.blob, encode_values(values)});
}

void RoundMachine::Impl::after_round() {
  if (published >= config.rounds || round.round.value >= config.tried_max() || !budget_left()) {
    phase = Phase::finished;
    return;
  }
  phase = Phase::idle;
  if (!paused) effects.emplace_back(SetTimer{TimerId::next_round, now + config.round_pause_ms});
}

}  // namespace covey::coordinator

// Differential privacy of a round: its noise, its charge, the next round's clip norm.
//
// The machine has no entropy of its own: a closed round asks for a seed (DrawNoise). The answer, the charge and the
// seed are one commit; only then is the noised sum made. After a restart the same seed gives the same noise: noise that
// was drawn twice on one sum would average out, and was paid for once.
//
// Under DP-FTRL one seed, drawn in the first round that is charged, is that of the whole task; a round's noise and
// charge are what lies between it and the round charged before it.
//
// Noise of the devices' own is in the masked updates already: the charge is a row before the unmask request leaves.
#include <algorithm>
#include <utility>

#include "aggregation/dp_distributed.h"
#include "aggregation/grouped.h"
#include "aggregation/strategy.h"
#include "coordinator/round_machine_impl.h"
#include "coordinator/round_planner.h"
#include "core/crypto/stream.h"
#include "core/wire/codec.h"

namespace covey::coordinator {

Status RoundMachine::Impl::restore_privacy(store::Store& store) {
  if (!accounted()) return {};
  COVEY_ASSIGN(const auto stored, store.get("privacy", store::key_of("state")));
  if (!stored) return {};
  COVEY_ASSIGN(privacy, wire::decode<PrivacyRow>(*stored));
  COVEY_ASSIGN(ledger, aggregation::dp::Ledger::restore(config.privacy.dp.budget, privacy.ledger));
  return check_correlated_unchanged();
}

/// What was paid for the rounds so far holds for one mechanism on one scale, and devices have agreed to its separation.
Status RoundMachine::Impl::check_correlated_unchanged() const {
  if (privacy.correlated.kind == wire::CorrelatedKind::none) return {};
  const bool same = privacy.correlated == config.privacy.correlated && privacy.clip_norm == config.privacy.clip_norm &&
                    privacy.value_bits == config.privacy.value_bits;
  const bool whole = privacy.task_seed.size() == (privacy.charged.value > 0 ? crypto::kStreamSeedBytes : 0);
  if (!whole) {
    return Error{ErrorCode::corrupt_data, "stored privacy state: the noise's seed is damaged; restore the last backup"};
  }
  if (same) return {};
  return Error{ErrorCode::invalid_argument,
               "privacy: under tree or blt noise, dp.noise_multiplier, separation (" +
                   std::to_string(privacy.correlated.separation) +
                   "), participations_max, buffers, rounds (of blt), clip_norm and value_bits may not change while a "
                   "task runs; restore them, or start with an empty data_dir"};
}

void RoundMachine::Impl::write_privacy() {
  privacy.ledger = ledger->serialize();
  write("privacy", store::key_of("state"), wire::encode(privacy));
}

std::vector<double> RoundMachine::Impl::round_charge(RoundId next_round) const {
  if (config.privacy.correlates()) {
    return aggregation::dp::correlated_charge(config.privacy.correlated, privacy.charged.value, next_round.value);
  }
  if (noised()) return aggregation::dp::central_charge(config.privacy.dp, config.goal_count);
  const wire::RoundPlan next = plan_round(config, version, RoundId{1}, 0);
  return aggregation::dp::plan_charge(next, aggregation::update_values(next, values.size()));
}

/// Once a round, whatever becomes of it; goes out with the next commit. @errors resource_exhausted: over the budget.
Status RoundMachine::Impl::charge_round() {
  if (!config.privacy.distributed() || privacy.charged == round.round) return {};
  COVEY_TRY(ledger->charge(aggregation::dp::plan_charge(plan, aggregation::update_values(plan, values.size()))));
  privacy.charged = round.round;
  write_privacy();
  return {};
}

bool RoundMachine::Impl::budget_left() const {
  return !accounted() || ledger->allows(round_charge(RoundId{round.round.value + 1}));
}

bool RoundMachine::Impl::too_soon(const DeviceId& device) const {
  if (!config.privacy.correlates()) return false;
  const DeviceRow* row = registry.find(device);
  if (row == nullptr) return false;
  const wire::CorrelatedPlan& claim = config.privacy.correlated;
  if (claim.participations_max > 0 && row->contributed >= claim.participations_max) return true;
  return std::ranges::any_of(row->history, [&](const DeviceRound& entry) {
    const bool sent = entry.state == CohortState::contributed || entry.state == CohortState::late;
    return sent && entry.round < plan.round && plan.round.value - entry.round.value < claim.separation;
  });
}

void RoundMachine::Impl::on_noise(const NoiseDrawn& event) {
  if (phase != Phase::evaluating || event.round != round.round || !waits_for_noise()) return;
  COVEY_ASSERT(event.seed.size() == crypto::kStreamSeedBytes);
  const bool correlates = config.privacy.correlates();
  const auto charge =
      correlates ? round_charge(round.round) : aggregation::dp::central_charge(config.privacy.dp, plan.goal_count);
  if (const Status charged = ledger->charge(charge); !charged.ok()) return abort_round(charged.error().message);
  privacy.charged_before = std::exchange(privacy.charged, round.round);
  if (!correlates) {
    privacy.seed = event.seed;
  } else if (privacy.task_seed.empty()) {
    privacy.task_seed = event.seed;
  }
  write_privacy();
  flush();
  evaluate_candidate();
}

Result<std::vector<float>> RoundMachine::Impl::aggregate_round() {
  if (plan.mode == wire::PrivacyMode::grouped) return aggregation::aggregate_groups(config.aggregation, group_sums);
  if (keeps_singles()) return aggregation::aggregate(config.aggregation, singles->rows());
  if (config.privacy.distributed()) return sum->over(plan.goal_count);  // not by who came, which no noise hides
  if (!noised()) return aggregation::aggregate(config.aggregation.rule, *sum);
  if (config.privacy.correlates()) {
    candidate_clip = plan.clip_norm;
    if (!correlated) correlated.emplace(privacy.correlated, privacy.task_seed, sum->spec());
    return aggregation::dp::correlated_release(*correlated, *sum, plan.goal_count, privacy.charged_before.value,
                                               privacy.charged.value);
  }
  COVEY_ASSIGN(auto release, aggregation::dp::central_release(config.privacy.dp, *sum, plan.goal_count, privacy.seed));
  candidate_clip = release.clip_norm;
  return std::move(release.mean);
}

}  // namespace covey::coordinator

// Differential privacy of a round: its noise, its charge, the next round's clip norm.
//
// The machine has no entropy of its own: a closed round asks for a seed (DrawNoise). The answer, the charge and the
// seed are one commit; only then is the noised sum made. After a restart the same seed gives the same noise: noise that
// was drawn twice on one sum would average out, and was paid for once.
//
// Noise of the devices' own is in the masked updates already: the charge is a row before the unmask request leaves.
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
  return {};
}

void RoundMachine::Impl::write_privacy() {
  privacy.ledger = ledger->serialize();
  write("privacy", store::key_of("state"), wire::encode(privacy));
}

std::vector<double> RoundMachine::Impl::round_charge() const {
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
  return !accounted() || ledger->allows(round_charge());
}

void RoundMachine::Impl::on_noise(const NoiseDrawn& event) {
  if (phase != Phase::evaluating || event.round != round.round || !waits_for_noise()) return;
  COVEY_ASSERT(event.seed.size() == crypto::kStreamSeedBytes);
  const auto charge = aggregation::dp::central_charge(config.privacy.dp, plan.goal_count);
  if (const Status charged = ledger->charge(charge); !charged.ok()) return abort_round(charged.error().message);
  privacy.charged = round.round;
  privacy.seed = event.seed;
  write_privacy();
  flush();
  evaluate_candidate();
}

Result<std::vector<float>> RoundMachine::Impl::aggregate_round() {
  if (plan.mode == wire::PrivacyMode::grouped) return aggregation::aggregate_groups(config.aggregation, group_sums);
  if (keeps_singles()) return aggregation::aggregate(config.aggregation, singles->rows());
  if (config.privacy.distributed()) return sum->over(plan.goal_count);  // not by who came, which no noise hides
  if (!noised()) return aggregation::aggregate(config.aggregation.rule, *sum);
  COVEY_ASSIGN(auto release, aggregation::dp::central_release(config.privacy.dp, *sum, plan.goal_count, privacy.seed));
  candidate_clip = release.clip_norm;
  return std::move(release.mean);
}

}  // namespace covey::coordinator

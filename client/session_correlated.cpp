// DP-FTRL on the device: noise that the coordinator adds over all rounds hides an update only as well as updates of one
// device lie apart. That is this device's to keep, by its own durable memory, whatever a plan says later.
#include <cstdio>

#include "aggregation/dp_correlated.h"
#include "aggregation/dp_gaussian.h"
#include "client/session_machine.h"

namespace covey::client {
namespace {

/// 0 is no bound.
bool more_participations(std::uint32_t a, std::uint32_t b) {
  return b != 0 && (a == 0 || a > b);
}

/// Why `plan` promises less than was agreed; empty: it does not.
std::string weaker_than_agreed(const wire::CorrelatedPlan& plan, const wire::CorrelatedPlan& agreed) {
  if (agreed.kind == wire::CorrelatedKind::none) return {};
  const auto lowered = [](const std::string& what, const auto& now, const auto& before) {
    return what + " " + std::to_string(now) + ", below the " + std::to_string(before) + " of earlier rounds";
  };
  if (plan.kind != agreed.kind || plan.buffers != agreed.buffers || plan.fitted_rounds != agreed.fitted_rounds)
    return "another mechanism of noise than in earlier rounds, or none";
  if (plan.separation < agreed.separation) return lowered("separation", plan.separation, agreed.separation);
  if (plan.multiplier < agreed.multiplier) return lowered("noise multiplier", plan.multiplier, agreed.multiplier);
  if (more_participations(plan.participations_max, agreed.participations_max))
    return "more updates of one device than earlier rounds allowed (" + std::to_string(agreed.participations_max) + ")";
  return {};
}

}  // namespace

PlanVerdict Session::Machine::judge_correlated(const wire::RoundPlan& plan) const {
  using wire::RefusalReason;
  const CorrelatedRow& row = ledger.correlated;
  if (const auto weaker = weaker_than_agreed(plan.correlated, row.agreed); !weaker.empty())
    return {RefusalReason::mode, weaker};
  const wire::CorrelatedPlan& claim = plan.correlated;
  if (claim.kind == wire::CorrelatedKind::none) return {};
  if (row.sent > 0 && plan.round.value - row.last_round < claim.separation)
    return {RefusalReason::policy, "too soon: an update of " + round_text(RoundId{row.last_round}) +
                                       " may have left this device, and the plan keeps them " +
                                       std::to_string(claim.separation) + " rounds apart"};
  if (claim.participations_max > 0 && row.sent >= claim.participations_max)
    return {RefusalReason::policy,
            "participations_max: this device has sent its " + std::to_string(row.sent) + " updates"};
  if (config.policy.epsilon_max <= 0) return {};
  const double rho = aggregation::dp::correlated_rho(claim, plan.round.value);
  const double epsilon = aggregation::dp::zcdp_epsilon(rho, config.policy.delta);
  if (epsilon <= config.policy.epsilon_max) return {};
  char text[160];
  std::snprintf(text, sizeof text, "the rounds so far and this one have an epsilon of %.3g, over the owner's %.3g",
                epsilon, config.policy.epsilon_max);
  return {RefusalReason::budget, text};
}

void Session::Machine::count_correlated() {
  if (open->plan.correlated.kind == wire::CorrelatedKind::none) return;
  ledger.correlated.agreed = open->plan.correlated;
  ledger.correlated.last_round = open->plan.round.value;
  ++ledger.correlated.sent;
}

}  // namespace covey::client

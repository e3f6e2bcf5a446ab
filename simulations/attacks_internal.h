/// The single attacks, for the table in attacks.cpp.
#pragma once

#include "simulations/attacks.h"

namespace covey::simulations {

// attacks_list.cpp
AttackOutcome swapped_mask_key(const aggregation::SecAggChecks& checks);
AttackOutcome swapped_share_key(const aggregation::SecAggChecks& checks);
AttackOutcome replayed_advertise(const aggregation::SecAggChecks& checks);
AttackOutcome round_offered_twice(const aggregation::SecAggChecks& checks);
AttackOutcome unknown_device(const aggregation::SecAggChecks& checks);
AttackOutcome revoked_device(const aggregation::SecAggChecks& checks);
AttackOutcome device_twice(const aggregation::SecAggChecks& checks);
AttackOutcome below_n_min(const aggregation::SecAggChecks& checks);
AttackOutcome stuffed_cohort(const aggregation::SecAggChecks& checks);
AttackOutcome drawn_left_out(const aggregation::SecAggChecks& checks);
AttackOutcome lowered_threshold(const aggregation::SecAggChecks& checks);

// attacks_round.cpp
AttackOutcome self_missing(const aggregation::SecAggChecks& checks);
AttackOutcome different_models(const aggregation::SecAggChecks& checks);
AttackOutcome different_plans(const aggregation::SecAggChecks& checks);
AttackOutcome declared_dead(const aggregation::SecAggChecks& checks);
AttackOutcome both_secrets(const aggregation::SecAggChecks& checks);
AttackOutcome unmask_twice(const aggregation::SecAggChecks& checks);
AttackOutcome rerun_without_one(const aggregation::SecAggChecks& checks);

// attacks_shares.cpp
AttackOutcome two_survivor_sets(const aggregation::SecAggChecks& checks);
AttackOutcome too_few_signatures(const aggregation::SecAggChecks& checks);
AttackOutcome foreign_signatures(const aggregation::SecAggChecks& checks);
AttackOutcome retargeted_box(const aggregation::SecAggChecks& checks);
AttackOutcome replayed_box(const aggregation::SecAggChecks& checks);

// attacks_device.cpp
AttackOutcome bad_share(const aggregation::SecAggChecks& checks);
AttackOutcome wrong_length(const aggregation::SecAggChecks& checks);
AttackOutcome wrong_modulus(const aggregation::SecAggChecks& checks);
AttackOutcome other_round(const aggregation::SecAggChecks& checks);
AttackOutcome submitted_twice(const aggregation::SecAggChecks& checks);
AttackOutcome weight_too_high(const aggregation::SecAggChecks& checks);

}  // namespace covey::simulations

/// Attacks of security.md section 8 that a device's roster and policy decide, before secure aggregation begins (5, 6,
/// 21, 30, 31), each against a whole session (attack_victim.h). A control is a device that lacks the one thing that
/// stops the attack: its memory of the chain, a roster key apart from the coordinator's, the default policy, its
/// owner's bound on epsilon, or the memory of what it agreed to.
#pragma once

#include <vector>

#include "simulations/attacks.h"

namespace covey::simulations {

struct SessionAttack {
  const char* number;
  const char* name;
  AttackVerdict (*judge)(const SessionAttack& attack);
};

const std::vector<SessionAttack>& session_attacks();

}  // namespace covey::simulations

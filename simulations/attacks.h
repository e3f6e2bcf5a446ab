/// The attacks of security.md section 8 on secure aggregation: a hostile coordinator or device against the unmodified
/// opposite state machine, through encoded frames. Each is played twice: against all checks, where it must be refused
/// for the named reason, and as a control with exactly the check that it is about switched off (aggregation/
/// secagg_seam.h), where it must succeed: the victim's vector is recovered, or the sum is wrong.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "aggregation/secagg_seam.h"
#include "core/wire/messages.h"

namespace covey::simulations {

/// How one play of an attack ended.
struct AttackOutcome {
  wire::SecureReason refused = wire::SecureReason::none;  ///< by the attacked side
  bool silent = true;      ///< after the refusal no share, mask or signature was to be had
  bool succeeded = false;  ///< the vector recovered, or the sum wrong
  std::string detail;      ///< of what went wrong with the play itself; empty: nothing
};

struct SecAggAttack {
  const char* number;  ///< in security.md section 8
  const char* name;
  wire::SecureReason expected;
  const char* goal;  ///< what the control shows
  /// Switches off the check that the attack is about.
  void (*without)(aggregation::SecAggChecks& checks);
  AttackOutcome (*play)(const aggregation::SecAggChecks& checks);
};

/// In the order of section 8.
const std::vector<SecAggAttack>& secagg_attacks();

struct AttackVerdict {
  bool passed = false;
  std::string line;  ///< for people
};
/// Plays an attack and its control.
AttackVerdict judge(const SecAggAttack& attack);

/// Plays them in this order, prints one line each through `print` and a last one "N passed, M failed". @return M.
int run_attacks(const std::vector<std::function<AttackVerdict()>>& plays,
                const std::function<void(const std::string&)>& print);

}  // namespace covey::simulations

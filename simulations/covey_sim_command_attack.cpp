#include <cstdio>

#include "simulations/attacks.h"
#include "simulations/attacks_session.h"
#include "simulations/covey_sim.h"

namespace covey::simulations {

Status attack_command() {
  std::vector<std::function<AttackVerdict()>> plays;
  for (const SecAggAttack& attack : secagg_attacks()) plays.emplace_back([&attack] { return judge(attack); });
  for (const SessionAttack& attack : session_attacks()) plays.emplace_back([&attack] { return attack.judge(attack); });
  const int failed = run_attacks(plays, [](const std::string& line) {
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);  // each line stands as soon as its attack is over
  });
  if (failed == 0) return {};
  return Error{ErrorCode::internal, std::to_string(failed) + " attacks were not refused, or their controls failed"};
}

}  // namespace covey::simulations

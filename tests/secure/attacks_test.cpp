// Attacks of security.md section 8 that the machines of secure aggregation, roster and policy decide: refused with all
// checks, and successful without the one that it is about. `covey-sim attack` shows the same.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "simulations/attacks.h"
#include "simulations/attacks_session.h"
#include "support/support.h"

using namespace covey;

TEST_CASE("each attack is refused for its reason, and its control succeeds") {
  const char* only = std::getenv("COVEY_ATTACK");
  for (const auto& attack : simulations::secagg_attacks()) {
    if (only != nullptr && std::strcmp(only, attack.number) != 0) continue;
    const auto verdict = simulations::judge(attack);
    std::printf("%s %s\n", verdict.passed ? "passed" : "FAILED", verdict.line.c_str());
    CHECK_MESSAGE(verdict.passed, verdict.line);
  }
}

TEST_CASE("each attack on roster and policy is refused, and its control succeeds") {
  for (const auto& attack : simulations::session_attacks()) {
    const auto verdict = attack.judge(attack);
    std::printf("%s %s\n", verdict.passed ? "passed" : "FAILED", verdict.line.c_str());
    CHECK_MESSAGE(verdict.passed, verdict.line);
  }
}

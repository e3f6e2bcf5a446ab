// Every attack of security.md section 8 that the two machines of secure aggregation decide: refused with all checks,
// and successful without the one that it is about. `covey-sim attack` shows the same.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "simulations/attacks.h"
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

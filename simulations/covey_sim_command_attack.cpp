#include <cstdio>

#include "simulations/attacks.h"
#include "simulations/covey_sim.h"

namespace covey::simulations {

Status attack_command() {
  const int failed = run_attacks([](const std::string& line) {
    std::printf("%s\n", line.c_str());
    std::fflush(stdout);  // each line stands as soon as its attack is over
  });
  if (failed == 0) return {};
  return Error{ErrorCode::internal, std::to_string(failed) + " attacks were not refused, or their controls failed"};
}

}  // namespace covey::simulations

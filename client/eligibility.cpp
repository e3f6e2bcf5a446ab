#include "client/eligibility.h"

#include <sstream>

#include "core/base/file.h"

namespace covey::client {

Eligibility judge(const EligibilityRules& rules, const PowerAndNetwork& state, bool paused_by_user) {
  if (paused_by_user) return {false, "paused; `covey-device resume` goes on"};
  if (rules.only_on_ac && !state.on_ac) return {false, "on battery"};
  if (!rules.allow_metered && state.metered) return {false, "on a metered network"};
  return {};
}

Result<PowerAndNetwork> read_state_file(const std::string& path) {
  COVEY_ASSIGN(const std::string text, read_text_file(path, 4096));
  PowerAndNetwork state;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line == "power: ac") {
      state.on_ac = true;
    } else if (line == "power: battery") {
      state.on_ac = false;
    } else if (line == "network: free") {
      state.metered = false;
    } else if (line == "network: metered") {
      state.metered = true;
    } else if (!line.empty() && line.front() != '#') {
      return Error{ErrorCode::invalid_argument,
                   path + ": a line is neither `power: ac|battery` nor `network: free|metered`"};
    }
  }
  return state;
}

Eligibility eligibility_now(const EligibilityRules& rules, bool paused_by_user) {
  if (rules.state_file.empty()) return judge(rules, power_and_network(), paused_by_user);
  const auto state = read_state_file(rules.state_file);
  if (!state.ok()) return {false, state.error().message};
  return judge(rules, *state, paused_by_user);
}

}  // namespace covey::client

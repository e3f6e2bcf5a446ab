/// May this device work now? The owner's rules against the state of the machine.
#pragma once

#include <string>

#include "client/platform_linux/platform.h"
#include "core/base/result.h"

namespace covey::client {

struct EligibilityRules {
  bool only_on_ac = true;
  bool allow_metered = false;
  /// Not empty: a file that replaces what the system says, for tests and for systems that know better. Lines
  /// `power: ac|battery` and `network: free|metered`; what it does not say is ac and free.
  std::string state_file;
};

struct Eligibility {
  bool eligible = true;
  std::string reason;  ///< why not
  bool operator==(const Eligibility&) const = default;
};

Eligibility judge(const EligibilityRules& rules, const PowerAndNetwork& state, bool paused_by_user);
/// @errors not_found, io_error; invalid_argument: another line.
Result<PowerAndNetwork> read_state_file(const std::string& path);
/// The machine's state by the rules: the file where there is one, else the system. A file that cannot be read is not
/// eligible.
Eligibility eligibility_now(const EligibilityRules& rules, bool paused_by_user);

}  // namespace covey::client

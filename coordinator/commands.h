/// The commands of `covey-coordinator` but serve: asked of the serving process, or run on the opened database.
#pragma once

#include <string>

#include "core/base/result.h"
#include "core/formats/json.h"

namespace covey::coordinator {

struct CommandOptions {
  std::string config = "coordinator.yaml";
  bool json = false;
};

/// Runs admin command `name` and prints its result.
Status run_command(const CommandOptions& options, const std::string& name, formats::Json request);
/// Signs what waits with a key that never leaves this process.
Status sign_roster(const CommandOptions& options, const std::string& key_file);
/// One JSON object, or text for people. @errors internal where the result itself says that a check failed.
Status print_result(const CommandOptions& options, const std::string& name, const formats::Json& result);

}  // namespace covey::coordinator

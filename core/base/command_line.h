/// What the four programs do alike with a command line that says something wrong, and with a command that failed: one
/// line on stderr, exit code 2 or 1 (design.md section 5).
#pragma once

#include <optional>

#include "core/base/result.h"

namespace CLI {
class App;
}

namespace covey {

/// Parses; the callbacks of the chosen subcommand run. @return nothing where the program goes on; else its exit code: 0
/// after --help and --version, 2 after one line that names what is wrong and where help is. The program is app's name.
std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv);

/// @return the program's exit code; prints one line where the command failed.
int report_outcome(const CLI::App& app, const Status& outcome);

}  // namespace covey

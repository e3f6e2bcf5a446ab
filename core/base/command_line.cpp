#include "core/base/command_line.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

namespace covey {
namespace {

/// An error stays one line, whatever a file's name or a message holds.
void complain(const CLI::App& app, std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  std::fprintf(stderr, "%s: %s\n", app.get_name().c_str(), text.c_str());
}

}  // namespace

std::optional<int> parse_command_line(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    const bool unknown_command = argc > 1 && argv[1][0] != '-' && app.get_subcommands().empty();
    const std::string what = unknown_command ? "no command \"" + std::string(argv[1]) + "\"" : error.what();
    complain(app, what + "; see " + app.get_name() + " --help");
    return 2;
  }
  return std::nullopt;
}

int report_outcome(const CLI::App& app, const Status& outcome) {
  if (outcome.ok()) return 0;
  complain(app, outcome.error().message);
  return exit_code(outcome.error());
}

}  // namespace covey

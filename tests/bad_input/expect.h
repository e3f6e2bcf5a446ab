/// What a program owes the person who gave it something wrong: one line on stderr that says what, where and how to
/// mend, nothing on stdout, exit status 2 (bad usage or input) or 1 (ran and failed), no signal, no sanitizer's report.
#pragma once

#include <string>
#include <vector>

namespace covey::bad_input {

struct Case {
  std::string name;                    ///< what is wrong, for the report
  std::string command;                 ///< "covey-model info {}/x": {} is the folder the case lies in
  std::vector<std::string> fragments;  ///< what the line must say
  int exit_code = 2;
};

/// Runs it (20 s at most) and checks all of the above. `folder` replaces {}.
void expect_refusal(const Case& bad, const std::string& folder);
void expect_refusals(const std::vector<Case>& cases, const std::string& folder);
/// The same command with nothing wrong: exit status 0. A case proves nothing where this fails.
void expect_success(const std::string& command, const std::string& folder);
/// Shell command line that runs the program: {} replaced, the program's path put in front.
std::string command_line(const std::string& command, const std::string& folder);

}  // namespace covey::bad_input

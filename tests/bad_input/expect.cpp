#include "bad_input/expect.h"

#include <algorithm>
#include <array>

#include "support/support.h"

namespace covey::bad_input {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    if (end > begin) lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

bool is_printable(const std::string& line) {
  return std::all_of(line.begin(), line.end(), [](char c) { return static_cast<unsigned char>(c) >= 0x20; });
}

}  // namespace

std::string command_line(const std::string& command, const std::string& folder) {
  std::string out = "timeout 60 " + test::bin_dir() + "/" + command;
  for (std::size_t at = out.find("{}"); at != std::string::npos; at = out.find("{}", at + folder.size())) {
    out.replace(at, 2, folder);
  }
  return out;
}

void expect_refusal(const Case& bad, const std::string& folder) {
  const auto result = test::run_command(command_line(bad.command, folder));
  CAPTURE(bad.name);
  CAPTURE(bad.command);
  CAPTURE(result.err);
  CHECK(result.exit_code == bad.exit_code);
  CHECK(result.out.empty());
  const auto lines = lines_of(result.err);
  CHECK(lines.size() == 1);
  if (lines.empty()) return;
  const std::string& line = lines.front();
  CHECK(line.starts_with(bad.command.substr(0, bad.command.find(' ')) + ": "));
  CHECK(is_printable(line));
  CHECK(line.size() < 600);
  for (const std::string& fragment : bad.fragments) {
    CAPTURE(fragment);
    CHECK(line.find(fragment) != std::string::npos);
  }
  constexpr std::array kNever = {"Sanitizer", "runtime error", "assertion failed", "terminate called", "what():"};
  for (const char* text : kNever) CHECK(result.err.find(text) == std::string::npos);
}

void expect_refusals(const std::vector<Case>& cases, const std::string& folder) {
  for (const Case& bad : cases) expect_refusal(bad, folder);
}

void expect_success(const std::string& command, const std::string& folder) {
  const auto result = test::run_command(command_line(command, folder));
  CAPTURE(command);
  CAPTURE(result.err);
  CHECK(result.exit_code == 0);
}

}  // namespace covey::bad_input

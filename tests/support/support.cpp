#include "support/support.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>

namespace covey::test {
namespace {

std::string environment(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : fallback;
}

std::optional<std::string> existing(const std::string& folder, const std::string& relative) {
  const std::string path = folder + "/" + relative;
  if (std::filesystem::exists(path)) return path;
  if (environment("COVEY_REQUIRE_DATA", "0") == "1") FAIL("missing " << path << " and COVEY_REQUIRE_DATA=1");
  std::cout << "SKIPPED: " << path << " is not here\n";
  return std::nullopt;
}

std::string slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

}  // namespace

std::string source_dir() {
  return environment("COVEY_SOURCE_DIR", ".");
}
std::string bin_dir() {
  return environment("COVEY_BIN_DIR", source_dir() + "/build/release/bin");
}

std::optional<std::string> data_path(const std::string& relative) {
  return existing(environment("COVEY_DATA_DIR", source_dir() + "/../shared/data"), relative);
}

std::optional<std::string> golden_path(const std::string& relative) {
  return existing(environment("COVEY_GOLDEN_DIR", source_dir() + "/../shared/golden"), relative);
}

TempDir::TempDir() {
  std::string pattern = (std::filesystem::temp_directory_path() / "covey-test-XXXXXX").string();
  REQUIRE(mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

CommandResult run_command(const std::string& command_line) {
  const TempDir dir;
  const int status =
      std::system(("( " + command_line + " ) >" + dir.file("out") + " 2>" + dir.file("err") + " </dev/null").c_str());
  CommandResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = slurp(dir.file("out"));
  result.err = slurp(dir.file("err"));
  return result;
}

}  // namespace covey::test

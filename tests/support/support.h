/// What tests share: where data lies, temporary folders, and how a missing file becomes a skip or a failure.
#pragma once

#include <doctest/doctest.h>

#include <optional>
#include <string>

#include "core/base/result.h"

namespace covey::test {

/// Path inside COVEY_DATA_DIR (default <source>/../shared/data). Empty where it does not exist: the test then says
/// SKIPPED and returns; with COVEY_REQUIRE_DATA=1 a missing file fails the test instead.
///   const auto path = test::data_path("stories260K/stories260K.bin"); if (!path) return;
std::optional<std::string> data_path(const std::string& relative);
/// The same inside COVEY_GOLDEN_DIR (default <source>/../shared/golden).
std::optional<std::string> golden_path(const std::string& relative);
/// Root of the source tree.
std::string source_dir();
/// Folder of the built programs.
std::string bin_dir();

/// A fresh empty folder, removed with all it holds when the object goes.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct CommandResult {
  int exit_code = -1;  ///< 128 + signal where one ended it
  std::string out;
  std::string err;
};
/// Runs a shell command line and waits for it.
CommandResult run_command(const std::string& command_line);

}  // namespace covey::test

/// REQUIRE that a Result is ok, printing its error where it is not.
#define REQUIRE_OK(expression)                                                               \
  do {                                                                                       \
    const auto& covey_r = (expression);                                                      \
    REQUIRE_MESSAGE(covey_r.ok(), (covey_r.ok() ? std::string() : covey_r.error().message)); \
  } while (false)

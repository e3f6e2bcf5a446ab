/// Real processes for the end-to-end tests: start, look at the output, kill at a moment, wait with a limit.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace covey::test {

/// One child process; killed (SIGKILL) and reaped when the object goes. stdout and stderr go to files.
class Process {
 public:
  /// @param argv  program and arguments; a program without a slash is taken from bin_dir().
  /// @param log   file that stdout and stderr are appended to.
  Process(std::vector<std::string> argv, std::string log);
  ~Process();
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool running();
  void signal(int number);
  void kill_now();  ///< SIGKILL and reap
  /// Exit status (128 + signal where one ended it), or nothing where it still runs after `limit_ms`.
  std::optional<int> wait(int limit_ms);
  /// All that it has written so far.
  [[nodiscard]] std::string output() const;

 private:
  pid_t pid_ = -1;
  std::optional<int> status_;
  std::string log_;
};

/// Asks every 20 ms until `condition` holds; false where it did not within `limit_ms`.
bool eventually(int limit_ms, const std::function<bool()>& condition);

/// A TCP port on 127.0.0.1 that was free a moment ago.
int free_port();

}  // namespace covey::test

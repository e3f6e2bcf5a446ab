/// How the commands talk to a running daemon: a Unix socket in the device's directory, one JSON line each way. The
/// directory belongs to its owner alone (0700), and that is the whole access control.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace covey::client {

inline constexpr std::size_t kControlRequestMax = 64 * 1024;

/// Not thread-safe; never waits for a client.
class ControlServer {
 public:
  /// Takes the place of a socket that a killed daemon left. The caller holds the store's lock, so no other one runs.
  /// @errors io_error; invalid_argument: the path is too long for a socket.
  static Result<ControlServer> open(const std::string& path);
  ControlServer(ControlServer&& other) noexcept;
  ControlServer& operator=(ControlServer&&) = delete;
  ~ControlServer();

  /// Accepts, reads, and answers every whole line with `answer`'s line.
  void serve(const std::function<std::string(const std::string&)>& answer);

 private:
  struct Client {
    int fd = -1;
    std::string input;
    std::int64_t since_ms = 0;
  };
  ControlServer(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  /// True: finished with it.
  bool attend(Client& client, const std::function<std::string(const std::string&)>& answer);

  std::string path_;
  int fd_ = -1;
  std::vector<Client> clients_;
};

/// One question. @errors unavailable: no daemon listens at `path`; io_error: it went away in between.
Result<std::string> control_ask(const std::string& path, const std::string& line);

}  // namespace covey::client

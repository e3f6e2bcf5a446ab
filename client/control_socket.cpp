#include "client/control_socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/base/clock.h"
#include "core/base/file.h"

namespace covey::client {
namespace {

constexpr std::size_t kClientsMax = 8;
constexpr std::int64_t kPatience_ms = 2'000;
constexpr std::size_t kAnswerMax = std::size_t{64} << 20;

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return Error{ErrorCode::invalid_argument, path + ": too long for a socket; choose a shorter directory"};
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

void set_patience(int fd) {
  const timeval limit{kPatience_ms / 1000, 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

bool send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

}  // namespace

Result<ControlServer> ControlServer::open(const std::string& path) {
  COVEY_ASSIGN(const sockaddr_un address, address_of(path));
  unlink(path.c_str());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return os_error(path, "cannot make a socket");
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 || chmod(path.c_str(), 0600) != 0 ||
      listen(fd, static_cast<int>(kClientsMax)) != 0) {
    const Error error = os_error(path, "cannot listen");
    close(fd);
    return error;
  }
  return ControlServer(path, fd);
}

ControlServer::ControlServer(ControlServer&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), clients_(std::move(other.clients_)) {}

ControlServer::~ControlServer() {
  if (fd_ < 0) return;
  for (const auto& client : clients_) close(client.fd);
  close(fd_);
  unlink(path_.c_str());
}

void ControlServer::serve(const std::function<std::string(const std::string&)>& answer) {
  const std::int64_t now = SystemClock().monotonic_ms();
  while (clients_.size() < kClientsMax) {
    const int fd = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) break;
    set_patience(fd);
    clients_.push_back({fd, "", now});
  }
  std::erase_if(clients_, [&](Client& client) {
    if (!attend(client, answer) && now - client.since_ms < kPatience_ms) return false;
    close(client.fd);
    return true;
  });
}

bool ControlServer::attend(Client& client, const std::function<std::string(const std::string&)>& answer) {
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t got = recv(client.fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0) return errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR;
    if (got == 0) return true;
    client.input.append(buffer.data(), static_cast<std::size_t>(got));
    const auto end = client.input.find('\n');
    if (end != std::string::npos) {
      send_all(client.fd, answer(client.input.substr(0, end)) + "\n");
      return true;
    }
    if (client.input.size() > kControlRequestMax) return true;
  }
}

Result<std::string> control_ask(const std::string& path, const std::string& line) {
  COVEY_ASSIGN(const sockaddr_un address, address_of(path));
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return os_error(path, "cannot make a socket");
  std::string answer;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    close(fd);
    return Error{ErrorCode::unavailable, path + ": no daemon listens here"};
  }
  bool whole = send_all(fd, line + "\n");
  std::array<char, 4096> buffer{};
  while (whole && !answer.ends_with('\n') && answer.size() < kAnswerMax) {
    const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) whole = false;
    if (got > 0) answer.append(buffer.data(), static_cast<std::size_t>(got));
  }
  close(fd);
  if (!whole || !answer.ends_with('\n')) return Error{ErrorCode::io_error, path + ": the daemon went away"};
  answer.pop_back();
  return answer;
}

}  // namespace covey::client

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>

#include "coordinator/admin.h"
#include "core/base/file.h"

namespace covey::coordinator {

namespace {
using formats::Json;
constexpr std::size_t kRequestMax = 1 << 20;
constexpr std::size_t kClientsMax = 16;

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Error{ErrorCode::invalid_argument, path + ": is too long for a socket; choose a shorter data_dir"};
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) {  // a local reader: give it a moment, never more
      pollfd ready{fd, POLLOUT, 0};
      if (::poll(&ready, 1, 200) <= 0) return;
      continue;
    }
    if (sent <= 0) return;
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
}

void write_answer(int fd, const Result<Json>& result) {
  const Json reply =
      result.ok() ? Json::object({{"ok", true}, {"result", *result}})
                  : Json::object(
                        {{"ok", false}, {"code", to_string(result.error().code)}, {"message", result.error().message}});
  write_all(fd, reply.dump() + "\n");
}

ErrorCode code_of(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(ErrorCode::internal); ++i) {
    if (name == to_string(static_cast<ErrorCode>(i))) return static_cast<ErrorCode>(i);
  }
  return ErrorCode::internal;
}
}  // namespace

Result<std::unique_ptr<AdminSocket>> AdminSocket::listen(const std::string& path) {
  COVEY_ASSIGN(const auto address, address_of(path));
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return os_error(path, "cannot make a socket");
  std::unique_ptr<AdminSocket> out(new AdminSocket(fd, path));
  ::unlink(path.c_str());  // the database's lock shows that no other process serves here
  const mode_t before = ::umask(0177);
  const int bound = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  ::umask(before);
  if (bound != 0 || ::listen(fd, 8) != 0) return os_error(path, "cannot listen");
  return out;
}

AdminSocket::~AdminSocket() {
  for (const auto& [descriptor, client] : clients_) ::close(descriptor);
  ::close(fd_);
  ::unlink(path_.c_str());
}

void AdminSocket::poll(const std::function<AdminAnswer(const Json&)>& answer) {
  for (;;) {
    const int client = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (client < 0) break;
    if (clients_.size() >= kClientsMax) {
      ::close(client);
    } else {
      clients_[client];
    }
  }
  for (auto at = clients_.begin(); at != clients_.end();) {
    if (!serve(at->first, at->second, answer)) {
      ++at;
      continue;
    }
    ::close(at->first);
    at = clients_.erase(at);
  }
}

/// True: the connection is done with.
bool AdminSocket::serve(int fd, Client& client, const std::function<AdminAnswer(const Json&)>& answer) {
  if (client.working) {
    if (client.working->wait_for(std::chrono::seconds(0)) != std::future_status::ready) return false;
    write_answer(fd, client.working->get());
    return true;
  }
  char buffer[4096];
  ssize_t got = 0;
  while ((got = ::recv(fd, buffer, sizeof buffer, 0)) > 0) {
    client.text.append(buffer, static_cast<std::size_t>(got));
    if (client.text.size() > kRequestMax || client.text.find('\n') != std::string::npos) break;
  }
  const std::size_t end = client.text.find('\n');
  if (end == std::string::npos) {
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR) || client.text.size() > kRequestMax;
  }
  const auto request = Json::parse(std::string_view(client.text).substr(0, end), "admin request");
  AdminAnswer given = request.ok() ? answer(*request) : AdminAnswer(Result<Json>(request.error()));
  if (auto* later = std::get_if<std::future<Result<Json>>>(&given)) {
    client.working = std::move(*later);
    return false;
  }
  write_answer(fd, std::get<Result<Json>>(given));
  return true;
}

Result<Json> ask_admin(const std::string& path, const Json& request) {
  COVEY_ASSIGN(const auto address, address_of(path));
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return os_error(path, "cannot make a socket");
  const struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } closer{fd};
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return Error{ErrorCode::unavailable, path + ": nobody serves here"};
  }
  write_all(fd, request.dump() + "\n");
  std::string text;
  char buffer[65536];
  ssize_t got = 0;
  while ((got = ::recv(fd, buffer, sizeof buffer, 0)) > 0) text.append(buffer, static_cast<std::size_t>(got));
  COVEY_ASSIGN(const Json reply, Json::parse(text, "reply of the serving process"));
  COVEY_ASSIGN(const bool ok, reply.get_bool("ok"));
  if (!ok) {
    COVEY_ASSIGN(const std::string code, reply.get_string("code"));
    COVEY_ASSIGN(std::string message, reply.get_string("message"));
    return Error{code_of(code), std::move(message)};
  }
  const Json* result = reply.find("result");
  return result != nullptr ? *result : Json();
}

}  // namespace covey::coordinator

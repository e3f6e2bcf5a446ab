#include "proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "support/support.h"

namespace covey::test {
namespace {

struct Pair {
  int device = -1;
  int server = -1;
};

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

int connect_to(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = loopback(port);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  ::close(fd);
  return -1;
}

/// Passes what `from` has, at most `most` bytes. Bytes passed; -1: one side has ended.
ssize_t pass(int from, int to, std::size_t most) {
  char buffer[16384];
  const ssize_t got = ::recv(from, buffer, std::min(sizeof buffer, most), MSG_DONTWAIT);
  if (got <= 0) return -1;
  for (ssize_t done = 0; done < got;) {
    const ssize_t sent = ::send(to, buffer + done, static_cast<std::size_t>(got - done), MSG_NOSIGNAL);
    if (sent <= 0) return -1;
    done += sent;
  }
  return got;
}

}  // namespace

Proxy::Proxy() {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = loopback(0);
  socklen_t size = sizeof address;
  REQUIRE(::bind(listener_, reinterpret_cast<const sockaddr*>(&address), size) == 0);
  REQUIRE(::listen(listener_, 16) == 0);
  REQUIRE(::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

Proxy::~Proxy() {
  stop_ = true;
  thread_.join();
  ::close(listener_);
}

void Proxy::run() {
  std::vector<Pair> pairs;
  while (!stop_) {
    const bool held = holds();
    std::vector<pollfd> fds{{listener_, POLLIN, 0}};
    for (const Pair& pair : pairs) {
      // Held back, a device is only watched for its end.
      fds.push_back({pair.device, static_cast<short>(held ? POLLRDHUP : POLLIN), 0});
      fds.push_back({pair.server, POLLIN, 0});
    }
    ::poll(fds.data(), fds.size(), 10);
    std::vector<Pair> kept;
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const pollfd& device = fds[1 + 2 * i];
      const pollfd& server = fds[2 + 2 * i];
      bool open = (device.revents & (POLLERR | POLLHUP | POLLRDHUP)) == 0;
      if (open && (device.revents & POLLIN) != 0) {
        const ssize_t passed = pass(pairs[i].device, pairs[i].server, limit_ - std::min(limit_.load(), sent_.load()));
        open = passed >= 0;
        if (open) sent_ += static_cast<std::uint64_t>(passed);
      }
      if (open && server.revents != 0) open = pass(pairs[i].server, pairs[i].device, SIZE_MAX) >= 0;
      if (open) {
        kept.push_back(pairs[i]);
      } else {
        ::close(pairs[i].device);
        ::close(pairs[i].server);
      }
    }
    if ((fds[0].revents & POLLIN) != 0) {
      const int device = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      const int server = connect_to(target_);
      if (device >= 0 && server >= 0) {
        kept.push_back({device, server});
      } else {
        if (device >= 0) ::close(device);
        if (server >= 0) ::close(server);
      }
    }
    pairs = std::move(kept);
    connections_ = static_cast<int>(pairs.size());
  }
  for (const Pair& pair : pairs) {
    ::close(pair.device);
    ::close(pair.server);
  }
}

}  // namespace covey::test

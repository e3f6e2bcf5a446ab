/// Peers that do not keep to the rules: plain TCP sockets, and DEALERs of libzmq without our client around them.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include <cerrno>
#include <string>
#include <utility>

#include "net_fixture.h"

namespace covey::net::test {

/// A TCP connection to "tcp://127.0.0.1:port" that does not block.
class RawTcp {
 public:
  explicit RawTcp(const std::string& endpoint) {
    fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoi(endpoint.substr(endpoint.rfind(':') + 1))));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    open_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  }
  ~RawTcp() {
    if (fd_ >= 0) ::close(fd_);
  }
  RawTcp(RawTcp&& other) noexcept : fd_(std::exchange(other.fd_, -1)), open_(other.open_) {}
  RawTcp(const RawTcp&) = delete;
  RawTcp& operator=(const RawTcp&) = delete;

  void send(ByteSpan bytes) { (void)::send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL); }
  /// Reads what is there; false once the other side has ended the connection.
  bool open() {
    char buffer[4096];
    while (open_) {
      const ssize_t n = ::recv(fd_, buffer, sizeof buffer, MSG_DONTWAIT);
      if (n > 0) {
        received_ += static_cast<std::size_t>(n);
      } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        open_ = false;
      } else {
        return true;
      }
    }
    return false;
  }
  [[nodiscard]] std::size_t received() const { return received_; }

 private:
  int fd_ = -1;
  bool open_ = false;
  std::size_t received_ = 0;
};

/// ZMTP 3.1 greeting of a CURVE client (rfc.zeromq.org/spec/23).
inline Bytes curve_greeting() {
  Bytes out(64);
  out[0] = 0xff;
  out[8] = 1;
  out[9] = 0x7f;
  out[10] = 3;
  out[11] = 1;
  const std::string mechanism = "CURVE";
  std::copy(mechanism.begin(), mechanism.end(), out.begin() + 12);
  return out;
}

/// Header of a ZMTP frame that says it has `length` bytes. flags: 2 = long, 4 = command.
inline Bytes long_header(std::uint8_t flags, std::uint64_t length) {
  Bytes out{flags};
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<std::uint8_t>(length >> shift));
  return out;
}

/// A DEALER with a key of its own context's process; nothing of ours checks what it sends.
class RawDealer {
 public:
  RawDealer(void* context, const std::string& endpoint, const CurveKeyPair& server, const CurveKeyPair& own) {
    socket_ = zmq_socket(context, ZMQ_DEALER);
    const int linger = 0;
    zmq_setsockopt(socket_, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(socket_, ZMQ_CURVE_SERVERKEY, server.public_key().bytes.data(), 32);
    zmq_setsockopt(socket_, ZMQ_CURVE_PUBLICKEY, own.public_key().bytes.data(), 32);
    zmq_setsockopt(socket_, ZMQ_CURVE_SECRETKEY, own.secret_key().data(), 32);
    zmq_connect(socket_, endpoint.c_str());
  }
  ~RawDealer() { zmq_close(socket_); }
  RawDealer(const RawDealer&) = delete;
  RawDealer& operator=(const RawDealer&) = delete;

  bool send(ByteSpan bytes, bool more = false) {
    return zmq_send(socket_, bytes.data(), bytes.size(), ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)) >= 0;
  }
  /// Queues `copies` parts that share one buffer, all but the last announcing more.
  void send_parts(std::size_t copies, std::size_t bytes) {
    zmq_msg_t part;
    zmq_msg_init_size(&part, bytes);
    std::memset(zmq_msg_data(&part), 'x', bytes);
    for (std::size_t n = 0; n < copies; ++n) {
      zmq_msg_t copy;
      zmq_msg_init(&copy);
      zmq_msg_copy(&copy, &part);
      if (zmq_msg_send(&copy, socket_, ZMQ_DONTWAIT | (n + 1 < copies ? ZMQ_SNDMORE : 0)) < 0) zmq_msg_close(&copy);
    }
    zmq_msg_close(&part);
  }
  /// Bytes of the next frame; -1 where there is none.
  int receive() {
    char buffer[16];
    return zmq_recv(socket_, buffer, sizeof buffer, ZMQ_DONTWAIT);
  }

 private:
  void* socket_;
};

}  // namespace covey::net::test

/// The device's end of the network: a ZeroMQ DEALER with CURVE, one connection at a time.
///
/// connect() dials at once the first time and after a back-off with jitter later: at least `backoff_ms`, doubling up to
/// `backoff_max_ms` while dialling fails. One attempt is one socket; ZeroMQ's own reconnecting is off, so the owner
/// hears of every loss through on_closed and nothing is ever sent to a connection it was not meant for.
/// All functions belong to one thread; handlers run inside poll(). No thread of its own beside ZeroMQ's.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/secret.h"
#include "core/net/transport.h"

namespace covey::net {

struct ZmqClientOptions {
  std::string endpoint{};  ///< "tcp://host:7400"
  wire::Key server_key{};  ///< CURVE, pinned by the invite
  wire::Key public_key{};
  SecretBytes secret_key{};         ///< 32 bytes, CURVE
  int connect_timeout_ms = 10'000;  ///< until the encrypted connection stands
  int handshake_ms = 5'000;
  int heartbeat_ms = 15'000;
  int heartbeat_timeout_ms = 45'000;
  int linger_ms = 1'000;
  std::int64_t backoff_ms = 500;
  std::int64_t backoff_max_ms = 60'000;
  std::size_t outbox_frames_max = 16;
  std::uint64_t undelivered_max = 4 * 288 * 1024;  ///< as the server's guard: a coordinator cannot fill our memory
};

class ZmqClient final : public ClientTransport {
 public:
  /// @errors invalid_argument: endpoint or key.
  static Result<std::unique_ptr<ZmqClient>> create(ZmqClientOptions options);
  ~ZmqClient() override;

  void set_handlers(Handlers handlers) override;
  void set_server(const ServerAddress& server) override;
  Status connect() override;
  /// Frames already handed to ZeroMQ still leave, for at most linger_ms. on_closed is not called.
  void disconnect() override;
  /// @errors unavailable: not connected or connecting, or the queue is full; invalid_argument: too large.
  Status send(Bytes frame) override;
  Status poll(std::int64_t wait_ms) override;
  [[nodiscard]] bool connected() const;

 private:
  class Impl;
  explicit ZmqClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace covey::net

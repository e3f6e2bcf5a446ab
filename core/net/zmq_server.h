/// The coordinator's end of the network: a ZeroMQ ROUTER with CURVE behind the connection guard (security.md section
/// 3).
///
/// Keys are checked before a peer can send a frame; connections that flood, stay silent, exceed the cap or are too many
/// of one key are cut (guard.h). It may listen on several endpoints, each with its own CURVE key (key rotation): they
/// share one socket, and so the ZAP handler, the guard and every limit. One server per process, since ZeroMQ has one
/// ZAP endpoint per context. The handler of ZAP and the guard run in a thread of their own; all functions here belong
/// to one thread, and handlers run inside poll().
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/secret.h"
#include "core/net/guard.h"
#include "core/net/transport.h"

namespace covey::net {

struct ZmqServerOptions {
  std::string endpoint{};  ///< "tcp://0.0.0.0:7400"; port * takes a free one
  wire::Key public_key{};
  SecretBytes secret_key{};  ///< 32 bytes, CURVE
  /// guard.connections_max is lowered to what the process's limit of descriptors leaves: 512 stay for everything else.
  GuardLimits guard{};
  int handshake_ms = 5'000;
  int heartbeat_ms = 15'000;
  int heartbeat_timeout_ms = 45'000;
  int linger_ms = 1'000;
  int backlog = 1'024;
  int bind_retry_ms = 2'000;          ///< how long a server that just ended may still hold the port
  std::int64_t close_delay_ms = 250;  ///< from close() to the cut, so that what was sent before still leaves
  std::size_t outbox_frames_max = 8;  ///< per connection, behind ZeroMQ's own 4
  std::uint64_t outbox_total_bytes_max = std::uint64_t{256} << 20;
  std::size_t frames_per_poll = 512;
  std::int64_t stalled_ms = 30'000;  ///< a peer that takes nothing of its outbox for so long is cut
};

struct ServerStats {
  std::size_t connections = 0;  ///< open TCP connections, refused ones included until they end
  std::uint64_t accepted = 0;
  std::uint64_t admitted = 0;  ///< handshakes whose key may connect
  std::uint64_t refused = 0;
  std::uint64_t frames_in = 0;
  std::uint64_t frames_out = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t multipart = 0;  ///< messages dropped because they had several parts
  std::uint64_t cut_over_cap = 0;
  std::uint64_t cut_same_key = 0;  ///< pushed out by newer connections of the same key
  std::uint64_t cut_no_hello = 0;
  std::uint64_t cut_undelivered = 0;
};

class ZmqServer final : public ServerTransport {
 public:
  /// Listens when it returns. `directory` outlives the server.
  /// @errors invalid_argument: endpoint or keys; already_exists: the port or this process has a server already;
  /// resource_exhausted: the limit of descriptors is too low.
  static Result<std::unique_ptr<ZmqServer>> create(ZmqServerOptions options, const KeyDirectory& directory);
  ~ZmqServer() override;

  /// The first endpoint as bound, with the port's number.
  [[nodiscard]] const std::string& endpoint() const;
  /// Listens there too, for those who expect that CURVE key. @return the endpoint as bound. @errors as create().
  Result<std::string> listen_also(const std::string& endpoint, const SecretBytes& secret_key);
  /// Takes an endpoint as bound. The connections made through it end with it. @errors not_found.
  Status stop_listening(const std::string& endpoint);
  [[nodiscard]] ServerStats stats() const;

  void set_handlers(Handlers handlers) override;
  /// @errors invalid_argument: larger than a frame may be.
  Status send(ConnectionId connection, Bytes frame) override;
  void mark_authenticated(ConnectionId connection) override;
  /// Frames of the connection are ignored from now on; on_closed follows, once, when it is down.
  void close(ConnectionId connection) override;
  /// @errors unavailable: the thread that authenticates connections ended; the server has stopped listening.
  Status poll(std::int64_t wait_ms) override;

  /// Ends the thread that authenticates, as its death would. For tests.
  void kill_gatekeeper();

 private:
  class Impl;
  explicit ZmqServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace covey::net

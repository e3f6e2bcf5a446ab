/// The transport seam: frames between devices and a coordinator. Implementations: ZeroMQ (zmq_*.h) and in memory
/// (memory_network.h). A frame is one opaque byte string of at most wire's frame limit; the transport neither reads nor
/// changes it. Delivery is at most once, in order per connection; anything may be lost when a connection ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/wire/messages.h"

namespace covey::net {

/// One connection's number on the server; never reused within a process.
struct ConnectionId {
  std::uint64_t value = 0;
  auto operator<=>(const ConnectionId&) const = default;
};

/// Coordinator side. Calls come from one thread; handlers run inside poll().
class ServerTransport {
 public:
  struct Handlers {
    /// `curve` is the key the connection was authenticated with.
    std::function<void(ConnectionId, const wire::Key& curve, ByteSpan frame)> on_frame;
    std::function<void(ConnectionId)> on_closed;
  };
  virtual ~ServerTransport() = default;
  virtual void set_handlers(Handlers handlers) = 0;
  /// @errors unavailable: the connection is gone or its queue is full (the peer asks again).
  virtual Status send(ConnectionId connection, Bytes frame) = 0;
  /// The connection said a valid signed hello: the guard's first deadline is met.
  virtual void mark_authenticated(ConnectionId connection) = 0;
  virtual void close(ConnectionId connection) = 0;
  /// Handles what has arrived, waiting at most `wait_ms` for the first event. @errors only those that end the server.
  virtual Status poll(std::int64_t wait_ms) = 0;
};

/// Which CURVE keys may connect. Asked from the transport's thread during handshakes: implementations are thread-safe.
class KeyDirectory {
 public:
  virtual ~KeyDirectory() = default;
  [[nodiscard]] virtual bool may_connect(const wire::Key& curve) const = 0;
  /// How many connections that key may hold at once; a newer one pushes out the oldest. Two: a device that comes back
  /// before its old connection is known to be dead.
  [[nodiscard]] virtual std::size_t connections_max(const wire::Key& curve) const {
    static_cast<void>(curve);
    return 2;
  }
};

/// Whom a device connects to.
struct ServerAddress {
  std::string endpoint;  ///< "tcp://host:7400"
  wire::Key curve{};     ///< the transport key it must have
  bool operator==(const ServerAddress&) const = default;
};

/// Device side: one connection at a time. Calls come from one thread; handlers run inside poll().
class ClientTransport {
 public:
  struct Handlers {
    std::function<void(ByteSpan frame)> on_frame;
    std::function<void()> on_closed;  ///< lost or refused; connect() may be called again
  };
  virtual ~ClientTransport() = default;
  virtual void set_handlers(Handlers handlers) = 0;
  /// Where connect() goes from its next call on. Transports that know one server only ignore it.
  virtual void set_server(const ServerAddress& server) { static_cast<void>(server); }
  /// Starts connecting; frames sent before it is up are queued. Ends an existing connection first.
  virtual Status connect() = 0;
  virtual void disconnect() = 0;
  virtual Status send(Bytes frame) = 0;
  virtual Status poll(std::int64_t wait_ms) = 0;
};

}  // namespace covey::net

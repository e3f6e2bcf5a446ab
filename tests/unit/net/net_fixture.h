/// What the tests with real sockets share: a server on loopback that answers, honest clients, and raw peers.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "core/base/clock.h"
#include "core/crypto/curve.h"
#include "core/net/zmq_client.h"
#include "core/net/zmq_server.h"
#include "support/support.h"

namespace covey::net::test {

using crypto::CurveKeyPair;

class Directory final : public KeyDirectory {
 public:
  [[nodiscard]] bool may_connect(const wire::Key& curve) const override { return keys.contains(curve); }
  std::set<wire::Key> keys;  ///< set before the server starts
};

inline wire::Key key_of(const CurveKeyPair& pair) {
  return pair.public_key().bytes;
}

/// Small deadlines, so that tests are quick.
inline ZmqServerOptions server_options(const CurveKeyPair& pair, const std::string& endpoint = "tcp://127.0.0.1:*") {
  ZmqServerOptions options;
  options.endpoint = endpoint;
  options.public_key = key_of(pair);
  options.secret_key = pair.secret_copy();
  options.guard.hello_deadline_ms = 800;
  options.handshake_ms = 400;
  options.linger_ms = 100;
  options.close_delay_ms = 50;
  return options;
}

inline ZmqClientOptions client_options(const std::string& endpoint, const CurveKeyPair& server,
                                       const CurveKeyPair& own) {
  ZmqClientOptions options;
  options.endpoint = endpoint;
  options.server_key = key_of(server);
  options.public_key = key_of(own);
  options.secret_key = own.secret_copy();
  options.connect_timeout_ms = 2000;
  options.handshake_ms = 1000;
  options.linger_ms = 100;
  options.backoff_ms = 50;
  return options;
}

/// A server that takes a frame starting with 'H' for a hello, keeps silent on 'S', closes on 'C', and echoes the rest.
class EchoServer {
 public:
  explicit EchoServer(ZmqServerOptions options, const KeyDirectory& directory) {
    auto made = ZmqServer::create(std::move(options), directory);
    REQUIRE_OK(made);
    server = *std::move(made);
    server->set_handlers(
        {.on_frame = [this](ConnectionId id, const wire::Key& curve, ByteSpan frame) { on_frame(id, curve, frame); },
         .on_closed = [this](ConnectionId id) { closed.insert(id.value); }});
  }

  void on_frame(ConnectionId id, const wire::Key& curve, ByteSpan frame) {
    last_key = curve;
    last_id = id;
    seen.insert(id.value);
    ++frames;
    if (frame.empty()) return;
    if (custom && custom(id, frame)) return;
    if (frame[0] == 'S') return;
    if (frame[0] == 'H') server->mark_authenticated(id);
    (void)server->send(id, Bytes(frame.begin(), frame.end()));
    if (frame[0] == 'C') server->close(id);
  }

  std::unique_ptr<ZmqServer> server;
  std::function<bool(ConnectionId, ByteSpan)> custom;
  wire::Key last_key{};
  ConnectionId last_id{};
  std::set<std::uint64_t> seen;
  std::set<std::uint64_t> closed;
  std::size_t frames = 0;
};

class TestClient {
 public:
  explicit TestClient(ZmqClientOptions options) {
    auto made = ZmqClient::create(std::move(options));
    REQUIRE_OK(made);
    client = *std::move(made);
    client->set_handlers({.on_frame =
                              [this](ByteSpan frame) {
                                last = Bytes(frame.begin(), frame.end());
                                ++frames;
                              },
                          .on_closed = [this] { ++lost; }});
  }

  std::unique_ptr<ZmqClient> client;
  Bytes last;
  std::size_t frames = 0;
  int lost = 0;
};

inline Bytes text(const std::string& what) {
  return {what.begin(), what.end()};
}

inline std::int64_t now_ms() {
  return SystemClock().monotonic_ms();
}

/// Turns the server and the clients until `done`, at most `limit_ms`. @return whether it was done.
template <typename Done, typename... Clients>
bool turn_until(EchoServer& server, std::int64_t limit_ms, Done done, Clients&... clients) {
  const auto end = now_ms() + limit_ms;
  while (!done()) {
    if (now_ms() > end) return false;
    REQUIRE_OK(server.server->poll(1));
    const bool fine = (clients.client->poll(0).ok() && ... && true);
    REQUIRE(fine);
  }
  return true;
}

}  // namespace covey::net::test

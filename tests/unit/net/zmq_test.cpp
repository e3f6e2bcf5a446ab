// Both ends of the ZeroMQ transport over loopback, among honest peers.
#include <sys/resource.h>

#include "core/wire/frame.h"

#include "net_fixture.h"

using namespace covey;
using namespace covey::net;
using namespace covey::net::test;

TEST_CASE("an enrolled device's frames arrive with its key and are answered") {
  const auto server_key = CurveKeyPair::generate();
  const auto device_key = CurveKeyPair::generate();
  Directory directory;
  directory.keys = {key_of(device_key)};
  EchoServer echo(server_options(server_key), directory);
  TestClient device(client_options(echo.server->endpoint(), server_key, device_key));
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Hello")));  // queued until the connection stands
  REQUIRE(turn_until(
      echo, 5000, [&] { return device.frames == 1; }, device));
  CHECK(device.last == text("Hello"));
  CHECK(echo.last_key == key_of(device_key));
  CHECK(device.client->connected());

  device.client->disconnect();
  REQUIRE(turn_until(
      echo, 5000, [&] { return echo.closed.size() == 1; }, device));
  CHECK(echo.closed == echo.seen);
  CHECK(device.lost == 0);  // it hung up itself
  CHECK(!echo.server->send(echo.last_id, text("too late")).ok());
}

TEST_CASE("a key that is not listed gets nothing, and hears that it was refused") {
  const auto server_key = CurveKeyPair::generate();
  const auto device_key = CurveKeyPair::generate();
  const Directory nobody;
  EchoServer echo(server_options(server_key), nobody);
  TestClient device(client_options(echo.server->endpoint(), server_key, device_key));
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Hello")));
  REQUIRE(turn_until(
      echo, 5000, [&] { return device.lost == 1; }, device));
  CHECK(echo.frames == 0);
  CHECK(device.frames == 0);
  CHECK(echo.server->stats().refused == 1);
  CHECK(echo.server->stats().admitted == 0);
}

TEST_CASE("a client that expects another server key sends nothing") {
  const auto server_key = CurveKeyPair::generate();
  const auto other_key = CurveKeyPair::generate();
  const auto device_key = CurveKeyPair::generate();
  Directory directory;
  directory.keys = {key_of(device_key)};
  EchoServer echo(server_options(server_key), directory);
  TestClient device(client_options(echo.server->endpoint(), other_key, device_key));
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Hello")));
  REQUIRE(turn_until(
      echo, 5000, [&] { return device.lost == 1; }, device));
  CHECK(echo.frames == 0);
}

TEST_CASE("the largest frame passes in both directions, a larger one is refused before it is sent") {
  const auto server_key = CurveKeyPair::generate();
  const auto device_key = CurveKeyPair::generate();
  Directory directory;
  directory.keys = {key_of(device_key)};
  EchoServer echo(server_options(server_key), directory);
  TestClient device(client_options(echo.server->endpoint(), server_key, device_key));
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Hello")));
  REQUIRE(turn_until(
      echo, 5000, [&] { return device.frames == 1; }, device));
  const Bytes largest(wire::kFrameBytesMax, 'x');
  for (int n = 0; n < 5; ++n) {
    REQUIRE_OK(device.client->send(largest));
    const std::size_t want = device.frames + 1;
    REQUIRE(turn_until(
        echo, 5000, [&] { return device.frames == want; }, device));
    CHECK(device.last == largest);
  }
  CHECK(!device.client->send(Bytes(wire::kFrameBytesMax + 1)).ok());
  CHECK(!echo.server->send(echo.last_id, Bytes(wire::kFrameBytesMax + 1)).ok());
  CHECK(device.lost == 0);
}

TEST_CASE("more frames than ZeroMQ queues wait in the outbox, in order, and a full outbox says so") {
  const auto server_key = CurveKeyPair::generate();
  const auto device_key = CurveKeyPair::generate();
  Directory directory;
  directory.keys = {key_of(device_key)};
  EchoServer echo(server_options(server_key), directory);
  TestClient device(client_options(echo.server->endpoint(), server_key, device_key));
  std::vector<std::uint8_t> order;
  device.client->set_handlers({.on_frame =
                                   [&](ByteSpan frame) {
                                     order.push_back(frame[1]);
                                     ++device.frames;
                                   },
                               .on_closed = [&] { ++device.lost; }});
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Hello")));
  REQUIRE(turn_until(
      echo, 5000, [&] { return device.frames == 1; }, device));
  order.clear();
  std::uint8_t accepted = 0;
  bool full = false;
  for (int n = 0; n < 200 && !full; ++n) {  // the device reads nothing meanwhile
    Bytes frame(256 * 1024, 'y');
    frame[1] = accepted;
    full = !echo.server->send(echo.last_id, std::move(frame)).ok();
    if (!full) ++accepted;
  }
  CHECK(full);
  REQUIRE(turn_until(
      echo, 10'000, [&] { return order.size() == accepted; }, device));
  for (std::size_t n = 0; n < order.size(); ++n) CHECK(order[n] == n);
}

TEST_CASE("what the server sends before it closes still arrives, and both sides hear of the end") {
  const auto server_key = CurveKeyPair::generate();
  const auto device_key = CurveKeyPair::generate();
  Directory directory;
  directory.keys = {key_of(device_key)};
  EchoServer echo(server_options(server_key), directory);
  TestClient device(client_options(echo.server->endpoint(), server_key, device_key));
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Close me")));
  REQUIRE(turn_until(
      echo, 5000, [&] { return device.lost == 1 && echo.closed.size() == 1; }, device));
  CHECK(device.last == text("Close me"));
}

TEST_CASE("after the server restarts on its port, a client comes back") {
  const auto server_key = CurveKeyPair::generate();
  const auto device_key = CurveKeyPair::generate();
  Directory directory;
  directory.keys = {key_of(device_key)};
  auto echo = std::make_unique<EchoServer>(server_options(server_key), directory);
  const std::string endpoint = echo->server->endpoint();
  TestClient device(client_options(endpoint, server_key, device_key));
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Hello")));
  REQUIRE(turn_until(
      *echo, 5000, [&] { return device.frames == 1; }, device));
  const auto first_id = echo->last_id;

  echo.reset();
  const auto end = now_ms() + 5000;
  while (device.lost == 0 && now_ms() < end) REQUIRE_OK(device.client->poll(10));
  REQUIRE(device.lost == 1);
  REQUIRE_OK(device.client->connect());  // nobody listens: refused again
  while (device.lost == 1 && now_ms() < end) REQUIRE_OK(device.client->poll(10));
  REQUIRE(device.lost == 2);

  echo = std::make_unique<EchoServer>(server_options(server_key, endpoint), directory);
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Hello again")));
  REQUIRE(turn_until(
      *echo, 5000, [&] { return device.frames == 2; }, device));
  CHECK(device.last == text("Hello again"));
  CHECK(echo->last_id != first_id);
}

TEST_CASE("where the authenticating thread ends, the server stops listening and nobody gets in") {
  const auto server_key = CurveKeyPair::generate();
  const auto device_key = CurveKeyPair::generate();
  Directory directory;
  directory.keys = {key_of(device_key)};
  EchoServer echo(server_options(server_key), directory);
  TestClient device(client_options(echo.server->endpoint(), server_key, device_key));
  echo.server->kill_gatekeeper();
  // Before the server even notices: no handler, no entrance.
  REQUIRE_OK(device.client->connect());
  auto end = now_ms() + 600;
  while (now_ms() < end) REQUIRE_OK(device.client->poll(10));
  CHECK(!device.client->connected());
  CHECK(!echo.server->poll(0).ok());
  device.client->disconnect();
  REQUIRE_OK(device.client->connect());
  end = now_ms() + 5000;
  while (device.lost == 0 && now_ms() < end) REQUIRE_OK(device.client->poll(10));
  CHECK(device.lost > 0);  // connection refused
}

TEST_CASE("a process has one server, and bad options are refused with a reason") {
  const auto key = CurveKeyPair::generate();
  const Directory nobody;
  EchoServer echo(server_options(key), nobody);
  const auto second = ZmqServer::create(server_options(key), nobody);
  REQUIRE(!second.ok());
  CHECK(second.error().code == ErrorCode::already_exists);
  CHECK(!ZmqServer::create(server_options(key, "ipc:///tmp/x"), nobody).ok());
  CHECK(!ZmqClient::create({.endpoint = "tcp://127.0.0.1:1"}).ok());
}

TEST_CASE("the cap on connections stays 512 below the limit of descriptors") {
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit low{500, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
  const auto key = CurveKeyPair::generate();
  const Directory nobody;
  const auto made = ZmqServer::create(server_options(key), nobody);
  REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
  REQUIRE(!made.ok());
  CHECK(made.error().code == ErrorCode::resource_exhausted);
  CHECK(made.error().message.find("ulimit") != std::string::npos);
}

TEST_CASE("two endpoints with keys of their own share one server, and one of them can end") {
  const auto first_key = CurveKeyPair::generate();
  const auto second_key = CurveKeyPair::generate();
  const auto device_key = CurveKeyPair::generate();
  const auto other_key = CurveKeyPair::generate();
  Directory directory;
  directory.keys = {key_of(device_key), key_of(other_key)};
  EchoServer echo(server_options(first_key), directory);
  const std::string first = echo.server->endpoint();
  const auto second = echo.server->listen_also("tcp://127.0.0.1:*", second_key.secret_copy());
  REQUIRE_OK(second);
  CHECK(*second != first);
  CHECK(echo.server->endpoint() == first);

  TestClient old(client_options(first, first_key, device_key));
  TestClient moved(client_options(*second, second_key, other_key));
  TestClient mistaken(client_options(*second, first_key, device_key));
  for (TestClient* client : {&old, &moved, &mistaken}) {
    REQUIRE_OK(client->client->connect());
    REQUIRE_OK(client->client->send(text("Hello")));
  }
  REQUIRE(turn_until(
      echo, 5000, [&] { return old.frames == 1 && moved.frames == 1 && mistaken.lost == 1; }, old, moved, mistaken));
  CHECK(mistaken.frames == 0);
  CHECK(echo.server->stats().connections == 2);  // one guard counts both endpoints' connections

  REQUIRE_OK(echo.server->stop_listening(first));
  CHECK_FALSE(echo.server->stop_listening(first).ok());
  TestClient late(client_options(first, first_key, device_key));
  REQUIRE_OK(late.client->connect());
  REQUIRE(turn_until(
      echo, 5000, [&] { return late.lost == 1 && old.lost == 1; }, late, old, moved));
  REQUIRE_OK(moved.client->send(text("still here")));
  REQUIRE(turn_until(
      echo, 5000, [&] { return moved.last == text("still here"); }, moved));
  CHECK(moved.lost == 0);
}

TEST_CASE("keys are checked at the second endpoint as at the first, and the cap counts both") {
  const auto first_key = CurveKeyPair::generate();
  const auto second_key = CurveKeyPair::generate();
  const auto device_key = CurveKeyPair::generate();
  const Directory nobody;
  EchoServer echo(server_options(first_key), nobody);
  const auto second = echo.server->listen_also("tcp://127.0.0.1:*", second_key.secret_copy());
  REQUIRE_OK(second);
  TestClient stranger(client_options(*second, second_key, device_key));
  REQUIRE_OK(stranger.client->connect());
  REQUIRE_OK(stranger.client->send(text("Hello")));
  REQUIRE(turn_until(
      echo, 5000, [&] { return stranger.lost == 1; }, stranger));
  CHECK(echo.frames == 0);
  CHECK(echo.server->stats().refused == 1);
  // Where the handler has ended, the second endpoint admits nobody either, and ends with the first.
  echo.server->kill_gatekeeper();
  CHECK_FALSE(echo.server->poll(0).ok());
  CHECK_FALSE(echo.server->stop_listening(*second).ok());
}

TEST_CASE("a device's third connection ends its first, and the newest goes on") {
  const auto server_key = CurveKeyPair::generate();
  const auto device_key = CurveKeyPair::generate();
  Directory directory;
  directory.keys = {key_of(device_key)};
  EchoServer echo(server_options(server_key), directory);
  TestClient first(client_options(echo.server->endpoint(), server_key, device_key));
  TestClient second(client_options(echo.server->endpoint(), server_key, device_key));
  TestClient third(client_options(echo.server->endpoint(), server_key, device_key));
  for (TestClient* client : {&first, &second, &third}) {
    REQUIRE_OK(client->client->connect());
    REQUIRE_OK(client->client->send(text("Hello")));
    REQUIRE(turn_until(
        echo, 5000, [&] { return client->frames == 1; }, first, second, third));
  }
  REQUIRE(turn_until(
      echo, 5000, [&] { return first.lost == 1 && echo.server->stats().cut_same_key == 1; }, first, second, third));
  REQUIRE_OK(third.client->send(text("on")));
  REQUIRE(turn_until(
      echo, 5000, [&] { return third.frames == 2; }, first, second, third));
  CHECK(second.lost == 0);
}

// One hostile peer at a time, in one process: who is cut off, when, and that nothing of theirs is delivered.
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "core/net/zmq_support.h"
#include "core/wire/frame.h"
#include "raw_peer.h"

using namespace covey;
using namespace covey::net;
using namespace covey::net::test;

namespace {

void* context() {
  return internal::process_context().handle();
}

/// Turns the server until the raw peer is cut. @return milliseconds, or -1 where it was not within `limit_ms`.
std::int64_t until_cut(EchoServer& echo, RawTcp& peer, std::int64_t limit_ms) {
  const auto start = now_ms();
  return turn_until(echo, limit_ms, [&] { return !peer.open(); }) ? now_ms() - start : -1;
}

struct World {
  World() { directory.keys = {key_of(device_key)}; }
  CurveKeyPair server_key = CurveKeyPair::generate();
  CurveKeyPair device_key = CurveKeyPair::generate();
  Directory directory;
};

}  // namespace

TEST_CASE("a TCP peer that says nothing is cut when the handshake's time is over") {
  World world;
  EchoServer echo(server_options(world.server_key), world.directory);
  RawTcp silent(echo.server->endpoint());
  const auto took = until_cut(echo, silent, 3000);
  CHECK(took >= 300);
  CHECK(took <= 1200);  // 400 ms and the polling of a busy machine
}

TEST_CASE("a TCP peer that drips a handshake is cut too") {
  World world;
  EchoServer echo(server_options(world.server_key), world.directory);
  RawTcp drip(echo.server->endpoint());
  const Bytes greeting = curve_greeting();
  std::size_t sent = 0;
  const auto start = now_ms();
  REQUIRE(turn_until(echo, 3000, [&] {
    if (sent < greeting.size() && now_ms() - start > static_cast<std::int64_t>(sent) * 20) {
      drip.send(ByteSpan(greeting).subspan(sent++, 1));
    }
    return !drip.open();
  }));
  CHECK(now_ms() - start <= 1500);
}

TEST_CASE("an enrolled peer that connects and says no hello is cut at the deadline") {
  World world;
  EchoServer echo(server_options(world.server_key), world.directory);
  TestClient device(client_options(echo.server->endpoint(), world.server_key, world.device_key));
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Silent: no hello")));
  REQUIRE(turn_until(
      echo, 3000, [&] { return echo.frames == 1; }, device));
  const auto start = now_ms();
  REQUIRE(turn_until(
      echo, 3000, [&] { return device.lost == 1 && echo.closed.size() == 1; }, device));
  CHECK(now_ms() - start >= 500);
  CHECK(now_ms() - start <= 1600);
  CHECK(echo.server->stats().cut_no_hello == 1);
}

TEST_CASE("an enrolled peer that said hello may stay silent") {
  World world;
  EchoServer echo(server_options(world.server_key), world.directory);
  TestClient device(client_options(echo.server->endpoint(), world.server_key, world.device_key));
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Hello")));
  CHECK(!turn_until(
      echo, 1300, [&] { return device.lost > 0; }, device));
  CHECK(device.frames == 1);
}

TEST_CASE("garbage and frames that announce gigabytes end the connection at once") {
  World world;
  EchoServer echo(server_options(world.server_key), world.directory);
  for (const Bytes& after_greeting : {long_header(2, std::uint64_t{1} << 30), long_header(6, std::uint64_t{1} << 30),
                                      long_header(6, ~std::uint64_t{0}), Bytes(5000, 0x5a)}) {
    RawTcp peer(echo.server->endpoint());
    peer.send(curve_greeting());
    peer.send(after_greeting);
    peer.send(Bytes(20'000, 'z'));
    const auto took = until_cut(echo, peer, 3000);
    CHECK(took >= 0);
    CHECK(took <= 1200);
  }
  RawTcp garbage(echo.server->endpoint());
  garbage.send(Bytes(100'000, 'g'));
  CHECK(until_cut(echo, garbage, 3000) >= 0);
  CHECK(echo.frames == 0);
}

TEST_CASE("a frame over the limit from an enrolled peer is not delivered and ends its connection") {
  World world;
  EchoServer echo(server_options(world.server_key), world.directory);
  RawDealer peer(context(), echo.server->endpoint(), world.server_key, world.device_key);
  REQUIRE(peer.send(text("Hello")));
  REQUIRE(turn_until(echo, 3000, [&] { return echo.frames == 1; }));
  REQUIRE(peer.send(Bytes(wire::kFrameBytesMax + 200)));
  REQUIRE(turn_until(echo, 3000, [&] { return echo.closed.size() == 1; }));
  CHECK(echo.frames == 1);
}

TEST_CASE("a message of several parts is dropped and ends the connection") {
  World world;
  EchoServer echo(server_options(world.server_key), world.directory);
  RawDealer peer(context(), echo.server->endpoint(), world.server_key, world.device_key);
  REQUIRE(peer.send(text("Hello")));
  REQUIRE(turn_until(echo, 3000, [&] { return echo.frames == 1; }));
  REQUIRE(peer.send(text("one"), true));
  REQUIRE(peer.send(text("two")));
  REQUIRE(turn_until(echo, 3000, [&] { return echo.closed.size() == 1; }));
  CHECK(echo.frames == 1);
  CHECK(echo.server->stats().multipart == 1);
}

TEST_CASE("a long message of several parts is cut before it is complete, and others do not notice") {
  World world;
  const auto honest_key = CurveKeyPair::generate();
  world.directory.keys.insert(key_of(honest_key));
  EchoServer echo(server_options(world.server_key), world.directory);
  RawDealer peer(context(), echo.server->endpoint(), world.server_key, world.device_key);
  TestClient device(client_options(echo.server->endpoint(), world.server_key, honest_key));
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Hello")));
  REQUIRE(peer.send(text("Hello")));
  REQUIRE(turn_until(
      echo, 3000, [&] { return echo.frames == 2; }, device));
  peer.send_parts(1024, 64 * 1024);
  REQUIRE(turn_until(
      echo, 5000, [&] { return echo.closed.size() == 1; }, device));
  CHECK(echo.server->stats().cut_undelivered == 1);
  REQUIRE_OK(device.client->send(text("still here")));
  REQUIRE(turn_until(
      echo, 3000, [&] { return device.last == text("still here"); }, device));
  CHECK(device.lost == 0);
}

TEST_CASE("connections above the cap push out the oldest silent ones, and an honest device still gets through") {
  World world;
  auto options = server_options(world.server_key);
  options.guard.connections_max = 40;
  options.guard.hello_deadline_ms = 20'000;
  options.handshake_ms = 20'000;
  EchoServer echo(std::move(options), world.directory);
  std::vector<RawTcp> crowd;
  for (int n = 0; n < 150; ++n) crowd.emplace_back(echo.server->endpoint());
  const auto open = [&] {
    std::size_t count = 0;
    for (auto& peer : crowd) count += peer.open() ? 1 : 0;
    return count;
  };
  REQUIRE(turn_until(echo, 3000, [&] { return open() <= 40 && echo.server->stats().accepted == 150; }));
  TestClient device(client_options(echo.server->endpoint(), world.server_key, world.device_key));
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Hello")));
  REQUIRE(turn_until(
      echo, 3000, [&] { return device.frames == 1; }, device));
  for (int n = 0; n < 60; ++n) crowd.emplace_back(echo.server->endpoint());
  REQUIRE(turn_until(
      echo, 3000, [&] { return open() <= 39 && echo.server->stats().accepted == 211; }, device));
  REQUIRE(turn_until(
      echo, 3000, [&] { return echo.server->stats().connections <= 40; }, device));
  CHECK(echo.server->stats().cut_over_cap >= 170);
  REQUIRE_OK(device.client->send(text("again")));
  REQUIRE(turn_until(
      echo, 3000, [&] { return device.frames == 2; }, device));
  CHECK(device.lost == 0);
}

TEST_CASE("a peer that asks and never reads is cut once it has stalled for long enough") {
  World world;
  auto options = server_options(world.server_key);
  options.stalled_ms = 300;
  EchoServer echo(std::move(options), world.directory);
  RawDealer peer(context(), echo.server->endpoint(), world.server_key, world.device_key);
  std::size_t refused = 0;
  echo.custom = [&](ConnectionId id, ByteSpan frame) {
    if (frame[0] != 'A') return false;
    if (!echo.server->send(id, Bytes(200'000, 'a')).ok()) ++refused;
    return true;
  };
  REQUIRE(peer.send(text("Hello")));
  const auto start = now_ms();
  REQUIRE(turn_until(echo, 20'000, [&] {
    (void)peer.send(text("Ask"));
    return echo.closed.size() == 1;
  }));
  CHECK(refused > 0);
  CHECK(now_ms() - start < 20'000);
}

TEST_CASE("an enrolled key that opens connection after connection and says nothing is refused from the fifth on") {
  World world;
  auto options = server_options(world.server_key);
  options.guard.hello_deadline_ms = 20'000;
  EchoServer echo(std::move(options), world.directory);
  std::vector<std::unique_ptr<RawDealer>> crowd;
  for (int n = 0; n < 12; ++n) {
    crowd.push_back(
        std::make_unique<RawDealer>(context(), echo.server->endpoint(), world.server_key, world.device_key));
  }
  REQUIRE(turn_until(echo, 5000, [&] { return echo.server->stats().refused >= 8; }));
  CHECK(echo.server->stats().admitted == 4);
}

TEST_CASE("news of a connection that ended is not kept back by others who never stop sending") {
  World world;
  std::vector<CurveKeyPair> keys;
  for (int n = 0; n < 4; ++n) world.directory.keys.insert(key_of(keys.emplace_back(CurveKeyPair::generate())));
  auto options = server_options(world.server_key);
  options.frames_per_poll = 2;  // as if thousands sent
  EchoServer echo(std::move(options), world.directory);
  std::vector<std::unique_ptr<RawDealer>> flood;
  for (const auto& key : keys) {
    flood.push_back(std::make_unique<RawDealer>(context(), echo.server->endpoint(), world.server_key, key));
    REQUIRE(flood.back()->send(text("Hello")));
  }
  TestClient device(client_options(echo.server->endpoint(), world.server_key, world.device_key));
  REQUIRE_OK(device.client->connect());
  REQUIRE_OK(device.client->send(text("Hello")));
  REQUIRE(turn_until(
      echo, 5000, [&] { return echo.frames == 5; }, device));
  std::size_t flooded = 0;
  std::uint64_t gone = 0;
  echo.custom = [&](ConnectionId id, ByteSpan frame) {
    if (frame[0] == 'D') gone = id.value;
    flooded += frame[0] == 'S' ? 1 : 0;
    return frame[0] == 'D';
  };
  REQUIRE_OK(device.client->send(text("Device")));
  REQUIRE(turn_until(
      echo, 5000, [&] { return gone != 0; }, device));
  std::size_t dry_polls = 0;
  const auto turn = [&] {
    for (auto& peer : flood) {
      while (peer->send(text("Silent"))) {
      }
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // ZeroMQ's thread moves more than two frames meanwhile
    const std::size_t before = echo.frames;
    REQUIRE_OK(echo.server->poll(0));
    dry_polls += echo.frames - before < 2 ? 1 : 0;
  };
  for (int n = 0; n < 20; ++n) turn();
  dry_polls = 0;
  device.client->disconnect();
  const auto limit = now_ms() + 10'000;
  while (!echo.closed.contains(gone) && now_ms() < limit) turn();
  CHECK(echo.closed.contains(gone));
  CHECK(dry_polls == 0);  // it was told in the middle of the flood
  CHECK(flooded > 0);
}

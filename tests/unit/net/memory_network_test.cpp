// The network inside the process: the same promises as the real one, and a seam for latency and loss.
#include "core/net/memory_network.h"

#include <deque>
#include <vector>

#include "support/support.h"

using namespace covey;
using namespace covey::net;

namespace {

struct End {
  std::vector<Bytes> frames;
  std::vector<std::uint64_t> closed;
  ConnectionId last{};
  wire::Key key{};
};

void watch(ServerTransport& server, End& end) {
  server.set_handlers({.on_frame =
                           [&](ConnectionId id, const wire::Key& key, ByteSpan frame) {
                             end.last = id;
                             end.key = key;
                             end.frames.emplace_back(frame.begin(), frame.end());
                           },
                       .on_closed = [&](ConnectionId id) { end.closed.push_back(id.value); }});
}

void watch(ClientTransport& client, End& end) {
  client.set_handlers({.on_frame = [&](ByteSpan frame) { end.frames.emplace_back(frame.begin(), frame.end()); },
                       .on_closed = [&] { end.closed.push_back(0); }});
}

class NobodyElse final : public KeyDirectory {
 public:
  [[nodiscard]] bool may_connect(const wire::Key& curve) const override { return curve[0] == 1; }
};

}  // namespace

TEST_CASE("frames go both ways in order, and each end hears once of the other's end") {
  MemoryNetwork network;
  End server;
  End device;
  watch(network.server(), server);
  auto client = network.make_client({7}, 1);
  watch(*client, device);
  CHECK(!client->send({1}).ok());
  REQUIRE_OK(client->connect());
  REQUIRE_OK(client->send({1}));
  REQUIRE_OK(client->send({2}));
  CHECK(server.frames.empty());  // handlers run inside poll() only
  REQUIRE_OK(network.server().poll(0));
  CHECK(server.frames == std::vector<Bytes>{{1}, {2}});
  CHECK(server.key == wire::Key{7});
  REQUIRE_OK(network.server().send(server.last, {3}));
  REQUIRE_OK(client->poll(0));
  CHECK(device.frames == std::vector<Bytes>{{3}});

  client->disconnect();
  REQUIRE_OK(network.server().poll(0));
  REQUIRE_OK(network.server().poll(0));
  CHECK(server.closed == std::vector<std::uint64_t>{server.last.value});
  CHECK(device.closed.empty());
  CHECK(!network.server().send(server.last, {4}).ok());

  const auto before = server.last;
  REQUIRE_OK(client->connect());
  REQUIRE_OK(client->send({5}));
  REQUIRE_OK(network.server().poll(0));
  CHECK(server.last != before);
  network.server().close(server.last);
  REQUIRE_OK(client->send({6}));
  REQUIRE_OK(network.server().poll(0));
  REQUIRE_OK(client->poll(0));
  CHECK(server.frames.back() == Bytes{5});  // after close() nothing is heard
  CHECK(server.closed.size() == 2);
  CHECK(device.closed.size() == 1);
}

TEST_CASE("the owner delays and loses what travels") {
  std::deque<MemoryNetwork::Delivery> air;
  MemoryNetwork network([&](MemoryNetwork::Delivery delivery) { air.push_back(std::move(delivery)); });
  End server;
  watch(network.server(), server);
  auto client = network.make_client({7}, 42);
  REQUIRE_OK(client->connect());
  REQUIRE_OK(client->send({1, 2, 3}));
  REQUIRE_OK(client->send({4}));
  REQUIRE(air.size() == 3);
  CHECK(air[0].opens);
  CHECK(air[1].client == 42);
  CHECK(air[1].to_server);
  CHECK(air[1].bytes == 3);
  air[0].run();
  air[2].run();  // the frame between is lost
  REQUIRE_OK(network.server().poll(0));
  CHECK(server.frames == std::vector<Bytes>{{4}});
  client->disconnect();
  air[1].run();  // too late, but still before the news of the end
  REQUIRE_OK(network.server().poll(0));
  CHECK(server.closed.empty());
  air.back().run();
  REQUIRE_OK(network.server().poll(0));
  CHECK(server.closed.size() == 1);
}

TEST_CASE("refused keys, a server that is down and a broken link are heard of") {
  const NobodyElse directory;
  MemoryNetwork network(nullptr, &directory);
  End server;
  End stranger;
  End device;
  watch(network.server(), server);
  auto refused = network.make_client({2}, 1);
  watch(*refused, stranger);
  REQUIRE_OK(refused->connect());
  (void)refused->send({1});
  REQUIRE_OK(network.server().poll(0));
  REQUIRE_OK(refused->poll(0));
  CHECK(stranger.closed.size() == 1);
  CHECK(server.frames.empty());

  auto client = network.make_client({1}, 2);
  watch(*client, device);
  REQUIRE_OK(client->connect());
  REQUIRE_OK(client->send({1}));
  REQUIRE_OK(network.server().poll(0));
  network.break_connection(2);
  REQUIRE_OK(network.server().poll(0));
  REQUIRE_OK(client->poll(0));
  CHECK(server.closed.size() == 1);
  CHECK(device.closed.size() == 1);

  REQUIRE_OK(client->connect());
  REQUIRE_OK(client->send({2}));
  network.set_listening(false);
  REQUIRE_OK(client->poll(0));
  CHECK(device.closed.size() == 2);
  REQUIRE_OK(client->connect());
  REQUIRE_OK(client->poll(0));
  CHECK(device.closed.size() == 3);
  network.set_listening(true);
  watch(network.server(), server);
  REQUIRE_OK(client->connect());
  REQUIRE_OK(client->send({9}));
  REQUIRE_OK(network.server().poll(0));
  CHECK(server.frames.back() == Bytes{9});
}

TEST_CASE("deliveries and clients may outlive the network") {
  std::deque<MemoryNetwork::Delivery> air;
  std::unique_ptr<ClientTransport> client;
  {
    MemoryNetwork network([&](MemoryNetwork::Delivery delivery) { air.push_back(std::move(delivery)); });
    client = network.make_client({7}, 1);
    REQUIRE_OK(client->connect());
    REQUIRE_OK(client->send({1}));
  }
  for (auto& delivery : air) delivery.run();
  CHECK(!client->send({2}).ok());
  CHECK(!client->connect().ok());
}

#include "client/agent.h"

#include <algorithm>
#include <set>

#include "client/plan_files.h"
#include "core/base/file.h"
#include "core/net/blobs.h"
#include "core/net/memory_network.h"
#include "core/wire/message.h"
#include "session_world.h"

using namespace covey;
using namespace covey::client;

namespace {

/// Answers at the next poll.
struct InstantTrainer final : Trainer {
  std::optional<Event> news;
  int starts = 0;
  int stops = 0;
  PlanFiles* files = nullptr;
  std::string directory;
  void start(const wire::RoundPlan& plan) override {
    ++starts;
    const auto model = files->model_directory(plan);
    REQUIRE_OK(model);
    directory = *model;
    const auto values = files->adapter_values(plan);
    REQUIRE_OK(values);
    TrainingDone done;
    done.round = plan.round;
    done.outcome.delta = *values;
    news = done;
  }
  void stop(bool) override {
    ++stops;
    news.reset();
  }
  std::optional<Event> poll() override { return std::exchange(news, std::nullopt); }
};

/// Commits until it is told to fail.
struct FailingStore final : store::Store {
  store::MemoryStore inner;
  int commits_left = 1'000'000;
  Status commit(std::span<const store::Write> writes) override {
    if (commits_left-- <= 0) return Error{ErrorCode::resource_exhausted, "disk full"};
    return inner.commit(writes);
  }
  Result<std::optional<Bytes>> get(std::string_view table, ByteSpan key) override { return inner.get(table, key); }
  Status scan(std::string_view table, ByteSpan prefix, const Visitor& visit) override {
    return inner.scan(table, prefix, visit);
  }
  Status verify() override { return {}; }
  Status backup(const std::string&) override { return {}; }
};

/// A coordinator of a few lines that speaks real frames over the in-memory network, and serves real blobs.
struct Coordinator {
  crypto::IdentityKey identity = test::key_of_seed(7);
  test::TestRoster roster;
  std::vector<std::uint64_t> hello_epochs;
  net::MemoryNetwork network;
  net::BlobServer blobs;
  wire::RoundPlan plan = test::sample_plan(1);
  std::vector<std::string> heard;
  int frames_until_break = -1;
  bool hello_good = false;
  wire::ReceiptStatus verdict = wire::ReceiptStatus::accepted;
  Bytes upload;
  wire::SubmitBegin begin;
  std::optional<wire::SignedEndpoint> moving;  ///< said behind each Welcome

  Coordinator() {
    roster.add(1);
    roster.add(2);
    const auto add = [&](Bytes content, wire::FileBlob& file) {
      file.bytes = content.size();
      const auto id = blobs.add(std::move(content));
      REQUIRE_OK(id);
      file.blob = *id;
    };
    add(Bytes(600'000, 5), plan.model[1]);  // three chunks
    add(Bytes{'{', '}'}, plan.model[0]);
    std::vector<float> values(32, 0.01F);
    const auto* raw = reinterpret_cast<const std::uint8_t*>(values.data());
    add(Bytes(raw, raw + values.size() * 4), plan.adapter);
    net::ServerTransport::Handlers handlers;
    handlers.on_frame = [this](net::ConnectionId c, const wire::Key&, ByteSpan frame) { on_frame(c, frame); };
    handlers.on_closed = [](net::ConnectionId) {};
    network.server().set_handlers(std::move(handlers));
  }

  void on_frame(net::ConnectionId connection, ByteSpan frame) {
    if (frames_until_break == 0) {
      frames_until_break = -1;
      network.server().close(connection);
      return;
    }
    if (frames_until_break > 0) --frames_until_break;
    const auto envelope = wire::decode_frame(frame);
    REQUIRE_OK(envelope);
    heard.emplace_back(wire::to_string(wire::type_of(envelope->message)));
    std::visit([&](const auto& m) { answer(connection, m); }, envelope->message);
  }
  void say(net::ConnectionId connection, const wire::Message& message) {
    auto frame = wire::encode_frame(message);
    REQUIRE_OK(frame);
    REQUIRE_OK(network.server().send(connection, *std::move(frame)));
  }
  void answer(net::ConnectionId c, const wire::Hello& m) {
    hello_good = wire::signature_ok(m);
    wire::Welcome welcome;
    welcome.server_ms = 1;
    welcome.roster_epoch = roster.head();
    hello_epochs.push_back(m.roster_epoch);
    wire::sign(welcome, m.nonce, identity);
    say(c, welcome);
    if (moving) say(c, *moving);
  }
  void answer(net::ConnectionId c, const wire::RosterRequest& m) { say(c, roster.after(m.after_epoch)); }
  void answer(net::ConnectionId c, const wire::CheckIn& m) {
    if (m.last_round == plan.round) return say(c, wire::CheckBack{60'000, wire::WaitReason::finished});
    auto offer = wire::sign_plan(wire::encode(plan), test::key_of_seed(7));
    offer.left_ms = 100'000;
    say(c, offer);
  }
  void answer(net::ConnectionId c, const wire::ManifestRequest& m) { say(c, blobs.answer(m)); }
  void answer(net::ConnectionId c, const wire::ChunkRequest& m) { say(c, blobs.answer(m)); }
  void answer(net::ConnectionId c, const wire::SubmitBegin& m) {
    begin = m;
    say(c, wire::SubmitNext{m.round, 0});
  }
  void answer(net::ConnectionId c, const wire::SubmitChunk& m) {
    upload = m.bytes;
    say(c, wire::Receipt{m.round, begin.content, verdict});
  }
  template <typename Other>
  void answer(net::ConnectionId, const Other&) {}
};

/// The in-memory connection, but with endpoints: those in `dead` do not answer.
struct EndpointTransport final : net::ClientTransport {
  std::unique_ptr<net::ClientTransport> inner;
  std::set<std::string> dead;
  std::vector<std::string> tried;
  net::ServerAddress server;
  Handlers handlers;
  bool refused = false;
  void set_handlers(Handlers given) override {
    handlers = given;
    inner->set_handlers(std::move(given));
  }
  void set_server(const net::ServerAddress& to) override { server = to; }
  Status connect() override {
    tried.push_back(server.endpoint);
    refused = dead.contains(server.endpoint);
    return refused ? Status() : inner->connect();
  }
  void disconnect() override { inner->disconnect(); }
  Status send(Bytes frame) override { return refused ? Status() : inner->send(std::move(frame)); }
  Status poll(std::int64_t wait_ms) override {
    if (std::exchange(refused, false) && handlers.on_closed) handlers.on_closed();
    return inner->poll(wait_ms);
  }
};

struct Rig {
  test::TempDir dir;
  Coordinator coordinator;
  FailingStore disk;
  ManualClock clock{1'700'000'000'000};
  std::unique_ptr<DiskPlanFiles> files;
  InstantTrainer trainer;
  std::unique_ptr<EndpointTransport> transport = std::make_unique<EndpointTransport>();
  Rng entropy{4};
  std::unique_ptr<Agent> agent;

  Rig() { transport->inner = coordinator.network.make_client(wire::Key{}, 1); }
  void boot() {
    agent.reset();
    auto opened = DiskPlanFiles::open(dir.path(), 1 << 24);
    REQUIRE_OK(opened);
    files = *std::move(opened);
    trainer.files = files.get();
    AgentConfig config{test::session_config(), test::key_of_seed(1), wire::Key{}, {"tcp://first:1", wire::Key{1}}};
    AgentSeams seams{disk, *transport, *files, trainer, clock, [this](std::span<std::uint8_t> out) {
                       for (auto& byte : out) byte = static_cast<std::uint8_t>(entropy.next_u32());
                     }};
    agent = std::make_unique<Agent>(std::move(config), std::move(seams));
  }
  Status run(int turns = 300) {
    for (int i = 0; i < turns && !agent->session().finished(); ++i) {
      COVEY_TRY(transport->poll(0));
      COVEY_TRY(coordinator.network.server().poll(0));
      COVEY_TRY(transport->poll(0));
      COVEY_TRY(agent->run_due());
      clock.advance_to(clock.monotonic_ms() + std::max<std::int64_t>(agent->wait_ms(100), 1));
    }
    return {};
  }
};

}  // namespace

TEST_CASE("an agent says a signed hello, downloads, trains, submits and rests") {
  Rig rig;
  rig.boot();
  REQUIRE_OK(rig.agent->start(test::capable()));
  REQUIRE_OK(rig.run());
  CHECK(rig.coordinator.hello_good);
  REQUIRE(rig.coordinator.hello_epochs.size() >= 2);
  CHECK(rig.coordinator.hello_epochs.front() == 0);
  CHECK(rig.coordinator.hello_epochs.back() == 2);
  CHECK(rig.agent->session().receipts_accepted() == 1);
  CHECK(rig.agent->session().finished());
  CHECK(rig.trainer.starts == 1);
  const auto update = wire::decode<wire::ClearUpdate>(rig.coordinator.upload);
  REQUIRE_OK(update);
  CHECK(update->count == 32);
  const auto model = read_file(rig.trainer.directory + "/model.safetensors");
  REQUIRE_OK(model);
  CHECK(*model == Bytes(600'000, 5));
  CHECK(rig.agent->bytes_received() > 600'000);
}

TEST_CASE("connections cut at any frame delay a round and change nothing else") {
  for (int cut = 0; cut < 15; ++cut) {
    CAPTURE(cut);
    Rig rig;
    rig.coordinator.frames_until_break = cut;
    rig.boot();
    REQUIRE_OK(rig.agent->start(test::capable()));
    REQUIRE_OK(rig.run());
    CHECK(rig.agent->session().receipts_accepted() == 1);
    CHECK(rig.trainer.starts == 1);
  }
}

TEST_CASE("whoever cannot sign the device's nonce is left before anything else is said") {
  Rig rig;
  rig.coordinator.identity = test::key_of_seed(8);
  rig.boot();
  REQUIRE_OK(rig.agent->start(test::capable()));
  REQUIRE_OK(rig.run(100));
  CHECK(rig.coordinator.heard.size() > 1);
  for (const auto& type : rig.coordinator.heard) CHECK(type == "hello");
}

TEST_CASE("an agent whose disk fails sends nothing after the failed commit, and a new one goes on") {
  Rig whole;
  whole.boot();
  REQUIRE_OK(whole.agent->start(test::capable()));
  REQUIRE_OK(whole.run());
  const int commits = 1'000'000 - whole.disk.commits_left;
  REQUIRE(commits >= 4);
  for (int fail_at = 0; fail_at < commits; ++fail_at) {
    CAPTURE(fail_at);
    Rig rig;
    rig.disk.commits_left = fail_at;
    rig.boot();
    REQUIRE_OK(rig.agent->start(test::capable()));
    const auto ran = rig.run();
    REQUIRE_FALSE(ran.ok());
    CHECK(ran.error().code == ErrorCode::resource_exhausted);
    if (fail_at == 0) CHECK(rig.coordinator.heard.back() == "roster_request");
    CHECK_FALSE(rig.agent->run_due().ok());
    rig.disk.commits_left = 1'000'000;
    rig.boot();
    REQUIRE_OK(rig.agent->start(test::capable()));
    REQUIRE_OK(rig.run());
    CHECK(rig.agent->session().receipts_accepted() == 1);
  }
}

namespace {

wire::SignedEndpoint move_to(const std::string& endpoint, int signer = 7) {
  wire::EndpointNotice notice;
  notice.number = 1;
  notice.task = test::session_config().task;
  notice.endpoint = endpoint;
  notice.from_ms = 1;  // the coordinator's clock, as its Welcome says
  notice.overlap_until_ms = 3'600'000;
  return wire::sign_endpoint(notice, test::key_of_seed(static_cast<std::uint8_t>(signer)));
}

}  // namespace

TEST_CASE("a device that was told where the coordinator moves uses that endpoint from then on, also after a restart") {
  Rig rig;
  rig.coordinator.moving = move_to("tcp://second:2");
  rig.boot();
  REQUIRE_OK(rig.agent->start(test::capable()));
  REQUIRE_OK(rig.run());
  REQUIRE(rig.transport->tried.size() >= 2);
  CHECK(rig.transport->tried.front() == "tcp://first:1");
  CHECK(rig.transport->tried.back() == "tcp://second:2");
  CHECK(rig.agent->session().receipts_accepted() == 1);

  rig.transport->dead.insert("tcp://first:1");
  rig.transport->tried.clear();
  rig.boot();
  REQUIRE_OK(rig.agent->start(test::capable()));
  CHECK(rig.agent->server().endpoint == "tcp://second:2");
  REQUIRE_OK(rig.run(100));
  REQUIRE_FALSE(rig.transport->tried.empty());
  CHECK(rig.transport->tried.front() == "tcp://second:2");
  CHECK(rig.agent->session().finished());
}

TEST_CASE("while the new endpoint does not answer, a device goes on through the old one") {
  Rig rig;
  rig.coordinator.moving = move_to("tcp://second:2");
  rig.transport->dead.insert("tcp://second:2");
  rig.coordinator.frames_until_break = 4;  // a second connection within the round
  rig.boot();
  REQUIRE_OK(rig.agent->start(test::capable()));
  REQUIRE_OK(rig.run());
  CHECK(rig.agent->session().receipts_accepted() == 1);
  CHECK(std::ranges::count(rig.transport->tried, "tcp://second:2") >= 1);
  CHECK(std::ranges::count(rig.transport->tried, "tcp://first:1") >= 2);
}

TEST_CASE("an announcement that the pinned coordinator did not sign ends the connection and moves nobody") {
  Rig rig;
  rig.coordinator.moving = move_to("tcp://thief:3", 8);
  rig.boot();
  REQUIRE_OK(rig.agent->start(test::capable()));
  REQUIRE_OK(rig.run(60));
  CHECK(rig.agent->session().receipts_accepted() == 0);
  REQUIRE(rig.transport->tried.size() >= 2);
  for (const auto& endpoint : rig.transport->tried) CHECK(endpoint == "tcp://first:1");
  CHECK(rig.agent->session().last_problem().find("not signed by the pinned coordinator") != std::string::npos);
}

TEST_CASE("an announcement is on disk before the device goes by it") {
  Rig rig;
  rig.coordinator.moving = move_to("tcp://second:2");
  rig.disk.commits_left = 0;
  rig.boot();
  REQUIRE_OK(rig.agent->start(test::capable()));
  const auto ran = rig.run();
  REQUIRE_FALSE(ran.ok());
  for (const auto& endpoint : rig.transport->tried) CHECK(endpoint == "tcp://first:1");
}

TEST_CASE("a device that was never told of a move says in one line where nobody answers and what to do") {
  Rig rig;
  rig.transport->dead.insert("tcp://first:1");
  rig.boot();
  REQUIRE_OK(rig.agent->start(test::capable()));
  REQUIRE_OK(rig.run(100));
  CHECK(rig.transport->tried.size() >= 3);
  const std::string& problem = rig.agent->session().last_problem();
  CHECK(problem.find("no answer from the coordinator at tcp://first:1") == 0);
  CHECK(problem.find("enrol with a new invite") != std::string::npos);
}

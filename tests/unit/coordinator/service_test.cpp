#include "coordinator/service.h"

#include <algorithm>

#include "coordinator/verify.h"
#include "core/crypto/curve.h"
#include "core/crypto/random.h"
#include "core/net/memory_network.h"
#include "core/wire/message.h"
#include "core/wire/signing.h"
#include "machine_world.h"
#include "tests/support/support.h"

namespace covey::coordinator {
namespace {
using test_world::small_task;
using test_world::update_of;

class InstantEvaluator final : public Evaluator {
 public:
  void evaluate(Evaluate request) override { asked.push_back(request.version); }
  std::deque<ModelVersion> asked;
};

crypto::IdentityKey key_of(int number) {
  Bytes seed(32, static_cast<std::uint8_t>(number));
  auto key = crypto::IdentityKey::from_seed(seed);
  REQUIRE_OK(key);
  return std::move(*key);
}
wire::Key curve_of(int number) {
  wire::Key key{};
  key.fill(static_cast<std::uint8_t>(100 + number));
  return key;
}

/// A store whose commits can be made to fail.
class FragileStore final : public store::Store {
 public:
  Status commit(std::span<const store::Write> writes) override {
    if (broken) return Error{ErrorCode::resource_exhausted, "store: the disk is full"};
    return inner.commit(writes);
  }
  Result<std::optional<Bytes>> get(std::string_view table, ByteSpan key) override { return inner.get(table, key); }
  Status scan(std::string_view table, ByteSpan prefix, const Visitor& visit) override {
    return inner.scan(table, prefix, visit);
  }
  Status verify() override { return inner.verify(); }
  Status backup(const std::string& path) override { return inner.backup(path); }
  store::MemoryStore inner;
  bool broken = false;
};

struct Bench {
  explicit Bench(TaskConfig task = small_task(), bool roster_apart = false) {
    auto opened = Registration::open(store, roster.public_key().bytes,
                                     roster_apart ? std::nullopt : std::optional(key_of(90)), clock);
    REQUIRE_OK(opened);
    registration = std::move(*opened);
    network = std::make_unique<net::MemoryNetwork>(nullptr, registration.get());
    auto made = Service::create(std::move(task), key_of(91),
                                {store, network->server(), *registration, blobs, evaluator, clock});
    REQUIRE_OK(made);
    service = std::move(*made);
    REQUIRE_OK(service->start());
    settle();
  }
  void settle() {
    for (int i = 0; i < 20; ++i) {
      REQUIRE_OK(network->server().poll(0));
      while (!evaluator.asked.empty()) {
        const ModelVersion version = evaluator.asked.front();
        evaluator.asked.pop_front();
        REQUIRE_OK(service->evaluated({version, 1.5, 0.25, 10}));
      }
      if (!service->run_due().ok()) return;
    }
  }
  void pass(std::int64_t ms) {
    clock.advance_to(clock.monotonic_ms() + ms);
    settle();
  }

  ManualClock clock{1'700'000'000'000};
  FragileStore store;
  crypto::IdentityKey roster = key_of(90);
  InstantEvaluator evaluator;
  net::BlobServer blobs;
  std::unique_ptr<Registration> registration;
  std::unique_ptr<net::MemoryNetwork> network;
  std::unique_ptr<Service> service;
};

/// One connection of a device; `number` gives its keys.
struct Link {
  Link(Bench& bench, int number, std::optional<wire::Key> curve = {}) : bench_(bench), number_(number) {
    transport_ = bench.network->make_client(curve.value_or(curve_of(number)), static_cast<std::uint64_t>(number));
    transport_->set_handlers({[this](ByteSpan frame) {
                                const auto envelope = wire::decode_frame(frame);
                                REQUIRE_OK(envelope);
                                heard.push_back(envelope->message);
                              },
                              [this] { closed = true; }});
    REQUIRE_OK(transport_->connect());
    turn();
  }
  void turn() {
    for (int i = 0; i < 3; ++i) {
      bench_.settle();
      REQUIRE_OK(transport_->poll(0));
    }
  }
  void say(const wire::Message& message) {
    const auto frame = wire::encode_frame(message);
    REQUIRE_OK(frame);
    say_raw(*frame);
  }
  void say_raw(Bytes frame) {
    (void)transport_->send(std::move(frame));  // fails where we were cut off, which the test then sees
    turn();
  }
  void hello() {
    wire::Hello message;
    message.curve = curve_of(number_);
    message.sent_ms = 0;  // a clock that is decades off is no reason to refuse
    message.nonce.fill(7);
    wire::sign(message, key_of(number_));
    say(message);
  }
  template <typename T>
  [[nodiscard]] const T* last() const {
    return heard.empty() ? nullptr : std::get_if<T>(&heard.back());
  }

  std::vector<wire::Message> heard;
  bool closed = false;

 private:
  Bench& bench_;
  int number_;
  std::unique_ptr<net::ClientTransport> transport_;
};

wire::Invite make_invite(Bench& bench, std::uint32_t uses = 1, std::int64_t valid_ms = 60'000) {
  InviteOptions options;
  options.endpoint = "tcp://127.0.0.1:1";
  options.task = "test";
  options.uses = uses;
  options.expires_ms = bench.clock.wall_ms() + valid_ms;
  auto invite = bench.registration->invite(options, crypto::random_secret(32));
  REQUIRE_OK(invite);
  return std::move(*invite);
}
wire::Key invite_curve(const wire::Invite& invite) {
  const auto pair = crypto::CurveKeyPair::derive(invite.secret.span(), wire::kInviteCurvePurpose);
  REQUIRE_OK(pair);
  return pair->public_key().bytes;
}
wire::Enroll enrolment(const wire::Invite& invite, int number) {
  wire::Enroll message;
  message.invite = wire::invite_hash(invite.secret.span());
  message.curve = curve_of(number);
  message.name = "device";
  wire::sign(message, key_of(number));
  return message;
}
void enroll(Bench& bench, int number) {
  const wire::Invite invite = make_invite(bench);
  Link link(bench, number, invite_curve(invite));
  link.say(enrolment(invite, number));
  REQUIRE(link.last<wire::Enrolled>() != nullptr);
}
wire::CheckIn check_in() {
  wire::CheckIn message;
  message.capabilities.weakest_mode = wire::PrivacyMode::robust;
  return message;
}
}  // namespace

TEST_CASE("a device enrols with an invite, says hello, is offered the round, uploads and gets its receipt") {
  TaskConfig task = small_task();
  task.goal_count = task.min_count = 1;
  task.rounds = 1;
  Bench bench(task);
  enroll(bench, 1);
  Link link(bench, 1);
  link.hello();
  REQUIRE(link.last<wire::Welcome>() != nullptr);
  const wire::Welcome welcome = *link.last<wire::Welcome>();
  CHECK(welcome.roster_epoch == 1);
  wire::Nonce nonce{};
  nonce.fill(7);
  CHECK(wire::signature_ok(welcome, nonce, key_of(91).public_key().bytes));
  link.say(check_in());
  bench.pass(50);
  link.turn();
  REQUIRE(link.last<wire::TaskOffer>() != nullptr);
  const wire::TaskOffer offer = *link.last<wire::TaskOffer>();
  const auto plan = wire::open_plan(offer, key_of(91).public_key().bytes);
  REQUIRE_OK(plan);

  link.say(wire::ManifestRequest{plan->adapter.blob});
  const auto* manifest = link.last<wire::ManifestReply>();
  REQUIRE(manifest != nullptr);
  CHECK(manifest->manifest.bytes == 64);
  link.say(wire::ChunkRequest{plan->adapter.blob, 0});
  REQUIRE(link.last<wire::ChunkReply>() != nullptr);
  CHECK(link.last<wire::ChunkReply>()->bytes == encode_values(task.initial));

  const Bytes update = update_of(1, offer.plan);
  wire::SubmitBegin begin;
  begin.round = plan->round;
  begin.content = wire::content_hash(update);
  begin.bytes = update.size();
  link.say(begin);
  REQUIRE(link.last<wire::SubmitNext>() != nullptr);
  link.say(wire::SubmitChunk{plan->round, 0, update});
  const auto* receipt = link.last<wire::Receipt>();
  REQUIRE(receipt != nullptr);
  CHECK(receipt->status == wire::ReceiptStatus::accepted);
  CHECK(bench.service->finished());
  const auto checks = verify_store(bench.store, &bench.roster.public_key().bytes);
  REQUIRE_OK(checks);
  for (const Check& check : *checks) CHECK_MESSAGE(check.problem.empty(), (check.name + ": " + check.problem));
}

TEST_CASE("while the coordinator moves, every device that says hello is told so under the coordinator's identity") {
  Bench bench;
  enroll(bench, 1);
  Link before(bench, 1);
  before.hello();
  CHECK(before.last<wire::Welcome>() != nullptr);
  wire::EndpointNotice notice;
  notice.number = 4;
  notice.task = "test";
  notice.endpoint = "tcp://192.0.2.1:7401";
  bench.service->announce(notice);
  for (int times = 0; times < 2; ++times) {
    Link link(bench, 1);
    link.hello();
    REQUIRE(link.heard.size() == 2);
    CHECK(std::holds_alternative<wire::Welcome>(link.heard[0]));
    const auto* document = link.last<wire::SignedEndpoint>();
    REQUIRE(document != nullptr);
    const auto opened = wire::open_endpoint(*document, key_of(91).public_key().bytes);
    REQUIRE_OK(opened);
    CHECK(opened->endpoint == notice.endpoint);
  }
  CHECK(bench.service->told() == 1);
  Link stranger(bench, 5);
  stranger.hello();
  CHECK(stranger.last<wire::SignedEndpoint>() == nullptr);
}

TEST_CASE("without a valid signed hello nothing is served and the connection ends") {
  Bench bench;
  enroll(bench, 1);
  Link link(bench, 1);
  SUBCASE("a check-in first") {
    link.say(check_in());
  }
  SUBCASE("a blob first") {
    link.say(wire::ManifestRequest{});
  }
  SUBCASE("the roster first") {
    link.say(wire::RosterRequest{});
  }
  SUBCASE("a hello that somebody else signed") {
    wire::Hello message;
    message.curve = curve_of(1);
    wire::sign(message, key_of(2));
    message.identity = key_of(1).public_key().bytes;
    link.say(message);
  }
  SUBCASE("a hello for another connection's key") {
    wire::Hello message;
    message.curve = curve_of(5);
    wire::sign(message, key_of(1));
    link.say(message);
  }
  REQUIRE(link.heard.size() == 1);
  CHECK(link.last<wire::ErrorReply>() != nullptr);
  CHECK(link.closed);
}

TEST_CASE("invites are used up, expire, and are worth nothing without their secret") {
  Bench bench;
  const wire::Invite invite = make_invite(bench, 2);
  {
    Link link(bench, 1, invite_curve(invite));
    link.say(enrolment(invite, 1));
    REQUIRE(link.last<wire::Enrolled>() != nullptr);
    CHECK(link.last<wire::Enrolled>()->roster_epoch == 1);
    link.say(enrolment(invite, 1));  // the answer was lost: the same again costs no use
    CHECK(link.last<wire::Enrolled>() != nullptr);
    link.say(enrolment(invite, 2));
    CHECK(link.last<wire::Enrolled>() != nullptr);
    link.say(enrolment(invite, 3));
    CHECK(link.last<wire::ErrorReply>() != nullptr);
  }
  CHECK(!bench.registration->may_connect(invite_curve(invite)));
  const wire::Invite fresh = make_invite(bench);
  Link thief(bench, 1, curve_of(1));  // knows the hash, connects with an enrolled key of its own
  thief.say(enrolment(fresh, 4));
  CHECK(thief.last<wire::ErrorReply>() != nullptr);
  bench.pass(61'000);
  CHECK(!bench.registration->may_connect(invite_curve(fresh)));
  CHECK(bench.registration->devices().size() == 2);
}

TEST_CASE("a device's key may hold two connections, an invite's as many as it has uses, within a bound") {
  Bench bench;
  enroll(bench, 1);
  CHECK(bench.registration->connections_max(curve_of(1)) == 2);
  CHECK(bench.registration->connections_max(invite_curve(make_invite(bench, 1))) == 2);
  CHECK(bench.registration->connections_max(invite_curve(make_invite(bench, 30))) == 30);
  CHECK(bench.registration->connections_max(invite_curve(make_invite(bench, 100'000))) == 64);
  CHECK(bench.registration->connections_max(curve_of(9)) == 0);
}

TEST_CASE("frames that cannot be read get a typed complaint, and three of them end the connection") {
  Bench bench;
  enroll(bench, 1);
  Link link(bench, 1);
  link.hello();
  link.say_raw(Bytes(40, 0x55));
  REQUIRE(link.last<wire::ErrorReply>() != nullptr);
  CHECK(link.last<wire::ErrorReply>()->complaint == wire::Complaint::malformed);
  CHECK(!link.closed);
  link.say_raw(Bytes(40, 0x55));
  link.say_raw(Bytes(40, 0x55));
  CHECK(link.closed);

  Link newer(bench, 1);
  auto frame = wire::encode_frame(wire::Message(check_in()));
  REQUIRE_OK(frame);
  (*frame)[4] = 9;
  newer.say_raw(*frame);
  REQUIRE(newer.last<wire::ErrorReply>() != nullptr);
  CHECK(newer.last<wire::ErrorReply>()->complaint == wire::Complaint::unknown_version);
  CHECK(newer.last<wire::ErrorReply>()->versions == std::vector<std::uint16_t>{1});
}

TEST_CASE("a revoked device is served nothing from its next check-in on, and cannot connect again") {
  Bench bench;
  enroll(bench, 1);
  Link link(bench, 1);
  link.hello();
  REQUIRE_OK(bench.service->revoke(key_of(1).device_id()));
  CHECK(bench.registration->roster_epoch() == 2);
  link.say(check_in());
  REQUIRE(link.last<wire::ErrorReply>() != nullptr);
  CHECK(link.last<wire::ErrorReply>()->complaint == wire::Complaint::revoked);
  CHECK(link.closed);
  CHECK(!bench.registration->may_connect(curve_of(1)));
}

TEST_CASE("with the roster key apart a device waits until its epoch is signed") {
  Bench bench(small_task(), true);
  const wire::Invite invite = make_invite(bench);
  Link first(bench, 1, invite_curve(invite));
  first.say(enrolment(invite, 1));
  REQUIRE(first.last<wire::Enrolled>() != nullptr);
  CHECK(first.last<wire::Enrolled>()->roster_epoch == 0);
  Link early(bench, 1);
  early.hello();
  CHECK(early.last<wire::ErrorReply>() != nullptr);
  CHECK(bench.registration->pending() == 1);
  CHECK(!bench.registration->sign_pending(key_of(3)).ok());
  const auto epoch = bench.registration->sign_pending(bench.roster);
  REQUIRE_OK(epoch);
  CHECK(*epoch == 1);
  Link link(bench, 1);
  link.hello();
  CHECK(link.last<wire::Welcome>() != nullptr);
  link.say(wire::RosterRequest{0});
  const auto* roster = link.last<wire::RosterReply>();
  REQUIRE(roster != nullptr);
  REQUIRE(roster->epochs.size() == 1);
  const auto opened = wire::open_epoch(roster->epochs[0], bench.roster.public_key().bytes);
  REQUIRE_OK(opened);
  CHECK(opened->changes.size() == 1);
}

TEST_CASE("registration is what it was after a restart") {
  Bench bench;
  enroll(bench, 1);
  enroll(bench, 2);
  REQUIRE_OK(bench.service->revoke(key_of(2).device_id()));
  const auto again = Registration::open(bench.store, bench.roster.public_key().bytes, std::nullopt, bench.clock);
  REQUIRE_OK(again);
  CHECK((*again)->roster_epoch() == 3);
  CHECK((*again)->may_connect(curve_of(1)));
  CHECK(!(*again)->may_connect(curve_of(2)));
}

TEST_CASE("a commit that fails stops the service before anything is told") {
  Bench bench;
  enroll(bench, 1);
  Link link(bench, 1);
  link.hello();
  link.say(check_in());
  bench.store.broken = true;
  bench.pass(1000);
  link.turn();
  CHECK(link.last<wire::TaskOffer>() == nullptr);
  const Status status = bench.service->run_due();
  REQUIRE(!status.ok());
  CHECK(status.error().message.find("disk is full") != std::string::npos);
}

}  // namespace covey::coordinator

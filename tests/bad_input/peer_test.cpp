// Bad frames over real connections: the programs answer or refuse in the protocol's own words, and go on.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstring>
#include <optional>
#include <thread>

#include "bad_input/deployment.h"
#include "bad_input/expect.h"
#include "core/base/clock.h"
#include "core/crypto/curve.h"
#include "core/net/zmq_client.h"
#include "core/net/zmq_server.h"
#include "core/wire/invite.h"
#include "core/wire/message.h"
#include "support/process.h"

using namespace covey;
using namespace covey::bad_input;

namespace {

/// The pair of an invite: a key that the coordinator lets in before anyone is enrolled.
crypto::CurveKeyPair pair_of(const wire::Invite& invite) {
  auto pair = crypto::CurveKeyPair::derive(invite.secret.span(), wire::kInviteCurvePurpose);
  REQUIRE_OK(pair);
  return *std::move(pair);
}

/// Sends one frame on a connection of its own. @return what came back within 10 s.
std::optional<wire::Message> exchange(const wire::Invite& invite, const Bytes& frame) {
  const auto pair = pair_of(invite);
  net::ZmqClientOptions options;
  options.endpoint = invite.endpoint;
  options.server_key = invite.server_curve;
  options.public_key = pair.public_key().bytes;
  options.secret_key = pair.secret_copy();
  const auto client = net::ZmqClient::create(std::move(options));
  REQUIRE_OK(client);
  std::optional<wire::Message> answer;
  (*client)->set_handlers({[&](ByteSpan got) {
                             auto envelope = wire::decode_frame(got);
                             REQUIRE_OK(envelope);
                             answer = std::move(envelope->message);
                           },
                           [] {}});
  REQUIRE_OK((*client)->connect());
  REQUIRE_OK((*client)->send(frame));
  const SystemClock clock;
  const auto until = clock.monotonic_ms() + 10'000;
  while (!answer && clock.monotonic_ms() < until) REQUIRE_OK((*client)->poll(20));
  (*client)->set_handlers({});
  return answer;
}

Bytes patched(Bytes frame, std::size_t at, std::initializer_list<std::uint8_t> bytes) {
  std::copy(bytes.begin(), bytes.end(), frame.begin() + static_cast<std::ptrdiff_t>(at));
  return frame;
}

/// A coordinator that serves the fixture's model on a free port.
struct Serving {
  explicit Serving(const std::string& name)
      : folder(deployment().coordinator_copy(name)), config(folder + "/coordinator.yaml") {
    const std::string endpoint = "127.0.0.1:" + std::to_string(test::free_port());
    write(config, replaced(slurp(config), "127.0.0.1:1", endpoint));
    process.emplace(std::vector<std::string>{"covey-coordinator", "serve", "--config", config}, folder + "/log");
    REQUIRE_MESSAGE(
        test::eventually(60'000, [&] { return process->output().find("serving task") != std::string::npos; }),
        process->output());
    const auto made = test::run_command(command_line("covey-coordinator invite --config " + config, ""));
    REQUIRE_MESSAGE(made.exit_code == 0, made.err);
    invite = made.out.substr(0, made.out.find('\n'));
  }
  /// As an operator stops it.
  void stop() {
    process->signal(SIGTERM);
    CHECK(process->wait(30'000) == 0);
    const std::string log = process->output();
    CAPTURE(log);
    CHECK(log.find("Sanitizer") == std::string::npos);
    CHECK(log.find("runtime error") == std::string::npos);
  }
  std::string folder;
  std::string config;
  std::string invite;
  std::optional<test::Process> process;
};

}  // namespace

TEST_CASE("a coordinator answers bad frames with what is wrong, stays up, and enrols the next honest device") {
  Serving serving("co-peer");
  const auto invite = wire::decode_invite(serving.invite);
  REQUIRE_OK(invite);
  const auto hello = wire::encode_frame(wire::Hello{});
  REQUIRE_OK(hello);
  const auto check_in = wire::encode_frame(wire::CheckIn{});
  REQUIRE_OK(check_in);
  const auto enroll = wire::encode_frame(wire::Enroll{});
  REQUIRE_OK(enroll);
  using wire::Complaint;
  const struct {
    std::string name;
    Bytes frame;
    Complaint complaint;
    const char* says;
  } cases[] = {
      {"length beyond the frame", patched(*hello, 12, {0xff, 0xff, 0xff, 0xff}), Complaint::malformed, "4294967295"},
      {"length short of the frame", patched(*hello, 12, {1, 0, 0, 0}), Complaint::malformed, "1 bytes"},
      {"version 2", patched(*hello, 4, {2, 0}), Complaint::unknown_version, "version 2"},
      {"version 65535", patched(*hello, 4, {0xff, 0xff}), Complaint::unknown_version, "spoken: 1"},
      {"unknown type", patched(*hello, 6, {0x99, 0x99}), Complaint::malformed, "type 39321"},
      {"type of a phase that is not spoken", patched(*hello, 6, {95, 0}), Complaint::malformed, "type 95"},
      {"unknown flags", patched(*hello, 8, {1, 0, 0, 0}), Complaint::malformed, "flags"},
      {"another protocol", patched(*hello, 0, {'H', 'T', 'T', 'P'}), Complaint::malformed, "CVEY"},
      {"a few bytes", Bytes{1, 2, 3}, Complaint::malformed, "3 bytes"},
      {"no payload", patched(Bytes(hello->begin(), hello->begin() + 32), 12, {0, 0, 0, 0}), Complaint::malformed,
       "hello"},
      {"half a payload",
       [&] {
         Bytes frame(hello->begin(), hello->begin() + 48);
         return patched(std::move(frame), 12, {16, 0, 0, 0});
       }(),
       Complaint::malformed, "hello"},
      {"a request before any hello", *check_in, Complaint::not_enrolled, "hello"},
      {"a hello that nobody signed", *hello, Complaint::not_enrolled, "enrol"},
      {"an enrolment by no invite", *enroll, Complaint::not_enrolled, "invite"},
  };
  for (const auto& bad : cases) {
    CAPTURE(bad.name);
    const auto answer = exchange(*invite, bad.frame);
    REQUIRE(answer.has_value());
    const auto* error = std::get_if<wire::ErrorReply>(&*answer);
    REQUIRE(error != nullptr);
    CHECK(error->complaint == bad.complaint);
    CAPTURE(error->message);
    CHECK(error->message.find(bad.says) != std::string::npos);
    CHECK(error->message.find('\n') == std::string::npos);
    if (bad.complaint == Complaint::unknown_version) CHECK(error->versions.size() == 1);
    CHECK(serving.process->running());
  }
  expect_success("covey-coordinator status --config " + serving.config, "");
  expect_success("covey-device enroll --dir {}/honest --timeout-s 30 " + serving.invite, fixture().path());
  expect_refusal({"an invite that is used up",
                  "covey-device enroll --dir {}/second --timeout-s 3 " + serving.invite,
                  {"coordinator", "invite"},
                  1},  // the command was right; the coordinator refuses
                 fixture().path());
  expect_refusal({"a second coordinator here",
                  "covey-coordinator serve --config " + serving.config,
                  {"in use by another process"},
                  1},  // the state of the machine, not the input
                 fixture().path());
  serving.stop();
}

namespace {

struct Anyone final : net::KeyDirectory {
  bool may_connect(const wire::Key&) const override { return true; }
};

}  // namespace

TEST_CASE("a device refuses a coordinator that answers with bad frames, in one line") {
  const auto parsed = wire::decode_invite(deployment().invite());
  REQUIRE_OK(parsed);
  const auto keys = crypto::CurveKeyPair::generate();
  const Anyone anyone;
  net::ZmqServerOptions options;
  options.endpoint = "tcp://127.0.0.1:*";
  options.public_key = keys.public_key().bytes;
  options.secret_key = keys.secret_copy();
  const auto server = net::ZmqServer::create(std::move(options), anyone);
  REQUIRE_OK(server);
  const auto enrolled = wire::encode_frame(wire::Enrolled{"another task", 1});
  REQUIRE_OK(enrolled);
  const struct {
    std::string name;
    Bytes frame;
    const char* says;
  } cases[] = {
      {"length-beyond", patched(*enrolled, 12, {0xff, 0xff, 0xff, 0x7f}), "payload"},
      {"version-9", patched(*enrolled, 4, {9, 0}), "version 9"},
      {"noise", Bytes(100, 0xab), "CVEY"},
      {"another-task", *enrolled, "this task"},
      {"not-an-answer", [] { return *wire::encode_frame(wire::CheckIn{}); }(), "not one to an enrolment"},
  };
  for (const auto& bad : cases) {
    wire::Invite invite;
    invite.endpoint = (*server)->endpoint();
    invite.task = "lamps";
    invite.server_curve = keys.public_key().bytes;
    invite.coordinator = parsed->coordinator;
    invite.roster = parsed->roster;
    invite.expires_ms = INT64_MAX;
    invite.secret = parsed->secret.clone();
    const auto text = wire::encode_invite(invite);
    REQUIRE_OK(text);
    (*server)->set_handlers(
        {[&](net::ConnectionId id, const wire::Key&, ByteSpan) { CHECK((*server)->send(id, bad.frame).ok()); },
         [](net::ConnectionId) {}});
    std::atomic<bool> done{false};
    std::thread device([&] {
      expect_refusal({bad.name,
                      "covey-device enroll --dir {}/bad-answer-" + std::string(bad.name) + " --timeout-s 20 " + *text,
                      {"coordinator's answer", bad.says}},
                     fixture().path());
      done = true;
    });
    while (!done) (void)(*server)->poll(20);
    device.join();
  }
  (*server)->set_handlers({});
}

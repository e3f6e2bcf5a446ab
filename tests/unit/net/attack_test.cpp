// A server process under several attacks at once: an honest device gets its answers and a model of 5 MB, and the
// server's memory stays bounded. Every party is a process of its own; this one never touches ZeroMQ, since a context
// does not survive a fork.
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include <fstream>
#include <vector>

#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/net/blob_fetch.h"
#include "core/net/blobs.h"
#include "core/net/zmq_support.h"
#include "core/wire/message.h"
#include "raw_peer.h"

using namespace covey;
using namespace covey::net;
using namespace covey::net::test;

namespace {

constexpr std::size_t kModelBytes = 5'000'000;
#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t kPeakKibMax = 800 * 1024;  // freed memory stays in the sanitizer's quarantine
#else
// 300 connections of 64 KiB before and a few of 576 KiB after the hello, the model, and the time between two samples.
constexpr std::size_t kPeakKibMax = 160 * 1024;
#endif

Bytes model() {
  Rng rng(5);
  Bytes out(kModelBytes);
  for (auto& byte : out) byte = static_cast<std::uint8_t>(rng.next_u32());
  return out;
}

struct Keys {
  CurveKeyPair server = CurveKeyPair::generate();
  CurveKeyPair honest = CurveKeyPair::generate();
  CurveKeyPair traitor = CurveKeyPair::generate();
  CurveKeyPair stranger = CurveKeyPair::generate();
};

struct Report {
  ServerStats stats;
  std::size_t peak_kib = 0;
};

std::size_t peak_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stoul(line.substr(6));
  }
  return 0;
}

/// A child process; killed when the object goes.
class Child {
 public:
  template <typename Body>
  explicit Child(Body body) {
    pid_ = ::fork();
    if (pid_ != 0) return;
    int code = 99;
    try {
      code = body();
    } catch (...) {  // a failed REQUIRE
    }
    ::_exit(code);  // leaves what the parent had buffered for output to the parent
  }
  ~Child() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// Exit code, or -1 where it does not end in time.
  int wait(std::int64_t limit_ms) {
    const auto end = now_ms() + limit_ms;
    int status = 0;
    while (::waitpid(pid_, &status, WNOHANG) == 0) {
      if (now_ms() > end) return -1;
      ::usleep(5000);
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
};

/// Serves until a byte can be read from `stop`; then writes its report.
int serve(const Keys& keys, bool guarded, int out, int stop) {
  Directory directory;
  directory.keys = {key_of(keys.honest), key_of(keys.traitor)};
  auto options = server_options(keys.server);
  options.guard.connections_max = 300;
  if (!guarded) {
    options.guard.undelivered_max = options.guard.undelivered_before_hello_max = ~std::uint64_t{0} >> 1;
    options.guard.undelivered_total_max = ~std::uint64_t{0} >> 1;
  }
  BlobServer blobs;
  REQUIRE_OK(blobs.add(model()));
  EchoServer echo(std::move(options), directory);
  echo.custom = [&](ConnectionId id, ByteSpan frame) {
    const auto envelope = wire::decode_frame(frame);
    if (!envelope.ok()) return false;
    wire::Message reply;
    if (const auto* manifest = std::get_if<wire::ManifestRequest>(&envelope->message)) reply = blobs.answer(*manifest);
    if (const auto* chunk = std::get_if<wire::ChunkRequest>(&envelope->message)) reply = blobs.answer(*chunk);
    (void)echo.server->send(id, *wire::encode_frame(reply));
    return true;
  };
  char endpoint[64] = {};
  echo.server->endpoint().copy(endpoint, sizeof endpoint - 1);
  if (::write(out, endpoint, sizeof endpoint) != sizeof endpoint) return 1;
  pollfd stopped{stop, POLLIN, 0};
  while (::poll(&stopped, 1, 0) == 0) {
    if (!echo.server->poll(10).ok()) return 2;
  }
  const Report report{echo.server->stats(), peak_kib()};
  return ::write(out, &report, sizeof report) == sizeof report ? 0 : 3;
}

class ServerProcess {
 public:
  ServerProcess(const Keys& keys, bool guarded) {
    REQUIRE(::pipe(out_) == 0);
    REQUIRE(::pipe(stop_) == 0);
    child_ = std::make_unique<Child>([&] { return serve(keys, guarded, out_[1], stop_[0]); });
    char endpoint[64] = {};
    read(endpoint, sizeof endpoint);
    endpoint_ = endpoint;
  }
  [[nodiscard]] const std::string& endpoint() const { return endpoint_; }
  Report stop() {
    Report report;
    REQUIRE(::write(stop_[1], "x", 1) == 1);
    read(&report, sizeof report);
    CHECK(child_->wait(5000) == 0);
    return report;
  }

 private:
  void read(void* to, std::size_t size) {
    pollfd ready{out_[0], POLLIN, 0};
    REQUIRE(::poll(&ready, 1, 10'000) == 1);
    REQUIRE(::read(out_[0], to, size) == static_cast<ssize_t>(size));
  }
  int out_[2] = {-1, -1};
  int stop_[2] = {-1, -1};
  std::unique_ptr<Child> child_;
  std::string endpoint_;
};

/// Hello, one question and answer, then the model. @return 0 where all came within 20 s.
int honest_device(const Keys& keys, const std::string& endpoint) {
  covey::test::TempDir folder;
  auto store = BlobStore::open(folder.path(), 64 << 20);
  if (!store.ok()) return 1;
  BlobDownloads downloads(*store);
  const Bytes want = model();
  const wire::Hash blob = blob_id(*make_manifest(want));
  TestClient device(client_options(endpoint, keys.server, keys.honest));
  bool done = false;
  bool same = false;
  bool hello = false;
  const auto carry = [&](BlobDownloads::Outcome outcome) {
    for (const auto& request : outcome.requests) (void)device.client->send(*wire::encode_frame(request));
    for (const auto& d : outcome.done) {
      done = true;
      same = !d.failed && *read_file(d.path) == want;
    }
  };
  device.client->set_handlers({.on_frame =
                                   [&](ByteSpan frame) {
                                     if (!hello && as_text(frame) == "Hello") {
                                       hello = true;
                                       carry(downloads.idle() ? downloads.want(blob, want.size())
                                                              : downloads.reconnected());
                                       return;
                                     }
                                     auto envelope = wire::decode_frame(frame);
                                     if (envelope.ok()) carry(downloads.feed(std::move(envelope->message)));
                                   },
                               .on_closed =
                                   [&] {
                                     hello = false;
                                     (void)device.client->connect();
                                     (void)device.client->send(text("Hello"));
                                   }});
  (void)device.client->connect();
  (void)device.client->send(text("Hello"));
  const auto end = now_ms() + 20'000;
  while (!done && now_ms() < end) (void)device.client->poll(20);
  return done && same ? 0 : 2;
}

/// 150 sockets that send rubbish, half a handshake, or the announcement of a gigabyte, again and again.
int rubbish(const std::string& endpoint) {
  std::vector<std::unique_ptr<RawTcp>> crowd(150);
  for (std::size_t turn = 0;; ++turn) {
    for (std::size_t n = 0; n < crowd.size(); ++n) {
      if (crowd[n] && crowd[n]->open()) {
        crowd[n]->send(Bytes(1000, static_cast<std::uint8_t>(n)));
        continue;
      }
      crowd[n] = std::make_unique<RawTcp>(endpoint);
      if (n % 3 > 0) crowd[n]->send(curve_greeting());
      if (n % 3 > 1) crowd[n]->send(long_header(6, std::uint64_t{1} << 30));
    }
    ::usleep(20'000);
  }
}

/// Keys that are not listed, and listed ones that send messages of 64 MB in small parts, or ask and never read.
int traitors(const Keys& keys, const std::string& endpoint) {
  void* const context = internal::process_context().handle();
  const Bytes ask = *wire::encode_frame(wire::ChunkRequest{blob_id(*make_manifest(model())), 3});
  RawDealer stranger(context, endpoint, keys.server, keys.stranger);
  RawDealer greedy(context, endpoint, keys.server, keys.traitor);
  (void)stranger.send(text("Hello"));
  (void)greedy.send(text("Hello"));
  while (true) {
    RawDealer before_hello(context, endpoint, keys.server, keys.traitor);
    RawDealer after_hello(context, endpoint, keys.server, keys.traitor);
    before_hello.send_parts(1024, 64 * 1024);
    (void)after_hello.send(text("Hello"));
    for (int n = 0; n < 200 && after_hello.receive() < 0; ++n) ::usleep(1000);
    after_hello.send_parts(1024, 64 * 1024);
    for (int n = 0; n < 100; ++n) (void)greedy.send(ask);
    ::usleep(200'000);
  }
}

}  // namespace

TEST_CASE("under attack an honest device is served, and the server's memory stays bounded") {
  const Keys keys;
  ServerProcess server(keys, true);
  const Child noise([&] { return rubbish(server.endpoint()); });
  const Child betrayal([&] { return traitors(keys, server.endpoint()); });
  const Child betrayal_too([&] { return traitors(keys, server.endpoint()); });
  ::usleep(500'000);
  for (int n = 0; n < 3; ++n) {
    const auto start = now_ms();
    Child honest([&] { return honest_device(keys, server.endpoint()); });
    CHECK(honest.wait(25'000) == 0);
    MESSAGE("honest device served in ", now_ms() - start, " ms");
    ::usleep(500'000);
  }
  const Report report = server.stop();
  MESSAGE("server's peak resident memory: ", report.peak_kib / 1024, " MiB; accepted ", report.stats.accepted,
          ", refused keys ", report.stats.refused, ", cut for undelivered bytes ", report.stats.cut_undelivered,
          ", for silence ", report.stats.cut_no_hello, ", above the cap ", report.stats.cut_over_cap);
  CHECK(report.peak_kib < kPeakKibMax);
  CHECK(report.stats.cut_undelivered > 4);
  CHECK(report.stats.refused > 0);
}

TEST_CASE("the control: without the guard one message in parts fills the memory") {
  const Keys keys;
  ServerProcess server(keys, false);
  const Child betrayal([&] {
    RawDealer peer(internal::process_context().handle(), server.endpoint(), keys.server, keys.traitor);
    (void)peer.send(text("Hello"));
    peer.send_parts(6 * 1024, 64 * 1024);
    ::usleep(10'000'000);
    return 0;
  });
  ::usleep(3'000'000);
  const Report report = server.stop();
  MESSAGE("without the guard: ", report.peak_kib / 1024, " MiB");
  CHECK(report.peak_kib > 250 * 1024);
}

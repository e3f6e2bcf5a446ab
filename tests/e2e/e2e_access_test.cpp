// Who gets in, and who must not: invites, revocation, and one process per directory.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "deployment.h"

using namespace covey;
using namespace covey::test;
namespace fs = std::filesystem;

namespace {

/// Refused, in one line.
void check_refused(const CommandResult& result, int exit_code) {
  CHECK_MESSAGE(result.exit_code == exit_code, result.out, result.err);
  CHECK(result.out.empty());
  CHECK_MESSAGE(std::ranges::count(result.err, '\n') == 1, result.err);
}

bool has_nothing(const Deployment& run, int device) {
  for (const char* name : {"/models", "/blobs"}) {
    std::error_code error;
    for (const auto& entry : fs::recursive_directory_iterator(run.device_dir(device) + name, error)) {
      if (entry.is_regular_file()) return false;
    }
  }
  return true;
}

/// A TCP connection of somebody who does not speak our protocol.
class Stranger {
 public:
  explicit Stranger(int port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    (void)::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }
  ~Stranger() { ::close(fd_); }
  Stranger(const Stranger&) = delete;
  Stranger& operator=(const Stranger&) = delete;

  void say(const std::string& bytes) const { (void)::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  [[nodiscard]] bool was_cut_off() const {
    char buffer[4096];
    for (;;) {
      const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
      if (got > 0) continue;
      return got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK);
    }
  }

 private:
  int fd_;
};

/// ZMTP 3 greeting that asks for CURVE.
std::string greeting() {
  std::string out(64, '\0');
  out[0] = '\xff';
  out[9] = '\x7f';
  out[10] = 3;
  out.replace(12, 5, "CURVE");
  return out;
}

std::int64_t resident_kib(pid_t pid) {
  const std::string text = read_file("/proc/" + std::to_string(pid) + "/status");
  const auto at = text.find("VmRSS:");
  REQUIRE(at != std::string::npos);
  return std::atoll(text.c_str() + at + 6);
}

}  // namespace

TEST_CASE("a device without a valid invite gets nothing") {
  Deployment run({.devices = 4});
  run.serve();
  const std::string good = run.invite();

  SUBCASE("damaged in any place") {
    for (const std::size_t at : {std::size_t{0}, good.size() / 4, good.size() / 2, good.size() - 2}) {
      std::string damaged = good;
      damaged[at] = damaged[at] == '1' ? '2' : '1';  // hex: another case would be the same value
      CAPTURE(at);
      check_refused(run.enroll(0, damaged), 2);
    }
    check_refused(run.enroll(0, good.substr(0, good.size() / 2)), 2);
    check_refused(run.enroll(0, ""), 2);
  }
  SUBCASE("expired") {
    const std::string brief = run.invite("--expires-hours 0.0001");
    std::this_thread::sleep_for(std::chrono::milliseconds(600));
    check_refused(run.enroll(0, brief), 2);  // the device reads the date itself; the coordinator's check is a unit test
  }
  SUBCASE("used up") {
    REQUIRE(run.enroll(1, good).exit_code == 0);
    check_refused(run.enroll(0, good), 1);
  }
  SUBCASE("of another coordinator of the same name") {
    Deployment other({.devices = 0});
    other.serve();
    std::string foreign = other.invite();
    REQUIRE(run.enroll(0, foreign).exit_code == 0);
    // It claims to belong to the first one: that one's address and keys, but keys of its own that nobody enrolled.
    REQUIRE(run.enroll(1, good).exit_code == 0);
    fs::copy_file(run.device_dir(1) + "/coordinator.json", run.device_dir(0) + "/coordinator.json",
                  fs::copy_options::overwrite_existing);
    run.configure(0);
    run.import(0, base_model().corpus + "/household-01/train.txt");
    run.run(0);
    std::this_thread::sleep_for(std::chrono::seconds(3));
    CHECK(run.device_running(0));
    const auto status = run.ask_device(0, "status");
    REQUIRE(status.has_value());
    CHECK(int_of(*status, "receipts") == 0);
    CHECK(status->find("round")->is_null());
    CHECK(has_nothing(run, 0));
    const auto devices = run.ask("devices");
    REQUIRE(devices.has_value());
    CHECK((*devices->get_array("devices"))->size() == 1);
    CHECK_MESSAGE(run.serving(), run.diary());
    return;
  }
  CHECK_FALSE(fs::exists(run.device_dir(0) + "/coordinator.json"));
  const auto result = run.device_command(0, "status");
  CHECK(result.exit_code == 2);
  CHECK_MESSAGE(run.serving(), run.diary());
}

TEST_CASE("a revoked device is turned away at its next connection, and the others go on") {
  Deployment run(
      {.devices = 3, .rounds = 6, .goal = 2, .deadline_ms = 6'000, .round_pause_ms = 500, .local_steps = 20});
  run.serve();
  run.enroll_all();
  for (int i : {1, 2}) run.run(i);
  run.run(0);
  REQUIRE_MESSAGE(eventually(30'000, [&] { return run.number("published") >= 1; }), run.diary());
  REQUIRE(run.coordinator_command("revoke device-0").exit_code == 0);
  // Rounds that had started may still count it; none that starts from here on.
  const auto newest = run.number("round");
  REQUIRE_MESSAGE(eventually(60'000, [&] { return run.phase() == "finished"; }), run.diary());
  for (const auto& [round, count] : run.receipts(0)) CHECK(round <= newest);
  REQUIRE(run.device_running(0));  // it is never told that the task is finished: it is not spoken to

  run.kill_device(0);
  run.run(0);
  // Its key is no longer in the transport's directory: the handshake is denied before a message can be sent.
  REQUIRE_MESSAGE(eventually(20'000,
                             [&] {
                               const auto status = run.ask_device(0, "status");
                               return status && !text_of(*status, "problem").empty();
                             }),
                  run.diary());
  const auto status = run.ask_device(0, "status");
  REQUIRE(status.has_value());
  MESSAGE("a revoked device says: ", text_of(*status, "problem"));
  CHECK_FALSE(*status->get_bool("finished"));
  CHECK(run.device_running(0));
  const auto devices = run.ask("devices");
  REQUIRE(devices.has_value());
  int revoked = 0;
  for (const auto& device : (*devices->get_array("devices"))->items()) {
    revoked += text_of(device, "status") == "revoked" ? 1 : 0;
  }
  CHECK(revoked == 1);
  run.kill_device(0);
  REQUIRE_MESSAGE(run.wait_until_finished(20'000), run.diary());
  run.check_ledger();
}

TEST_CASE("a second coordinator and a second device on the same directory are refused in one line") {
  Deployment run({.devices = 1, .rounds = 1, .goal = 1, .mode = "robust"});
  run.serve();
  run.enroll_all();
  // Nothing trains while this is tried: the device is enrolled, and its daemon paused.
  REQUIRE(run.device_command(0, "pause").exit_code == 0);
  run.run(0);
  REQUIRE(eventually(10'000, [&] {
    const auto status = run.ask_device(0, "status");
    return status && status->get_bool("running").ok() && *status->get_bool("running");
  }));
  check_refused(run.coordinator_command("serve"), 1);
  check_refused(run.device_command(0, "run"), 1);
  CHECK(run.serving());
  CHECK(run.device_running(0));
  REQUIRE(run.device_command(0, "resume").exit_code == 0);
  REQUIRE_MESSAGE(run.wait_until_finished(30'000), run.diary());
  run.check_ledger();
}

TEST_CASE("with the roster key kept apart a device takes part once its enrolment is signed") {
  Deployment run({.devices = 2, .rounds = 1, .goal = 2, .roster_key_apart = true});
  const std::string key = run.file("roster.key");
  fs::rename(run.coordinator_dir() + "/roster.key", key);
  run.serve();
  run.enroll_all();
  CHECK(run.number("pending_roster_changes") == 2);
  run.run_all();
  CHECK_FALSE(eventually(1'500, [&] { return run.number("published") > 0 || !run.device_running(0); }));
  CHECK(has_nothing(run, 0));
  const auto result = run.coordinator_command("roster sign --key '" + key + "'");
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  REQUIRE_MESSAGE(run.wait_until_finished(40'000), run.diary());
  run.check_ledger();
}

TEST_CASE("strangers that stay silent, stop in the handshake or talk nonsense are cut off while a run goes on") {
  Deployment run({.devices = 2, .rounds = 2, .goal = 2});
  run.serve();
  run.enroll_all();
  const std::int64_t before = resident_kib(run.coordinator_pid());
  std::vector<std::unique_ptr<Stranger>> strangers;
  for (int i = 0; i < 60; ++i) strangers.push_back(std::make_unique<Stranger>(run.port()));
  run.run_all();
  const std::string nonsense(64 << 10, 'x');
  // A frame that claims 2^62 bytes, behind a correct greeting.
  const std::string endless = greeting() + std::string("\x02\x40\0\0\0\0\0\0\0", 9) + nonsense;
  for (std::size_t i = 0; i < strangers.size(); ++i) {
    if (i % 4 == 1) strangers[i]->say(greeting());
    if (i % 4 == 2) strangers[i]->say(nonsense);
    if (i % 4 == 3) strangers[i]->say(endless);
  }
  REQUIRE_MESSAGE(run.wait_until_finished(60'000), run.diary());
  run.check_ledger();
  CHECK(eventually(30'000,
                   [&] { return std::ranges::all_of(strangers, [](const auto& s) { return s->was_cut_off(); }); }));
  const std::int64_t after = resident_kib(run.coordinator_pid());
  MESSAGE("coordinator's memory, KiB: ", before, " -> ", after);
  CHECK(after < before + (64 << 10));
}

// The coordinator's transport key is rotated in the middle of a run, with real processes on real sockets.
#include "deployment.h"

using namespace covey;
using namespace covey::test;

namespace {

std::string endpoint_of(Deployment& run, int device) {
  const auto status = run.ask_device(device, "status");
  return status ? text_of(*status, "endpoint") : "";
}

}  // namespace

TEST_CASE("a key rotated in the middle of a run: told devices go on, also after restarts, one not told hears why") {
  Deployment run({.devices = 4, .rounds = 4, .goal = 3, .round_pause_ms = 300});
  run.serve();
  run.enroll_all();
  for (int i : {0, 1, 2}) run.run(i);  // device 3 is away while the key is rotated
  REQUIRE_MESSAGE(eventually(30'000, [&] { return run.number("published") >= 1; }), run.diary());
  REQUIRE(run.coordinator_command("pause").exit_code == 0);
  run.stop_coordinator();

  const std::string next_key = run.coordinator_dir() + "/next.key";
  const std::string make_key = "'" + bin_dir() + "/covey-coordinator' rotate-key '" + next_key + "'";
  REQUIRE(run_command(make_key).exit_code == 0);
  CHECK(run_command(make_key).exit_code == 2);  // a key is never overwritten
  const std::string first = "tcp://127.0.0.1:" + std::to_string(run.port());
  const std::string second = "tcp://127.0.0.1:" + std::to_string(free_port());
  run.reconfigure("rotate: {listen: " + second + ", key: next.key, overlap_s: 15}\n");
  run.serve();
  INFO("within the overlap: devices come through the first endpoint and are told of the second");
  REQUIRE_MESSAGE(eventually(14'000,
                             [&] {
                               for (int i : {0, 1, 2}) {
                                 if (endpoint_of(run, i) != second) return false;
                               }
                               return true;
                             }),
                  run.diary());
  CHECK(endpoint_of(run, 3) == first);
  const auto status = run.ask("status");
  REQUIRE(status.has_value());
  const auto rotation = status->get_object("rotation");
  REQUIRE_OK(rotation);
  CHECK(text_of(**rotation, "endpoint") == second);
  CHECK(int_of(**rotation, "told") == 3);
  // Whoever enrols from now on is sent to the second endpoint at once.
  REQUIRE_MESSAGE(run.enroll(9, run.invite()).exit_code == 0, run.diary());
  CHECK(endpoint_of(run, 9) == second);

  INFO("after the overlap: the first endpoint is gone");
  REQUIRE_MESSAGE(
      eventually(30'000, [&] { return run.coordinator_log().find(first + " is given up") != std::string::npos; }),
      run.diary());
  run.run(3);
  REQUIRE_MESSAGE(eventually(20'000,
                             [&] {
                               const auto own = run.ask_device(3, "status");
                               const std::string problem = own ? text_of(*own, "problem") : "";
                               return problem.find("no answer from the coordinator at " + first) == 0 &&
                                      problem.find("enrol with a new invite") != std::string::npos;
                             }),
                  run.diary());
  run.kill_device(3);
  CHECK(run.number("published") < run.options().rounds);
  REQUIRE(run.coordinator_command("resume").exit_code == 0);

  INFO("a told device and the coordinator restart and go on over the second endpoint");
  run.kill_device(0);
  run.run(0);
  run.kill_coordinator();
  run.serve();
  REQUIRE_MESSAGE(run.wait_until_finished(60'000), run.diary());
  run.check_ledger();
  for (int i : {0, 1, 2}) {
    CHECK(endpoint_of(run, i) == second);
    CHECK_MESSAGE(run.receipts(i).size() == 4, run.diary());
  }
  CHECK(run.receipts(3).empty());

  INFO("at last the second endpoint is the only one of the configuration");
  run.stop_coordinator();
  REQUIRE(run_command("mv '" + next_key + "' '" + run.coordinator_dir() + "/curve.key'").exit_code == 0);
  run.reconfigure("", std::stoi(second.substr(second.rfind(':') + 1)));
  run.serve();
  run.run(1);
  REQUIRE_MESSAGE(run.device(1).wait(20'000).value_or(-1) == 0, run.diary());  // it hears that the task is finished
}

// A federation without mishaps, from the base model to an adapter that other programs read.
#include <filesystem>

#include "deployment.h"

using namespace covey;
using namespace covey::test;

TEST_CASE("three rounds with four devices publish three versions and an adapter that lowers the held-out loss") {
  Deployment run({.rounds = 3, .local_steps = 60, .learning_rate = 0.005});
  run.serve();
  run.enroll_all();
  run.run_all();
  REQUIRE_MESSAGE(run.wait_until_finished(60'000), run.diary());
  run.check_ledger();

  const auto rounds = run.ask("rounds");
  REQUIRE(rounds.has_value());
  const auto list = rounds->get_array("rounds");
  REQUIRE_OK(list);
  CHECK((*list)->size() == 3);
  for (const auto& round : (*list)->items()) {
    CHECK(text_of(round, "state") == "published");
    CHECK(int_of(round, "contributors") == 4);
    CHECK(int_of(round, "update_bytes") > 0);
  }
  const auto devices = run.ask("devices");
  REQUIRE(devices.has_value());
  const auto known = devices->get_array("devices");
  REQUIRE_OK(known);
  REQUIRE((*known)->size() == 4);
  for (const auto& device : (*known)->items()) {
    CHECK(text_of(device, "processor") != "");
    CHECK(int_of(device, "memory_bytes") > 0);
    CHECK(real_of(device, "tokens_per_s") > 0);
    CHECK(real_of(device, "bytes_per_s") > 0);
    CHECK(real_of(device, "round_ms_mean") > 0);
    CHECK(int_of(device, "contributed") == 3);
    CHECK(int_of(device, "failed") == 0);
  }

  // While the daemon runs and after it has gone, the same answers.
  REQUIRE(run.coordinator_command("export --format peft --out '" + run.file("adapter") + "'").exit_code == 0);
  REQUIRE(run.coordinator_command("backup '" + run.file("backup.db") + "'").exit_code == 0);
  CHECK(std::filesystem::file_size(run.file("backup.db")) > 0);
  const auto status = run.ask("status");
  REQUIRE(status.has_value());
  run.stop_coordinator();
  run.check_ledger();
  REQUIRE(run.coordinator_command("export --format peft --out '" + run.file("again") + "'").exit_code == 0);
  CHECK(read_file(run.file("adapter/adapter_model.safetensors")) ==
        read_file(run.file("again/adapter_model.safetensors")));

  const std::string held_out = run.coordinator_dir() + "/held_out.txt";
  const auto before = evaluate(base_model().model, held_out, "--seq 32");
  const auto after = evaluate(base_model().model, held_out, "--seq 32 --adapter '" + run.file("adapter") + "'");
  MESSAGE("held-out loss ", real_of(before, "loss"), " -> ", real_of(after, "loss"));
  CHECK(real_of(after, "loss") < real_of(before, "loss") - 0.05);
  // What the coordinator measured is what the program measures on the exported files.
  const auto first = status->get_object("first");
  const auto newest = status->get_object("newest");
  REQUIRE_OK(first);
  REQUIRE_OK(newest);
  CHECK(real_of(**first, "loss") == doctest::Approx(real_of(before, "loss")).epsilon(1e-4));
  CHECK(real_of(**newest, "loss") == doctest::Approx(real_of(after, "loss")).epsilon(1e-4));
}

TEST_CASE("with learning rate 0 the held-out loss stays what it was") {
  Deployment run({.devices = 2, .rounds = 1, .goal = 2, .learning_rate = 0});
  run.serve();
  run.enroll_all();
  run.run_all();
  REQUIRE_MESSAGE(run.wait_until_finished(60'000), run.diary());
  run.check_ledger();
  const auto status = run.ask("status");
  REQUIRE(status.has_value());
  const auto first = status->get_object("first");
  const auto newest = status->get_object("newest");
  REQUIRE_OK(first);
  REQUIRE_OK(newest);
  CHECK(real_of(**newest, "loss") == real_of(**first, "loss"));
}

TEST_CASE("six devices, drawn by sortition and dealt into three groups, publish the median of the groups' means") {
  Deployment run({.devices = 6,
                  .rounds = 2,
                  .goal = 6,
                  .min = 6,
                  .mode = "grouped",
                  .privacy_more = ", groups: 3",
                  .more = "aggregation: {rule: median}\nselection: {policy: sortition, spare: 2}\n"});
  run.serve();
  run.enroll_all();
  run.run_all();
  REQUIRE_MESSAGE(run.wait_until_finished(60'000), run.diary());
  run.check_ledger();
  const auto status = run.ask("status");
  REQUIRE(status.has_value());
  CHECK(text_of(*status, "threat_model").starts_with("grouped (curious coordinator)"));
  const auto first = status->get_object("first");
  const auto newest = status->get_object("newest");
  REQUIRE_OK(first);
  REQUIRE_OK(newest);
  CHECK(real_of(**newest, "loss") < real_of(**first, "loss"));
}

TEST_CASE("FedProx: prox_mu of coordinator.yaml reaches the devices and keeps their updates near the start") {
  const auto norm = [](const std::string& prox) {
    Deployment run({.devices = 2, .rounds = 1, .goal = 2, .local_steps = 60, .local_more = prox});
    run.serve();
    run.enroll_all();
    run.run_all();
    REQUIRE_MESSAGE(run.wait_until_finished(60'000), run.diary());
    run.check_ledger();
    const auto rounds = run.ask("rounds");
    REQUIRE(rounds.has_value());
    const auto list = rounds->get_array("rounds");
    REQUIRE_OK(list);
    return real_of((*list)->items()[0], "delta_norm");
  };
  const double without = norm("");
  const double with = norm(", prox_mu: 10");
  MESSAGE("norm of the mean delta without FedProx ", without, ", with mu = 10 ", with);
  CHECK(without > 0);
  CHECK(with > 0);
  CHECK(with < 0.5 * without);
}

TEST_CASE("a round below its minimum at the deadline is aborted, and the next one starts from the same version") {
  Deployment run({.devices = 2,
                  .rounds = 1,
                  .goal = 2,
                  .min = 2,
                  .deadline_ms = 3'000,
                  .more = "server_optimizer: {name: fedadam, lr: 0.01}\nover_selection: 1.5\n"});
  run.serve();
  run.enroll_all();
  run.run(0);
  REQUIRE_MESSAGE(eventually(30'000, [&] { return run.number("aborted") >= 1; }), run.diary());
  CHECK(run.number("version") == 0);
  CHECK(run.number("published") == 0);
  run.run(1);
  REQUIRE_MESSAGE(run.wait_until_finished(60'000), run.diary());
  run.check_ledger();
  CHECK(run.number("version") == 1);
}

TEST_CASE("a paused task starts no round, and goes on when it is resumed, also over a restart") {
  Deployment run({.devices = 2, .rounds = 2, .goal = 2, .round_pause_ms = 500});
  run.serve();
  run.enroll_all();
  REQUIRE(run.coordinator_command("pause").exit_code == 0);
  run.run_all();
  run.stop_coordinator();
  run.serve();
  CHECK_FALSE(eventually(1'500, [&] { return run.number("published") > 0; }));
  REQUIRE(run.coordinator_command("resume").exit_code == 0);
  REQUIRE_MESSAGE(run.wait_until_finished(60'000), run.diary());
  run.check_ledger();
}

// The experiment's file: defaults, relative paths, and one clear line for each thing that is wrong.
#include "simulations/experiment.h"

#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;

namespace {

const std::string kLeast = "model: base\ndevices: 2\ndata: {format: households}\n";

Result<Experiment> load(const test::TempDir& dir, const std::string& yaml) {
  tiny::write(dir.file("e.yaml"), yaml);
  return load_experiment(dir.file("e.yaml"));
}

}  // namespace

TEST_CASE("an experiment needs a model, devices and data; everything else has a default") {
  const test::TempDir dir;
  const auto made = load(dir, kLeast);
  REQUIRE_OK(made);
  CHECK(made->name == "e");
  CHECK(made->model == dir.file("base"));
  CHECK(made->devices == 2);
  CHECK(made->threads == 1);
  CHECK(made->classes.size() == 3);
  CHECK(made->dropout == 0);
  CHECK(made->data.partition == "key");
  CHECK(made->task.seed == 1);
}

TEST_CASE("the resolved file reads back to the same experiment") {
  const test::TempDir dir;
  const auto made = load(dir, kLeast + "rounds: 7\nfleet: {dropout: 0.25, away_min: 2}\nlocal: {batch: 3}\n");
  REQUIRE_OK(made);
  const auto again = load(dir, made->resolved);
  REQUIRE_OK(again);
  CHECK(again->resolved == made->resolved);
  CHECK(again->task.rounds == 7);
  CHECK(again->task.local.batch == 3);
  CHECK(again->dropout == 0.25);
  CHECK(again->away_ms == 120'000);
}

TEST_CASE("a device class of one's own is read with its units") {
  const test::TempDir dir;
  const auto made = load(dir, kLeast +
                                  "fleet:\n  classes:\n    - {name: hub, share: 1, training_gflops: 8, memory_mib: "
                                  "512, down_mbit_per_s: 8, up_mbit_per_s: 1.6, latency_ms: 15, training_watts: 6, "
                                  "radio_watts: 0.5}\n");
  REQUIRE_OK(made);
  REQUIRE(made->classes.size() == 1);
  CHECK(made->classes[0].memory_bytes == std::uint64_t{512} << 20);
  CHECK(made->classes[0].down_bytes_per_s == 1e6);
  CHECK(made->classes[0].up_bytes_per_s == 2e5);
}

TEST_CASE("every mistake is one line with file, line and what to do") {
  struct Case {
    const char* yaml;
    const char* says;
  };
  const std::string a_class =
      "name: x, training_gflops: 1, memory_mib: 1, down_mbit_per_s: 1, up_mbit_per_s: 1, latency_ms: 1, "
      "training_watts: 1, radio_watts: 1";
  const std::string no_share = kLeast + "fleet: {classes: [{share: 0, " + a_class + "}]}\n";
  const std::string missing_share = kLeast + "fleet: {classes: [{" + a_class + "}]}\n";
  const std::vector<Case> cases = {
      {"devices: 2\ndata: {format: households}\n", "model"},
      {"model: base\ndata: {format: households}\n", "devices"},
      {"model: base\ndevices: 2\n", "file"},
      {"model: base\ndevices: 0\ndata: {format: households}\n", "devices"},
      {"model: base\ndevices: many\ndata: {format: households}\n", "devices"},
      {"model: base\ndevices: 2\ndata: {format: household}\n", "format"},
      {"model: base\ndevices: 2\ndata: {format: households, partition: speaker}\n", "partition"},
      {"model: base\ndevices: 2\ndata: {format: households, held_out: 1}\n", "held_out"},
      {"model: base\ndevices: 2\ndata: {format: lines, file: a.txt, lines: 3}\n", "lines"},
      {"model: base\ndevices: 2\ndata: {format: households}\nfleet: {dropout: 1.5}\n", "dropout"},
      {"model: base\ndevices: 2\ndata: {format: households}\nfleet: {dropuot: 0.5}\n", "dropout"},
      {"model: base\ndevices: 2\ndata: {format: households}\nround: 3\n", "rounds"},
      {"model: base\ndevices: 2\ndata: {format: households}\ngoal: 3\nmin: 4\n", "min"},
      {"model: base\ndevices: 2\ndata: {format: households}\nlocal: {steps: 3, epochs: 1}\n", "epochs"},
      {"model: base\ndevices: 2\ndata: {format: households}\nprivacy: {mode: open}\n", "robust"},
      {"model: base\ndevices: 2\ndata: {format: households}\nprivacy: {groups: 4}\n", "groups"},
      {"model: base\ndevices: 2\ndata: {format: households}\nserver_optimizer: {name: fedsgd}\n", "fedavg"},
      {"model: [base\n", "e.yaml"},
      {"- model\n", "e.yaml"},
      {no_share.c_str(), "share"},
      {missing_share.c_str(), "share"},
  };
  const test::TempDir dir;
  for (const auto& [yaml, says] : cases) {
    CAPTURE(yaml);
    const auto made = load(dir, yaml);
    REQUIRE_FALSE(made.ok());
    const std::string& message = made.error().message;
    CAPTURE(message);
    CHECK(message.find('\n') == std::string::npos);
    CHECK(message.find("e.yaml:") != std::string::npos);
    CHECK(message.find(says) != std::string::npos);
  }
}

TEST_CASE("the examples of the repository are read without complaint") {
  for (const char* name : {"speakers", "households"}) {
    CAPTURE(name);
    REQUIRE_OK(load_experiment(test::source_dir() + "/examples/experiments/" + name + ".yaml"));
  }
}

// Experiments of covey-sim.
#include <filesystem>

#include "bad_input/expect.h"
#include "bad_input/fixture.h"

using namespace covey;
using namespace covey::bad_input;

namespace {

void refuse(const std::string& name, std::string_view from, std::string_view to, std::vector<std::string> fragments) {
  static int number = 0;
  const std::string file = "e" + std::to_string(number++) + ".yaml";
  write(fixture().file(file), replaced(slurp(fixture().file("experiment.yaml")), from, to));
  expect_refusal({name, "covey-sim run {}/" + file + " --out {}/sim-" + file, std::move(fragments)}, fixture().path());
}

}  // namespace

TEST_CASE("the good experiment runs, and does not run over its own results") {
  expect_success("covey-sim run {}/experiment.yaml --out {}/sim", fixture().path());
  const std::string before = slurp(fixture().file("sim/metrics.jsonl"));
  expect_refusal({"results exist", "covey-sim run {}/experiment.yaml --out {}/sim", {"sim", "already", "--out"}},
                 fixture().path());
  CHECK(slurp(fixture().file("sim/metrics.jsonl")) == before);
}

TEST_CASE("experiments that cannot run") {
  refuse("misspelt key", "devices: 3", "devcies: 3", {":3:", "devcies", "did you mean `devices`?"});
  refuse("misspelt key of local", "learning_rate", "learning_rat", {"learning_rat", "did you mean `learning_rate`?"});
  refuse("no devices", "devices: 3", "devices: 0", {"`devices`", "0"});
  refuse("no number of devices", "devices: 3\n", "", {"`devices`", "missing"});
  refuse("fewer keys than devices", "data: {file: data.txt, partition: iid, held_out: 0.2}",
         "data: {file: play.txt, format: play}", {"play.txt", "2 keys", "3 devices", "iid"});
  refuse("fewer examples than devices", "devices: 3", "devices: 1000",
         {"data.txt", "60 examples", "1000 devices", "lower"});
  refuse("no such data", "file: data.txt", "file: elsewhere.txt", {"elsewhere.txt"});
  refuse("no data file named", "file: data.txt, ", "", {"`data.file`", "add `file: ...`"});
  refuse("no such model", "model: model", "model: elsewhere", {"elsewhere"});
  refuse("unknown format", "partition: iid", "format: csv", {"format", "csv", "lines"});
  refuse("unknown partition", "partition: iid", "partition: dirichlet", {"partition", "dirichlet", "iid"});
  refuse("all held out", "held_out: 0.2", "held_out: 1.5", {"held_out", "1.5", "0.9"});
  refuse("more wanted than asked for", "min: 1", "min: 3", {"`min`", "goal", "lower it"});
  refuse("more wanted than there are", "goal: 2\nmin: 1", "goal: 50\nmin: 10", {"`min`", "`devices` (3)"});
  refuse("steps and epochs", "steps: 1,", "steps: 1, epochs: 1,", {"epochs", "steps", "exclude"});
  refuse("groups without their devices", "mode: robust", "mode: grouped", {"goal", "survivors_min", "groups"});
  refuse("a layer that the model lacks", "[q_proj]", "[k_projection]", {"k_projection"});
  refuse("a class without its figures", "seed: 7", "fleet: {classes: [{name: phone, share: 1}]}",
         {"training_gflops", "missing"});
  refuse("a class of negative share", "seed: 7",
         "fleet: {classes: [{name: phone, share: -1, training_gflops: 1, memory_mib: 100, down_mbit_per_s: 1, "
         "up_mbit_per_s: 1, latency_ms: 1, training_watts: 1, radio_watts: 1}]}",
         {"`share` above 0"});
  refuse("dropout above 1", "seed: 7", "fleet: {dropout: 2}", {"dropout", "2"});
  refuse("a deadline of no unit", "deadline_min: 10", "deadline: 10", {"deadline"});
  refuse("two deadlines", "deadline_min: 10", "deadline_min: 10\ndeadline_s: 5", {"deadline"});
  refuse("server optimizer", "min: 1", "server_optimizer: {name: fedadamw}", {"name", "fedadamw", "fedadam"});
  write(fixture().file("taken"), "a file");
  expect_refusals({{"the output is a file", "covey-sim run {}/experiment.yaml --out {}/taken", {"taken"}},
                   {"below a file", "covey-sim run {}/experiment.yaml --out {}/taken/x", {"taken/x"}},
                   {"the experiment is a folder", "covey-sim run {} --out {}/never", {"regular"}}},
                  fixture().path());
}

TEST_CASE("runs that cannot be compared") {
  const std::string run = fixture().file("compared");
  expect_success("covey-sim run {}/experiment.yaml --out {}/compared", fixture().path());
  expect_success("covey-sim compare {}/compared -o {}/side-by-side", fixture().path());
  std::filesystem::create_directories(fixture().file("cut"));
  const std::string summary = slurp(run + "/summary.json");
  write(fixture().file("cut/summary.json"), summary.substr(0, summary.size() / 2));
  write(fixture().file("cut/metrics.jsonl"), slurp(run + "/metrics.jsonl"));
  write(fixture().file("no.sqlite"), "SQLite format 3 and nothing else");
  expect_refusals(
      {{"nothing there", "covey-sim compare {}/never -o {}/side", {"never", "covey-sim run"}},
       {"a folder of something else", "covey-sim compare {}/model -o {}/side", {"model", "complete run"}},
       {"one run twice", "covey-sim compare {}/compared {}/compared -o {}/side", {"leave one of them out"}},
       {"a summary cut off", "covey-sim compare {}/cut -o {}/side", {"cut/summary.json"}},
       {"no table", "covey-sim compare {}/no.sqlite -o {}/side", {"no.sqlite"}},
       {"the output is below a file", "covey-sim compare {}/compared -o {}/data.txt/x", {"data.txt"}},
       {"two targets",
        "covey-sim compare {}/compared -o {}/s --target-accuracy 0.5 --target-perplexity 9",
        {"--target-accuracy"}},
       {"a target below 0", "covey-sim compare {}/compared -o {}/s --target-perplexity=-3", {"--target-perplexity"}}},
      fixture().path());
}

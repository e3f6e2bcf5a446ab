// covey-sim as a researcher runs it.
#include <algorithm>
#include <filesystem>

#include "core/formats/json.h"
#include "support/process.h"
#include "unit/simulations/speakers.h"

using namespace covey;
using namespace covey::simulations;

namespace {

void check_refused(const std::string& arguments, const std::string& says) {
  CAPTURE(arguments);
  const auto result = test::run_command(test::bin_dir() + "/covey-sim " + arguments);
  CHECK(result.exit_code == 2);
  CHECK(result.err.find(says) != std::string::npos);
  CHECK(result.err.starts_with("covey-sim: "));
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(result.out.empty());
}

}  // namespace

TEST_CASE("the program writes the same metrics twice, and with 1 and 2 threads") {
  const test::TempDir out;
  tiny::Choices choices;
  choices.dropout = 0.2;
  const std::string experiment = tiny::World::shared().experiment(choices);
  const std::string first = metrics_of_run(experiment, out.file("a"), "--threads 1");
  CHECK(std::count(first.begin(), first.end(), '\n') >= 3);
  CHECK(metrics_of_run(experiment, out.file("b"), "--threads 1") == first);
  CHECK(metrics_of_run(experiment, out.file("c"), "--threads 2") == first);
  CHECK(metrics_of_run(experiment, out.file("d"), "--seed 9") != first);
}

TEST_CASE("a run leaves its configuration, metrics, summary, report and adapter") {
  const test::TempDir out;
  const std::string experiment = tiny::World::shared().experiment({});
  const auto result =
      test::run_command(test::bin_dir() + "/covey-sim run " + experiment + " --json --seed 4 --out " + out.file("run"));
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  for (const char* file : {"config.yaml", "metrics.jsonl", "summary.json", "report.html", "adapter/adapter_config.json",
                           "adapter/adapter_model.safetensors"}) {
    CAPTURE(file);
    CHECK(std::filesystem::file_size(out.file("run") + "/" + file) > 0);
  }
  const auto printed = formats::Json::parse(result.out);
  REQUIRE_OK(printed);
  CHECK(*printed->get_uint("seed") == 4);
  CHECK(printed->find("measured")->contains("wall_s"));
  CHECK(read_text_file(out.file("run/config.yaml"))->find("--seed 4") != std::string::npos);
  check_refused("run " + experiment + " --out " + out.file("run"), "already holds a run");
}

TEST_CASE("a run that is killed again and again is resumed to the same bytes") {
  const test::TempDir out;
  tiny::Choices choices;
  choices.dropout = 0.2;
  choices.rounds = 12;
  const std::string experiment = tiny::World::shared().experiment(choices);
  const std::string whole = metrics_of_run(experiment, out.file("whole"), "--threads 2");
  const std::string killed = out.file("killed");
  int kills = 0;
  const auto start = [&](const std::string& more) {
    return test::Process({"covey-sim", "run", experiment, "--out", killed, "--threads", "2", more}, out.file("log"));
  };
  // Each life ends a few records further than the last one began: in the first round, in later ones, at the end.
  for (std::uintmax_t bytes = 40; kills < 6; bytes += 6000) {
    test::Process life = start("--resume");
    const std::string journal = killed + "/journal.bin";
    std::error_code missing;
    const bool far = test::eventually(20'000, [&] {
      const auto size = std::filesystem::file_size(journal, missing);
      return (!missing && size >= bytes) || !life.running();
    });
    REQUIRE_MESSAGE(far, life.output());
    life.kill_now();
    ++kills;
  }
  REQUIRE(std::filesystem::exists(killed + "/config.yaml"));
  if (std::filesystem::exists(killed + "/journal.bin")) {
    check_refused("run " + experiment + " --out " + killed, "--resume");
    check_refused("run " + experiment + " --seed 7 --resume --out " + killed, "another experiment");
  }
  test::Process last = start("--resume");
  REQUIRE_MESSAGE(last.wait(60'000) == 0, last.output());
  for (const char* file : {"metrics.jsonl", "metrics.csv", "adapter/adapter_model.safetensors"}) {
    CAPTURE(file);
    CHECK(*read_text_file(killed + "/" + file) == *read_text_file(out.file("whole") + "/" + file));
  }
  CHECK(*read_text_file(killed + "/metrics.jsonl") == whole);
  CHECK(!std::filesystem::exists(killed + "/journal.bin"));
  // Complete: nothing is run again, and another seed is told so.
  const std::string summary = *read_text_file(killed + "/summary.json");
  test::Process again = start("--resume");
  REQUIRE_MESSAGE(again.wait(20'000) == 0, again.output());
  CHECK(*read_text_file(killed + "/summary.json") == summary);
  check_refused("run " + experiment + " --seed 7 --resume --out " + killed, "complete run of another");
}

namespace {

/// False, with a word about it, where OpenMPI is not installed or the program was built without it.
bool mpi_is_here() {
  if (test::run_command("mpirun --version").exit_code == 0 &&
      test::run_command("ldd " + test::bin_dir() + "/covey-sim").out.find("libmpi") != std::string::npos) {
    return true;
  }
  MESSAGE("SKIPPED: no mpirun, or covey-sim was built without MPI; tests/install.sh --tests installs OpenMPI");
  return false;
}

std::string mpirun(int ranks, const std::string& arguments) {
  return "env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --oversubscribe --bind-to none -n " +
         std::to_string(ranks) + " " + test::bin_dir() + "/covey-sim " + arguments;
}

}  // namespace

TEST_CASE("1, 2 and 4 ranks write the same bytes") {
  if (!mpi_is_here()) return;
  const test::TempDir out;
  tiny::Choices choices;
  choices.dropout = 0.2;
  const std::string experiment = tiny::World::shared().experiment(choices);
  const std::string alone = metrics_of_run(experiment, out.file("alone"), "--threads 1");
  for (const int ranks : {1, 2, 4}) {
    CAPTURE(ranks);
    const std::string folder = out.file("ranks" + std::to_string(ranks));
    const auto result = test::run_command(mpirun(ranks, "run " + experiment + " --threads 1 --out " + folder));
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    CHECK(*read_text_file(folder + "/metrics.jsonl") == alone);
    CHECK(*read_text_file(folder + "/adapter/adapter_model.safetensors") ==
          *read_text_file(out.file("alone") + "/adapter/adapter_model.safetensors"));
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      CHECK(entry.path().filename().string().find("journal") == std::string::npos);
    }
    CHECK(std::count(result.out.begin(), result.out.end(), '\n') < 15);  // one table, whatever the ranks
  }
}

TEST_CASE("a lost rank ends the run, and what it left resumes to the same bytes on fewer ranks") {
  if (!mpi_is_here()) return;
  const test::TempDir out;
  tiny::Choices choices;
  choices.rounds = 40;
  const std::string experiment = tiny::World::shared().experiment(choices);
  const std::string alone = metrics_of_run(experiment, out.file("alone"), "--threads 1");
  const std::string folder = out.file("run");
  const std::string journal = folder + "/journal.bin.1";
  // The helping rank is killed as soon as it has trained something.
  const auto lost = test::run_command(
      mpirun(2, "run " + experiment + " --threads 1 --out " + folder) +
      " & starter=$!; for i in $(seq 2000); do [ -f " + journal + " ] && [ $(stat -c %s " + journal +
      ") -gt 2000 ] && break; sleep 0.005; done; for child in $(pgrep -f -- '--out " + folder +
      "$'); do tr '\\0' '\\n' < /proc/$child/environ | grep -qx OMPI_COMM_WORLD_RANK=1 && kill -9 $child; done; "
      "wait $starter");
  CHECK(lost.exit_code != 0);
  REQUIRE(!std::filesystem::exists(folder + "/summary.json"));
  REQUIRE(std::filesystem::exists(folder + "/journal.bin"));
  const auto resumed =
      test::run_command(test::bin_dir() + "/covey-sim run " + experiment + " --threads 1 --resume --out " + folder);
  REQUIRE_MESSAGE(resumed.exit_code == 0, resumed.err);
  CHECK(*read_text_file(folder + "/metrics.jsonl") == alone);
  CHECK(!std::filesystem::exists(journal));
}

TEST_CASE("a sweep fills a table that SQL reads, and the same command again runs nothing twice") {
  const test::TempDir out;
  tiny::Choices choices;
  choices.rounds = 2;
  const std::string experiment = tiny::World::shared().experiment(choices);
  tiny::write(out.file("sweep.yaml"), "experiment: " + experiment +
                                          "\nseeds: [1, 2]\nvariants:\n  - {name: plain}\n  - {name: prox, set: "
                                          "[local.prox_mu=0.5]}\n");
  const std::string command =
      test::bin_dir() + "/covey-sim sweep " + out.file("sweep.yaml") + " --out " + out.file("sweep");
  const auto first = test::run_command(command);
  REQUIRE_MESSAGE(first.exit_code == 0, first.err);
  CHECK(first.out.find("4 runs, 0 failed") != std::string::npos);
  const std::string summary = *read_text_file(out.file("sweep/runs/0001-plain-s1/summary.json"));
  const auto again = test::run_command(command);
  CHECK(again.exit_code == 0);
  CHECK(again.out == first.out);
  CHECK(*read_text_file(out.file("sweep/runs/0001-plain-s1/summary.json")) == summary);
  // The command in a run's summary repeats it.
  const auto kept = formats::Json::parse(summary);
  REQUIRE_OK(kept);
  std::string repeat = *kept->get_string("command");
  repeat.replace(repeat.find(" --out "), std::string::npos, " --out " + out.file("again"));
  const auto repeated = test::run_command(test::bin_dir() + "/" + repeat);
  REQUIRE_MESSAGE(repeated.exit_code == 0, repeated.err);
  CHECK(*read_text_file(out.file("again/metrics.jsonl")) ==
        *read_text_file(out.file("sweep/runs/0001-plain-s1/metrics.jsonl")));
  CHECK(std::filesystem::file_size(out.file("sweep/results.sqlite")) > 4096);
}

TEST_CASE("partition shows who would have what, on the terminal, as JSON and as a picture") {
  const test::TempDir dir;
  std::string lines;
  for (int i = 0; i < 300; ++i) {
    lines += R"({"text": "row )" + std::to_string(i) + R"(", "label": "<b>)" + std::to_string(i % 3) + "\"}\n";
  }
  tiny::write(dir.file("lines.jsonl"), lines);
  tiny::write(dir.file("e.yaml"), "model: base\ndevices: 6\ndata: {file: lines.jsonl, partition: label, alpha: 0.1}\n");
  const std::string command = test::bin_dir() + "/covey-sim partition " + dir.file("e.yaml");
  const auto shown = test::run_command(command + " --out " + dir.file("plot.html"));
  REQUIRE_MESSAGE(shown.exit_code == 0, shown.err);
  CHECK(shown.out.find("300 examples on 6 devices") != std::string::npos);
  const auto page = read_text_file(dir.file("plot.html"));
  REQUIRE_OK(page);
  CHECK(page->find("<svg") != std::string::npos);
  CHECK(page->find("<b>") == std::string::npos);  // labels are data, not markup
  const auto json = formats::Json::parse(test::run_command(command + " --json").out);
  REQUIRE_OK(json);
  CHECK(*json->get_uint("examples") == 300);
  CHECK(*json->get_uint("labels") == 3);
  CHECK(*json->get_double("labels_in_effect") < 2.5);
  // Under drift each phase has a picture of its own.
  tiny::write(
      dir.file("d.yaml"),
      "model: base\ndevices: 6\ndata: {file: lines.jsonl, partition: drift, alpha: 0.1, phases: 3, phase_h: 1}\n");
  const std::string drift = test::bin_dir() + "/covey-sim partition " + dir.file("d.yaml");
  const auto phases = test::run_command(drift + " --out " + dir.file("drift.html"));
  REQUIRE_MESSAGE(phases.exit_code == 0, phases.err);
  CHECK(phases.out.find("phase 3 of 3") != std::string::npos);
  CHECK(read_text_file(dir.file("drift.html"))->find("Phase 3 of 3") != std::string::npos);
  const auto listed = formats::Json::parse(test::run_command(drift + " --json").out);
  REQUIRE_OK(listed);
  CHECK(listed->find("phases")->size() == 3);
  check_refused("partition " + dir.file("none.yaml"), "none.yaml");
}

TEST_CASE("mistakes are one line and exit 2") {
  const test::TempDir dir;
  tiny::write(dir.file("bad.yaml"), "model: base\ndevices: 2\nrouns: 3\ndata: {format: households}\n");
  tiny::write(dir.file("no_model.yaml"), "model: nowhere\ndevices: 2\ndata: {format: households}\n");
  const std::string out = " --out " + dir.file("out");
  check_refused("run " + dir.file("bad.yaml") + out, "rounds");
  check_refused("run " + dir.file("no_model.yaml") + out, "nowhere");
  check_refused("run " + dir.file("missing.yaml") + out, "missing.yaml");
  check_refused("run " + dir.file("bad.yaml"), "--out");
  check_refused("run " + dir.file("bad.yaml") + out + " --threads 0", "threads");
  check_refused("walk", "--help");
}

TEST_CASE("200 speakers on a trained Llama: two rounds, byte-identical with 1 and 2 threads, and the loss falls") {
  const test::TempDir dir;
  const auto experiment = speakers_experiment(dir, 2);
  if (!experiment) return;
  const std::string first = metrics_of_run(*experiment, dir.file("a"), "--threads 1");
  CHECK(metrics_of_run(*experiment, dir.file("b"), "--threads 2") == first);
  const auto summary = formats::Json::load(dir.file("a/summary.json"));
  REQUIRE_OK(summary);
  CHECK(*summary->get_uint("rounds_published") == 2);
  CHECK(*summary->find("final")->get_double("loss") < *summary->find("base")->get_double("loss"));
}

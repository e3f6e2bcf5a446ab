// `covey-model train` as a long run meets the world: killed, stopped, resumed, ended early; every method by its name.
#include <csignal>
#include <filesystem>
#include <string>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "support/process.h"
#include "support/support.h"

using namespace covey;

namespace {

namespace fs = std::filesystem;

void write(const std::string& path, std::string_view text) {
  REQUIRE_OK(write_file_durably(path, text));
}

std::string text_of(const std::string& path) {
  const auto text = read_text_file(path);
  REQUIRE_OK(text);
  return *text;
}

formats::Json json_of(const test::CommandResult& result) {
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  auto json = formats::Json::parse(result.out);
  REQUIRE_OK(json);
  return *json;
}

/// stories260K, a few lines to learn and a few to be tested on.
struct World {
  test::TempDir dir;
  std::string model;
  explicit World(std::string path) : model(std::move(path)) {
    std::string train;
    std::string held_out;
    for (int i = 0; i < 24; ++i) {
      const std::string line = "The cat number " + std::to_string(i) + " likes milk and sleeps on the mat.\n";
      (i % 4 == 3 ? held_out : train) += line;
    }
    write(dir.file("train.txt"), train);
    write(dir.file("held.txt"), held_out);
  }
  [[nodiscard]] std::string arguments(const std::string& config, const std::string& out) const {
    return "train " + model + " --json --threads 1 --data " + dir.file("train.txt") + " --config " + dir.file(config) +
           " --out " + dir.file(out);
  }
  [[nodiscard]] test::CommandResult run(const std::string& config, const std::string& out,
                                        const std::string& more = "") const {
    return test::run_command(test::bin_dir() + "/covey-model " + arguments(config, out) + more);
  }
  [[nodiscard]] test::Process start(const std::string& config, const std::string& out, bool resume) const {
    std::vector<std::string> argv = {
        "covey-model", "train",          model,   "--threads",  "1", "--data", dir.file("train.txt"),
        "--config",    dir.file(config), "--out", dir.file(out)};
    if (resume) argv.emplace_back("--resume");
    return {argv, dir.file(out + ".log")};
  }
  [[nodiscard]] std::size_t lines(const std::string& out) const {
    const auto text = read_text_file(dir.file(out + "/metrics.jsonl"));
    if (!text.ok()) return 0;
    return static_cast<std::size_t>(std::count(text->begin(), text->end(), '\n'));
  }
};

std::optional<World> world() {
  const auto path = test::data_path("stories260K/stories260K.bin");
  if (!path) return std::nullopt;
  return std::optional<World>(std::in_place, *path);
}

}  // namespace

TEST_CASE("a training that was killed three times and resumed ends with the bytes of one that was not") {
  auto with = world();
  if (!with) return;
  for (const std::string method : {"backprop", "zeroth-order"}) {
    const std::string config = method + ".yaml";
    write(with->dir.file(config), "method: " + method +
                                      "\nsteps: 160\nbatch: 3\nlr: 0.002\nseed: 5\nheld_out: held.txt\n"
                                      "evaluate_every: 20\npatience: 8\ncheckpoint_every: 7\nschedule: cosine\n"
                                      "optimizer: adamw8bit\nlora: {rank: 2}\n");
    const std::string straight = method + "-straight";
    const std::string killed = method + "-killed";
    json_of(with->run(config, straight));
    int kills = 0;
    for (const std::size_t after : {std::size_t{20}, std::size_t{60}, std::size_t{110}}) {
      auto process = with->start(config, killed, kills > 0);
      REQUIRE(test::eventually(60'000, [&] { return with->lines(killed) >= after || !process.running(); }));
      if (!process.running()) break;
      process.kill_now();
      ++kills;
      CHECK_FALSE(fs::exists(with->dir.file(killed + "/adapter_model.safetensors")));
    }
    CHECK(kills > 0);
    const auto refused = with->run(config, killed);
    CHECK(refused.exit_code == 2);
    CHECK(refused.err.find("--resume") != std::string::npos);
    json_of(with->run(config, killed, " --resume"));
    for (const std::string file : {"/adapter_model.safetensors", "/metrics.jsonl", "/training.yaml"}) {
      CHECK(text_of(with->dir.file(killed + file)) == text_of(with->dir.file(straight + file)));
    }
  }
}

TEST_CASE("a training that is asked to stop keeps its place, says how to go on, and goes on") {
  auto with = world();
  if (!with) return;
  write(with->dir.file("t.yaml"), "steps: 3000\nbatch: 3\nlora: {rank: 2}\n");
  auto process = with->start("t.yaml", "o", false);
  REQUIRE(test::eventually(60'000, [&] { return with->lines("o") >= 5; }));
  process.signal(SIGTERM);
  const auto status = process.wait(60'000);
  REQUIRE(status.has_value());
  CHECK(*status == 1);
  CHECK(process.output().find("go on with --resume") != std::string::npos);
  CHECK(process.output().find('\r') == std::string::npos);  // no progress line where nobody watches
  const std::size_t before = with->lines("o");
  auto again = with->start("t.yaml", "o", true);
  REQUIRE(test::eventually(60'000, [&] { return with->lines("o") > before + 5; }));
  again.kill_now();

  write(with->dir.file("other.yaml"), "steps: 3000\nbatch: 3\nlr: 0.5\nlora: {rank: 2}\n");
  const auto other = with->run("other.yaml", "o", " --resume");
  CHECK(other.exit_code == 2);
  CHECK(other.err.find("another adapter, data or configuration") != std::string::npos);
}

TEST_CASE("training ends early when held-out text stops getting better, with the best adapter, and its log says so") {
  auto with = world();
  if (!with) return;
  // A rate that soon destroys what it learnt.
  write(with->dir.file("t.yaml"),
        "steps: 500\nbatch: 6\nlr: 0.5\nclip_norm: 0\noptimizer: sgd\nmomentum: 0.9\nheld_out: held.txt\n"
        "evaluate_every: 2\npatience: 3\nlora: {rank: 2}\n");
  const auto summary = json_of(with->run("t.yaml", "o"));
  CHECK(*summary.get_bool("stopped_early"));
  const auto best = *summary.get_int("best_step");
  CHECK(*summary.get_int("steps") == best + 6);
  const std::string log = text_of(with->dir.file("o/metrics.jsonl"));
  CHECK(log.find("\"held_out_loss\"") != std::string::npos);
  // The adapter on disk is the best one: evaluated by itself it has that loss.
  const auto evaluated =
      json_of(test::run_command(test::bin_dir() + "/covey-model eval " + with->model + " --json --data " +
                                with->dir.file("held.txt") + " --adapter " + with->dir.file("o")));
  CHECK(*evaluated.get_double("loss") == doctest::Approx(*summary.get_double("held_out_loss")).epsilon(1e-5));

  // Complete: --resume trains nothing more, and without it a new run begins.
  CHECK(*json_of(with->run("t.yaml", "o", " --resume")).get_int("steps") == best + 6);
  CHECK(text_of(with->dir.file("o/metrics.jsonl")) == log);
  json_of(with->run("t.yaml", "o"));
  CHECK(text_of(with->dir.file("o/metrics.jsonl")) == log);
}

TEST_CASE("every method and optimizer is chosen by its name, and what does not belong together is refused") {
  auto with = world();
  if (!with) return;
  const auto trained = [&](const std::string& keys) {
    write(with->dir.file("t.yaml"), "steps: 3\nbatch: 4\nlora: {rank: 2}\n" + keys);
    const auto summary = json_of(with->run("t.yaml", "o"));
    CHECK(*summary.get_int("steps") == 3);
    return text_of(with->dir.file("o/metrics.jsonl"));
  };
  CHECK(trained("method: backprop\noptimizer: adamw8bit\nmicro_batch: 2\n").find("directions") == std::string::npos);
  CHECK(trained("method: forward-gradient\n").find("\"directions\":8") != std::string::npos);
  CHECK(trained("method: forward-gradient\nderivative: central\ndirections: 2\nvariance_max: 1e-9\ndirections_max: 6\n")
            .find("\"directions\":6") != std::string::npos);
  CHECK(trained("method: zeroth-order\nepsilon: 0.01\noptimizer: sgd\n").find("\"directions\":1") != std::string::npos);
  const auto refused = [&](const std::string& keys) {
    write(with->dir.file("bad.yaml"), "steps: 3\n" + keys);
    const auto result = with->run("bad.yaml", "p");
    CHECK(result.exit_code == 2);
    CHECK(result.err.find("bad.yaml") != std::string::npos);
    return result.err;
  };
  CHECK(refused("method: zeroth_order\n").find("zeroth-order") != std::string::npos);
  CHECK(refused("directions: 4\n").find("backprop has none") != std::string::npos);
  CHECK(refused("patience: 3\n").find("evaluate_every") != std::string::npos);
  CHECK(refused("evaluate_every: 3\n").find("held_out") != std::string::npos);
  CHECK(refused("direction: 3\n").find("did you mean `directions`") != std::string::npos);
  CHECK(refused("micro_batch: 9\n").find("micro_batch") != std::string::npos);
}

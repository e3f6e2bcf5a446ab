// The journal of a run: what it gives back, what a torn or foreign file does, and that a resumed world trains nothing
// twice.
#include "simulations/journal.h"

#include <filesystem>

#include "simulations/progress.h"
#include "simulations/report.h"
#include "simulations/world.h"
#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;

namespace {

crypto::Hash256 run_named(std::uint8_t first) {
  crypto::Hash256 out;
  out.bytes[0] = first;
  return out;
}

client::TrainingOutcome outcome_of(float value) {
  client::TrainingOutcome out;
  out.delta = {value, -value, 0.5F};
  out.weight = 7;
  out.report.steps = 3;
  out.report.tokens = 99;
  out.report.loss_first = 2.5;
  out.report.loss_last = 1.25;
  return out;
}

/// How often it was asked.
struct Counted {
  int calls = 0;
  Result<client::TrainingOutcome> operator()() {
    ++calls;
    return outcome_of(static_cast<float>(calls));
  }
};

}  // namespace

TEST_CASE("what a journal has seen it gives back, in this life and in the next") {
  const test::TempDir dir;
  Counted train;
  for (int life = 0; life < 2; ++life) {
    auto journal = Journal::open(dir.file("j"), run_named(1));
    REQUIRE_OK(journal);
    CHECK((*journal)->resumed() == (life == 0 ? 0 : 2));
    const auto got = (*journal)->training(RoundId{4}, 2, std::ref(train));
    REQUIRE_OK(got);
    CHECK(got->delta == outcome_of(1).delta);
    CHECK(got->weight == 7);
    CHECK(got->report.tokens == 99);
    CHECK(got->report.loss_last == 1.25);
    const auto measured = (*journal)->evaluation(ModelVersion{3}, [&]() -> Result<train::Evaluation> {
      CHECK(life == 0);
      return train::Evaluation{.loss = 1.5, .perplexity = 4.5, .accuracy = 0.25, .tokens = 10, .examples = 2};
    });
    REQUIRE_OK(measured);
    CHECK(measured->loss == 1.5);
    CHECK(measured->tokens == 10);
  }
  CHECK(train.calls == 1);
}

TEST_CASE("a failure is told and not kept") {
  const test::TempDir dir;
  auto journal = Journal::open(dir.file("j"), run_named(1));
  REQUIRE_OK(journal);
  const auto failed = (*journal)->training(RoundId{1}, 0, []() -> Result<client::TrainingOutcome> {
    return Error{ErrorCode::not_found, "no rows"};
  });
  CHECK(failed.error().code == ErrorCode::not_found);
  Counted train;
  REQUIRE_OK((*journal)->training(RoundId{1}, 0, std::ref(train)));
  CHECK(train.calls == 1);
}

TEST_CASE("a journal cut or changed at any byte keeps the records before it and goes on") {
  const test::TempDir dir;
  Counted train;
  {
    auto journal = Journal::open(dir.file("whole"), run_named(1));
    REQUIRE_OK(journal);
    for (std::uint64_t device = 0; device < 3; ++device) {
      REQUIRE_OK((*journal)->training(RoundId{1}, device, std::ref(train)));
    }
  }
  const std::string whole = *read_text_file(dir.file("whole"));
  const std::size_t head = 40;
  const std::size_t record = (whole.size() - head) / 3;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    CAPTURE(at);
    for (const bool cut : {true, false}) {
      std::string damaged = whole;
      if (cut) {
        damaged.resize(at);
      } else {
        damaged[at] = static_cast<char>(damaged[at] ^ 0x20);
      }
      tiny::write(dir.file("damaged"), damaged);
      auto journal = Journal::open(dir.file("damaged"), run_named(1));
      if (at < head && !cut) {
        CHECK(journal.error().code == ErrorCode::invalid_argument);
        continue;
      }
      REQUIRE_OK(journal);
      CHECK((*journal)->resumed() == (at < head ? 0 : (at - head) / record));
      Counted again;
      REQUIRE_OK((*journal)->training(RoundId{1}, 2, std::ref(again)));
      CHECK(again.calls == 1);
      journal = Journal::open(dir.file("damaged"), run_named(1));
      REQUIRE_OK(journal);
      CHECK((*journal)->resumed() == (at < head ? 0 : (at - head) / record) + 1);
    }
  }
}

TEST_CASE("a journal of another run is refused by name") {
  const test::TempDir dir;
  REQUIRE_OK(Journal::open(dir.file("j"), run_named(1)));
  const auto other = Journal::open(dir.file("j"), run_named(2));
  CHECK(other.error().code == ErrorCode::invalid_argument);
  CHECK(other.error().message.find("another experiment") != std::string::npos);
}

TEST_CASE("a run's name changes with the seed and the file, not with threads on the command line") {
  auto experiment = load_experiment(tiny::World::shared().experiment({}));
  REQUIRE_OK(experiment);
  const auto name = run_identity(*experiment);
  REQUIRE_OK(name);
  experiment->threads = 5;
  CHECK(*run_identity(*experiment) == *name);
  experiment->task.seed = 77;
  CHECK(*run_identity(*experiment) != *name);
  tiny::Choices choices;
  choices.learning_rate = 0.02;
  const auto other = load_experiment(tiny::World::shared().experiment(choices));
  REQUIRE_OK(other);
  CHECK(*run_identity(*other) != *name);
}

TEST_CASE("a run's name changes with what the fleet's files hold") {
  auto& world = tiny::World::shared();
  const std::string plain = *read_text_file(world.experiment({}));
  const std::string path = world.file("with_files.yaml");
  const auto name_with = [&](const std::string& up, const std::string& score) {
    tiny::write(world.file("link.up"), up);
    tiny::write(world.file("link.down"), "1\n2\n");
    tiny::write(world.file("scores.json"), R"([{"Model": "a", "RAM": "4GB", "CPU_F_AI_Score": ")" + score +
                                               R"("}, {"Model": "b", "RAM": "8GB", "CPU_F_AI_Score": "20"}])");
    const std::string fleet = "fleet: {scores: scores.json, score_classes: 2, traces: [link], ";
    std::string text = plain;
    text.replace(text.find("fleet: {"), 8, fleet);
    tiny::write(path, text);
    const auto experiment = load_experiment(path);
    REQUIRE_OK(experiment);
    const auto name = run_identity(*experiment);
    REQUIRE_OK(name);
    return *name;
  };
  const auto first = name_with("1\n3\n", "10");
  CHECK(name_with("1\n3\n", "10") == first);
  CHECK(name_with("1\n4\n", "10") != first);
  CHECK(name_with("1\n3\n", "11") != first);
}

TEST_CASE("a world that goes on from a part of its journal, in any mode, ends as the one that was never stopped") {
  for (const char* privacy : {"mode: robust", "mode: secure, survivors_min: 2"}) {
    CAPTURE(privacy);
    const test::TempDir dir;
    tiny::Choices choices;
    choices.privacy = privacy;
    choices.dropout = 0.2;
    const auto experiment = load_experiment(tiny::World::shared().experiment(choices));
    REQUIRE_OK(experiment);
    const auto run = [&](const std::string& file) {
      auto journal = Journal::open(dir.file(file), run_named(1));
      REQUIRE_OK(journal);
      WorldObserver observer;
      observer.journal = journal->get();
      auto result = run_world(*experiment, observer);
      REQUIRE_OK(result);
      return *std::move(result);
    };
    const auto bare = run_world(*experiment);
    REQUIRE_OK(bare);
    const auto whole = run("j");
    CHECK(whole.rounds == bare->rounds);
    CHECK(whole.adapter == bare->adapter);
    const std::string journal = *read_text_file(dir.file("j"));
    for (const double part : {0.2, 0.7}) {
      tiny::write(dir.file("part"),
                  journal.substr(0, static_cast<std::size_t>(part * static_cast<double>(journal.size()))));
      const auto resumed = run("part");
      CHECK(resumed.rounds == bare->rounds);
      CHECK(resumed.adapter == bare->adapter);
      std::filesystem::remove(dir.file("part"));
    }
  }
}

TEST_CASE("the time that is left follows from the newest rounds, so repeated ones are soon forgotten") {
  Eta eta(20);
  CHECK(!eta.left_s());
  for (std::uint64_t round = 1; round <= 5; ++round) eta.update(round, 0.01 * static_cast<double>(round));  // resumed
  for (std::uint64_t round = 6; round <= 12; ++round) eta.update(round, 10.0 * static_cast<double>(round));
  REQUIRE(eta.left_s());
  CHECK(*eta.left_s() == doctest::Approx(80));
  eta.update(12, 500);  // an aborted round publishes nothing
  CHECK(*eta.left_s() == doctest::Approx(80));
  CHECK(duration_words(12.4) == "12 s");
  CHECK(duration_words(200) == "3 min 20 s");
  CHECK(duration_words(3840) == "1 h 04 min");
}

TEST_CASE("metrics as CSV: a header, one line a round, words quoted, missing values empty") {
  const std::vector<formats::Json> rounds = {
      formats::Json::object({{"round", 1}, {"reason", "so, \"late\""}, {"loss", 2.5}}),
      formats::Json::object({{"round", 2}, {"reason", ""}, {"loss", nullptr}})};
  CHECK(metrics_csv(rounds) == "round,reason,loss\n1,\"so, \"\"late\"\"\",2.5\n2,\"\",\n");
  CHECK(metrics_csv({}).empty());
}

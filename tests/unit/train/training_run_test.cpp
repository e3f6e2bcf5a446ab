#include "core/train/training_run.h"

#include <cmath>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "unit/train/tiny.h"

using namespace covey;
using namespace covey::train;
using namespace covey::train::tiny;

namespace {

/// Writes down what it is told, and asks to stop after so many steps.
struct Recorder final : RunObserver {
  std::string log;
  std::int64_t stop_after = -1;
  Status on_step(const StepReport& report) override {
    log += "s" + std::to_string(report.step) + ":" + std::to_string(report.loss) + "\n";
    if (stop_after > 0) --stop_after;
    return {};
  }
  Status on_evaluation(std::int64_t step, const Evaluation& evaluation, bool best) override {
    log += "e" + std::to_string(step) + ":" + std::to_string(evaluation.loss) + (best ? "*\n" : "\n");
    return {};
  }
  Result<std::uint64_t> make_durable() override { return static_cast<std::uint64_t>(log.size()); }
  bool stop_wanted() override { return stop_after == 0; }
};

/// Losses that a test makes up, one for each evaluation.
EvaluateValues scripted(std::vector<double> losses) {
  return [losses = std::move(losses), at = std::size_t{0}](std::span<const float>) mutable -> Result<Evaluation> {
    const double loss = losses.at(std::min(at++, losses.size() - 1));
    return Evaluation{.loss = loss, .perplexity = std::exp(loss), .accuracy = 0.5, .tokens = 10, .examples = 1};
  };
}

struct World {
  Setup setup = lora_setup();
  std::vector<TokenRow> rows = counting_rows(20);
  ThreadPool pool{1};
  std::unique_ptr<LocalTrainer> trainer(std::int64_t steps) {
    auto made = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config_of(steps), pool, kClock);
    REQUIRE_OK(made);
    return *std::move(made);
  }
  EvaluateValues evaluate() {
    return [this](std::span<const float> values) {
      return train::evaluate(*setup.model, setup.spec, flat_view(setup.spec, setup.model->linear_sites(), 16, values),
                             rows, {.batch = 5, .seq = 16}, pool);
    };
  }
};

std::vector<float> copy_of(std::span<const float> values) {
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("a run that was stopped at any step and resumed ends with the bits and the log of one that was not") {
  World world;
  test::TempDir dir;
  RunOptions options{.evaluate_every = 4, .patience = 3, .checkpoint = dir.file("straight")};
  auto whole = world.trainer(14);
  TrainingRun straight(*whole, options, kClock);
  Recorder told;
  REQUIRE_OK(straight.run(world.evaluate(), told));
  CHECK(straight.complete());

  options.checkpoint = dir.file("stopped");
  std::string log;
  std::vector<float> values;
  int runs = 0;
  for (bool ended = false; !ended; ++runs) {
    REQUIRE(runs < 20);
    auto trainer = world.trainer(14);
    TrainingRun run(*trainer, options, kClock);
    const auto resumed = run.resume();
    REQUIRE_OK(resumed);
    CHECK(*resumed == (runs > 0));
    Recorder recorder;
    recorder.log = log.substr(0, run.logged_bytes());
    recorder.stop_after = runs == 0 ? 0 : 3;  // the first time before any step
    const Status status = run.run(world.evaluate(), recorder);
    log = recorder.log;
    ended = status.ok();
    if (!ended) CHECK(status.error().code == ErrorCode::cancelled);
    values = copy_of(run.best_values());
    if (ended) CHECK(run.best_step() == straight.best_step());
  }
  CHECK(runs == 6);
  CHECK(values == copy_of(straight.best_values()));
  CHECK(log == told.log);

  // Resumed once more, a complete run does nothing and still knows its values.
  auto again = world.trainer(14);
  TrainingRun complete(*again, options, kClock);
  REQUIRE_OK(complete.resume());
  CHECK(complete.complete());
  CHECK(*checkpoint_is_complete(options.checkpoint));
  Recorder silent;
  REQUIRE_OK(complete.run(world.evaluate(), silent));
  CHECK(silent.log.empty());
  CHECK(copy_of(complete.best_values()) == values);
}

TEST_CASE("early stopping keeps the values of the best evaluation, and counts evaluations without improvement") {
  World world;
  auto trainer = world.trainer(40);
  TrainingRun run(*trainer, {.evaluate_every = 2, .patience = 2, .min_improvement = 0.1}, kClock);
  Recorder recorder;
  // Step 0, 2, 4, 6 (not by 0.1), 8 (better), 10, 12: two in a row without.
  REQUIRE_OK(run.run(scripted({5, 4, 3, 2.95, 2, 2, 1.95, 0.1}), recorder));
  CHECK(run.stopped_early());
  CHECK(trainer->steps_done() == 12);
  CHECK(run.best_step() == 8);
  CHECK(run.best().loss == 2);

  auto until_8 = world.trainer(40);
  for (int i = 0; i < 8; ++i) REQUIRE_OK(until_8->step());
  CHECK(copy_of(run.best_values()) == copy_of(until_8->values()));
}

TEST_CASE("without held-out data the last values are the result, and the last step is evaluated where there is some") {
  World world;
  auto trainer = world.trainer(5);
  TrainingRun run(*trainer, {}, kClock);
  Recorder recorder;
  REQUIRE_OK(run.run(nullptr, recorder));
  CHECK(run.best().tokens == 0);
  CHECK(run.best_step() == 5);
  CHECK(copy_of(run.best_values()) == copy_of(trainer->values()));

  auto other = world.trainer(5);
  TrainingRun tested(*other, {.evaluate_every = 3}, kClock);
  Recorder told;
  REQUIRE_OK(tested.run(scripted({5, 4, 3}), told));
  CHECK(told.log.find("e5:3.0") != std::string::npos);
}

TEST_CASE("a checkpoint that is damaged or of another run is refused by name, and the run is as it was") {
  World world;
  test::TempDir dir;
  const RunOptions options{.evaluate_every = 2, .checkpoint = dir.file("c"), .checkpoint_every = 2};
  auto trainer = world.trainer(6);
  TrainingRun run(*trainer, options, kClock);
  Recorder recorder;
  recorder.stop_after = 4;
  CHECK(run.run(world.evaluate(), recorder).error().code == ErrorCode::cancelled);
  CHECK_FALSE(*checkpoint_is_complete(options.checkpoint));
  const auto saved = read_file(options.checkpoint);
  REQUIRE_OK(saved);

  auto fresh = world.trainer(6);
  const auto start = copy_of(fresh->values());
  const auto refusal = [&](const Bytes& bytes, const RunOptions& with) {
    REQUIRE_OK(write_file_durably(options.checkpoint, bytes));
    TrainingRun other(*fresh, with, kClock);
    const auto resumed = other.resume();
    REQUIRE_FALSE(resumed.ok());
    CHECK(resumed.error().code == ErrorCode::corrupt_data);
    CHECK(copy_of(fresh->values()) == start);
    return resumed.error().message;
  };
  for (const std::size_t at : {std::size_t{0}, std::size_t{20}, saved->size() / 2, saved->size() - 1}) {
    Bytes damaged = *saved;
    damaged[at] ^= 4;
    CHECK(refusal(damaged, options).find("damaged") != std::string::npos);
  }
  CHECK(refusal(Bytes(saved->begin(), saved->begin() + 50), options).find("too short") != std::string::npos);
  RunOptions other = options;
  other.patience = 2;
  CHECK(refusal(*saved, other).find("patience") != std::string::npos);
  CHECK(RunOptions{.patience = 1}.check().error().message.find("evaluate_every") != std::string::npos);
}

// Whole small worlds with real training: they repeat, survive dying devices, and keep their books.
#include "simulations/world.h"

#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;

namespace {

WorldResult run(const tiny::Choices& choices) {
  const auto experiment = load_experiment(tiny::World::shared().experiment(choices));
  REQUIRE_OK(experiment);
  auto result = run_world(*experiment);
  REQUIRE_OK(result);
  return *std::move(result);
}

std::string lines(const WorldResult& result) {
  std::string out;
  for (const auto& round : result.rounds) out += round.dump() + "\n";
  return out;
}

double number(const formats::Json& from, const char* key) {
  const auto value = from.get_double(key);
  REQUIRE_OK(value);
  return *value;
}

std::uint64_t sum(std::span<const formats::Json> of, const char* key) {
  std::uint64_t total = 0;
  for (const auto& one : of) total += *one.get_uint(key);
  return total;
}

}  // namespace

TEST_CASE("a world repeats bit for bit, and does not depend on the number of threads") {
  tiny::Choices choices;
  choices.dropout = 0.2;
  const auto first = run(choices);
  REQUIRE(first.rounds.size() >= 3);
  const auto second = run(choices);
  CHECK(lines(second) == lines(first));
  CHECK(second.adapter == first.adapter);

  choices.threads = 2;
  const auto threaded = run(choices);
  CHECK(lines(threaded) == lines(first));
  CHECK(threaded.adapter == first.adapter);

  choices.seed = 2;
  CHECK(lines(run(choices)) != lines(first));
}

TEST_CASE("training lowers the held-out loss, and a learning rate of zero changes nothing at all") {
  tiny::Choices choices;
  const auto trained = run(choices);
  const double before = number(*trained.summary.find("base"), "loss");
  CHECK(number(*trained.summary.find("final"), "loss") < before - 0.01);

  choices.learning_rate = 0;
  const auto still = run(choices);
  CHECK(number(*still.summary.find("base"), "loss") == before);
  for (const auto& round : still.rounds) CHECK(number(round, "loss") == before);
}

TEST_CASE("every way to a gradient lowers the held-out loss of a world, each at the energy that its passes take") {
  double joules[4] = {};
  for (int i = 0; i < 4; ++i) {
    tiny::Choices choices;
    choices.method = std::vector<std::string>{"backprop", "forward-gradient", "zeroth-order",
                                              "zeroth-order-sign"}[static_cast<std::size_t>(i)];
    choices.rounds = 6;
    if (i >= 2) {  // Adam would make one direction's noise as large as a gradient
      choices.optimizer = "sgd";
      choices.learning_rate = 0.5;
    }
    CAPTURE(choices.method);
    const auto trained = run(choices);
    CHECK(*trained.summary.get_uint("rounds_published") == 6);
    const double base = number(*trained.summary.find("base"), "loss");
    CHECK(number(*trained.summary.find("final"), "loss") < base - (i >= 2 ? 0.0002 : 0.002));
    joules[i] = number(trained.summary, "joules");
    CHECK(lines(run(choices)) == lines(trained));
  }
  CHECK(joules[1] > joules[0]);
}

TEST_CASE("rounds are completed although three in ten devices die while they train") {
  tiny::Choices choices;
  choices.rounds = 6;
  choices.devices = 16;
  choices.dropout = 0.3;
  const auto result = run(choices);
  CHECK(*result.summary.get_uint("rounds_published") == 6);
  CHECK(*result.summary.get_uint("crashes") > 0);
  CHECK(sum(result.rounds, "dropped") <= *result.summary.get_uint("crashes"));
}

TEST_CASE(
    "where every device dies in every round, rounds are aborted, the task ends and the adapter is the first one") {
  auto experiment = load_experiment(tiny::World::shared().experiment({}));
  REQUIRE_OK(experiment);
  experiment->dropout = 1;
  experiment->away_ms = 2 * experiment->task.deadline_ms;
  experiment->task.rounds_tried_max = 2;
  const auto result = run_world(*experiment);
  REQUIRE_OK(result);
  REQUIRE(result->rounds.size() == 2);
  for (const auto& round : result->rounds) {
    CHECK_FALSE(*round.get_bool("published"));
    CHECK_FALSE(round.get_string("reason")->empty());
    CHECK(round.find("loss")->is_null());
  }
  CHECK(*result->summary.get_uint("contributions") == 0);
  CHECK(number(*result->summary.find("final"), "loss") == number(*result->summary.find("base"), "loss"));
}

TEST_CASE("the books agree: contributions of the rounds, of the summary and of the coordinator's registry") {
  tiny::Choices choices;
  choices.dropout = 0.3;
  choices.rounds = 4;
  const auto result = run(choices);
  const std::uint64_t in_rounds = sum(result.rounds, "contributed");
  CHECK(in_rounds == *result.summary.get_uint("contributions"));
  const auto* classes = result.summary.find("classes");
  REQUIRE(classes != nullptr);
  CHECK(sum(classes->items(), "contributions") == in_rounds);  // from the registry
  CHECK(sum(classes->items(), "devices") == 12);

  double bytes = 0;
  double hours = 0;
  double joules = 0;
  for (const auto& round : result.rounds) {
    CHECK(*round.get_uint("contributed") >= 2);  // `min`
    CHECK(*round.get_uint("contributed") <= *round.get_uint("invited"));
    CHECK(number(round, "bytes_total") > bytes);
    CHECK(number(round, "virtual_s") > hours);
    CHECK(number(round, "joules_total") > joules);
    bytes = number(round, "bytes_total");
    hours = number(round, "virtual_s");
    joules = number(round, "joules_total");
  }
  CHECK(number(result.summary, "bytes_up") + number(result.summary, "bytes_down") >= bytes);
}

TEST_CASE("slower links and processors cost virtual time, not accuracy") {
  const auto with = [](double gflops, double mbit) {
    const auto path = tiny::World::shared().experiment(tiny::Choices{});
    auto experiment = load_experiment(path);
    REQUIRE_OK(experiment);
    experiment->task.over_selection = 1;
    experiment->task.goal_count = experiment->task.min_count = 12;  // everyone: the same devices contribute
    experiment->classes = {{"one", 1, gflops, std::uint64_t{1} << 30, mbit * 125'000, mbit * 125'000, 5, 3, 1}};
    auto result = run_world(*experiment);
    REQUIRE_OK(result);
    return *std::move(result);
  };
  const auto fast = with(1, 10);
  const auto slow = with(0.001, 0.01);
  // Not to the bit: a device that waits longer draws other random numbers for rounding its update.
  CHECK(number(*slow.summary.find("final"), "loss") ==
        doctest::Approx(number(*fast.summary.find("final"), "loss")).epsilon(1e-5));
  CHECK(number(slow.summary, "virtual_hours") > number(fast.summary, "virtual_hours"));
  CHECK(number(slow.summary, "joules") > 10 * number(fast.summary, "joules"));
}

TEST_CASE("a world that cannot end says so") {
  tiny::Choices choices;
  auto experiment = load_experiment(tiny::World::shared().experiment(choices));
  REQUIRE_OK(experiment);
  experiment->virtual_ms_max = 2'000;
  const auto result = run_world(*experiment);
  REQUIRE_FALSE(result.ok());
  CHECK(result.error().message.find("virtual_time_max") != std::string::npos);
}

TEST_CASE("a world whose data drifts repeats, and is not the one whose data stays as it was at first") {
  auto& world = tiny::World::shared();
  static_cast<void>(world.experiment({}));  // makes the base model
  std::string text;
  for (int i = 0; i < 400; ++i) {
    text += R"({"text": "the )" + std::string(i % 2 == 0 ? "lamp is on" : "door is shut") + " " + std::to_string(i) +
            R"(", "label": ")" + std::to_string(i % 2) + "\"}\n";
  }
  tiny::write(world.file("labels.jsonl"), text);
  const auto lines_with = [&](const std::string& phase) {
    const std::string path = world.file("drifts.yaml");
    tiny::write(path,
                "model: base\ndevices: 6\nrounds: 3\ngoal: 4\nmin: 2\nround_pause_s: 2\nprivacy: {mode: robust}\n"
                "adapter: {rank: 2, targets: [all-linear]}\nlocal: {epochs: 1, batch: 4, seq: 32}\n"
                "data: {file: labels.jsonl, partition: drift, alpha: 0.2, phases: 3, " +
                    phase + "}\n");
    const auto experiment = load_experiment(path);
    REQUIRE_OK(experiment);
    const auto result = run_world(*experiment);
    REQUIRE_OK(result);
    return lines(*result);
  };
  const std::string moving = lines_with("phase_s: 5");
  CHECK(lines_with("phase_s: 5") == moving);
  CHECK(lines_with("phase_h: 9") != moving);
}

TEST_CASE("central: one device trains on what all devices have, and the same rows are held out") {
  const std::string path = tiny::World::shared().experiment({});
  const auto federated = load_experiment(path);
  REQUIRE_OK(federated);
  std::string yaml = *read_text_file(path);
  tiny::write(tiny::World::shared().file("central.yaml"), yaml + "central: true\n");
  const auto central = load_experiment(tiny::World::shared().file("central.yaml"));
  REQUIRE_OK(central);
  CHECK(central->task.goal_count == 1);
  const auto one = run_world(*central);
  const auto many = run_world(*federated);
  REQUIRE_OK(one);
  REQUIRE_OK(many);
  CHECK(*one->summary.get_uint("devices") == 1);
  CHECK(*one->summary.find("base")->get_double("loss") == *many->summary.find("base")->get_double("loss"));
  CHECK(*one->summary.find("final")->get_double("loss") < *one->summary.find("base")->get_double("loss"));
}

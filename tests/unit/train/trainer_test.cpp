#include <cmath>
#include <vector>

#include "core/train/evaluate.h"
#include "unit/train/tiny.h"

using namespace covey;
using namespace covey::train;
using namespace covey::train::tiny;

namespace {

Evaluation evaluated(const Setup& setup, std::span<const float> values, std::span<const TokenRow> rows) {
  ThreadPool pool(1);
  const auto view = flat_view(setup.spec, setup.model->linear_sites(), 16, values);
  auto result = evaluate(*setup.model, setup.spec, view, rows, {.batch = 5, .seq = 16}, pool);
  REQUIRE_OK(result);
  return *result;
}

}  // namespace

TEST_CASE("training a LoRA adapter lowers the loss on the rows it saw and on others like them") {
  const Setup setup = lora_setup();
  const auto rows = counting_rows(60);
  const auto train_rows = std::span(rows).first(48);
  const auto held_out = std::span(rows).subspan(48);
  ThreadPool pool(2);
  auto trainer = LocalTrainer::create(*setup.model, setup.spec, setup.start, train_rows, config_of(120), pool, kClock);
  REQUIRE_OK(trainer);
  REQUIRE_OK((*trainer)->run());
  CHECK((*trainer)->done());
  CHECK((*trainer)->report().steps == 120);
  CHECK((*trainer)->report().last_loss < (*trainer)->report().first_loss);
  const auto before = evaluated(setup, setup.start, held_out);
  const auto after = evaluated(setup, (*trainer)->values(), held_out);
  CHECK(after.loss < before.loss - 0.3);
  CHECK(after.perplexity == doctest::Approx(std::exp(after.loss)));
  CHECK(after.accuracy > before.accuracy);
  CHECK(after.examples == 12);
}

TEST_CASE("threads, pauses and checkpoints do not change a bit of the result") {
  const Setup setup = lora_setup();
  const auto rows = counting_rows(20);
  ThreadPool one(1), three(3);
  auto straight = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config_of(17), one, kClock);
  REQUIRE_OK(straight);
  REQUIRE_OK((*straight)->run());

  Bytes saved;
  {
    auto first = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config_of(17), three, kClock);
    REQUIRE_OK(first);
    const Status stopped = (*first)->run([](const StepReport& report) { return report.step < 6; });
    REQUIRE_FALSE(stopped.ok());
    CHECK(stopped.error().code == ErrorCode::cancelled);
    CHECK((*first)->steps_done() == 6);
    saved = (*first)->checkpoint();
  }
  auto second = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config_of(17), three, kClock);
  REQUIRE_OK(second);
  REQUIRE_OK((*second)->restore(saved));
  CHECK((*second)->steps_done() == 6);
  REQUIRE_OK((*second)->run());
  CHECK(std::vector<float>((*straight)->values().begin(), (*straight)->values().end()) ==
        std::vector<float>((*second)->values().begin(), (*second)->values().end()));
  CHECK((*straight)->delta() == (*second)->delta());
  CHECK((*straight)->report().mean_loss == (*second)->report().mean_loss);
}

TEST_CASE(
    "every method, optimizer and micro-batch continues from a checkpoint bit for bit, with any number of threads") {
  const Setup setup = lora_setup();
  const auto rows = counting_rows(20);
  ThreadPool one(1), three(3);
  std::vector<TrainConfig> configs(6, config_of(7));
  configs[0].gradient.method = Method::forward_gradient;
  configs[1].gradient = {.method = Method::forward_gradient, .derivative = Derivative::central, .directions = 2};
  configs[1].prox_mu = 0.1;
  configs[2].gradient.method = Method::zeroth_order;
  configs[2].optimizer.kind = OptimizerKind::sgd;
  configs[2].candidates = {.seed = 3, .count = 16};
  configs[3].optimizer.kind = OptimizerKind::adamw8bit;
  configs[3].optimizer.weight_decay = 0.1;
  configs[4].micro_batch = 2;
  configs[4].optimizer = {.kind = OptimizerKind::sgd, .momentum = 0.9};
  configs[5].gradient = {
      .method = Method::forward_gradient, .directions = 2, .variance_max = 1e-9, .directions_max = 6};
  for (const TrainConfig& config : configs) {
    CAPTURE(&config - configs.data());
    auto straight = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config, one, kClock);
    auto first = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config, three, kClock);
    auto second = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config, three, kClock);
    REQUIRE_OK(straight);
    REQUIRE_OK(first);
    REQUIRE_OK(second);
    REQUIRE_OK((*straight)->run());
    for (int i = 0; i < 3; ++i) REQUIRE_OK((*first)->step());
    REQUIRE_OK((*second)->restore((*first)->checkpoint()));
    REQUIRE_OK((*second)->run());
    CHECK((*straight)->delta() == (*second)->delta());
    CHECK(l2_norm((*straight)->delta()) > 0);
    const auto sums = (*straight)->seeded_update().coefficients();
    CHECK(sums == (*second)->seeded_update().coefficients());
    CHECK(sums.size() == static_cast<std::size_t>(config.candidates.count));
  }
}

TEST_CASE("a damaged checkpoint, or one of other inputs, is refused and changes nothing") {
  const Setup setup = lora_setup();
  const auto rows = counting_rows(20);
  ThreadPool pool(1);
  auto trainer = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config_of(5), pool, kClock);
  REQUIRE_OK(trainer);
  REQUIRE_OK((*trainer)->step());
  const Bytes saved = (*trainer)->checkpoint();
  const std::vector<float> values((*trainer)->values().begin(), (*trainer)->values().end());
  for (const std::size_t at : {std::size_t{0}, std::size_t{9}, saved.size() / 2, saved.size() - 1}) {
    Bytes damaged = saved;
    damaged[at] ^= 1;
    CHECK((*trainer)->restore(damaged).error().code == ErrorCode::corrupt_data);
  }
  for (const std::size_t size : {std::size_t{0}, std::size_t{20}, saved.size() - 1}) {
    CHECK((*trainer)->restore(ByteSpan(saved).first(size)).error().code == ErrorCode::corrupt_data);
  }
  TrainConfig other_config = config_of(5);
  other_config.lr = 0.03;
  auto other = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, other_config, pool, kClock);
  REQUIRE_OK(other);
  CHECK((*other)->restore(saved).error().message.find("another") != std::string::npos);
  CHECK(std::vector<float>((*trainer)->values().begin(), (*trainer)->values().end()) == values);
}

TEST_CASE("a strong proximal term keeps the adapter near its start") {
  const Setup setup = lora_setup();
  const auto rows = counting_rows(20);
  ThreadPool pool(1);
  TrainConfig free = config_of(30);
  free.optimizer = {.kind = OptimizerKind::sgd};
  free.clip_norm = 0;
  free.lr = 0.1;
  TrainConfig held = free;
  held.prox_mu = 5;
  double distance[2] = {};
  for (int i = 0; i < 2; ++i) {
    auto trainer =
        LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, i == 0 ? free : held, pool, kClock);
    REQUIRE_OK(trainer);
    REQUIRE_OK((*trainer)->run());
    distance[i] = l2_norm((*trainer)->delta());
  }
  CHECK(distance[1] < 0.5 * distance[0]);
  CHECK(distance[1] > 0);
}

TEST_CASE("an epoch shows every row once") {
  const Setup setup = lora_setup();
  const auto rows = counting_rows(20);
  ThreadPool pool(1);
  TrainConfig config = config_of(0);
  config.epochs = 2;
  auto trainer = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config, pool, kClock);
  REQUIRE_OK(trainer);
  CHECK((*trainer)->steps_planned() == 8);  // 20 rows in batches of 6: four steps, the last with two rows
  REQUIRE_OK((*trainer)->run());
  CHECK((*trainer)->report().examples == 40);
  std::int64_t positions = 0;
  for (const TokenRow& row : rows) positions += static_cast<std::int64_t>(row.ids.size());
  CHECK((*trainer)->report().tokens == 2 * positions);
}

TEST_CASE("full-parameter training learns, and continues from a checkpoint bit for bit") {
  const auto rows = counting_rows(40);
  ThreadPool pool(2);
  TrainConfig config = config_of(60);
  config.lr = 0.01;
  config.optimizer.weight_decay = 0.1;
  config.schedule = {.kind = ScheduleKind::cosine, .warmup_steps = 5, .final_factor = 0.1};
  const auto weights = [](model::Model& model) {
    std::vector<float> out;
    for (const auto& tensor : model.parameters()) out.insert(out.end(), tensor.values.begin(), tensor.values.end());
    return out;
  };
  auto straight = model::Model::create(model_config(), 4);
  REQUIRE_OK(straight);
  auto trainer = LocalTrainer::create_full(**straight, rows, config, pool, kClock);
  REQUIRE_OK(trainer);
  REQUIRE_OK((*trainer)->run());
  CHECK((*trainer)->report().last_loss < 0.7 * (*trainer)->report().first_loss);

  auto broken = model::Model::create(model_config(), 4);
  auto again = model::Model::create(model_config(), 4);
  REQUIRE_OK(broken);
  REQUIRE_OK(again);
  auto first = LocalTrainer::create_full(**broken, rows, config, pool, kClock);
  auto second = LocalTrainer::create_full(**again, rows, config, pool, kClock);
  REQUIRE_OK(first);
  REQUIRE_OK(second);
  for (int i = 0; i < 25; ++i) REQUIRE_OK((*first)->step());
  REQUIRE_OK((*second)->restore((*first)->checkpoint()));
  REQUIRE_OK((*second)->run());
  CHECK(weights(**straight) == weights(**again));
}

TEST_CASE("inputs that cannot be trained on are refused with their reason") {
  const Setup setup = lora_setup();
  const auto rows = counting_rows(4);
  ThreadPool pool(1);
  const auto message = [&](const TrainConfig& config, std::span<const TokenRow> data, std::vector<float> start) {
    auto trainer = LocalTrainer::create(*setup.model, setup.spec, std::move(start), data, config, pool, kClock);
    REQUIRE_FALSE(trainer.ok());
    return trainer.error().message;
  };
  TrainConfig both = config_of(5);
  both.epochs = 1;
  CHECK(message(both, rows, setup.start).find("exactly one") != std::string::npos);
  TrainConfig rate = config_of(5);
  rate.lr = -1;
  CHECK(message(rate, rows, setup.start).find("lr") == 0);
  CHECK(message(config_of(5), {}, setup.start).find("no row") != std::string::npos);
  CHECK(message(config_of(5), rows, {1, 2}).find("values") != std::string::npos);
  CHECK(evaluate(*setup.model, {}, {}, {}, {}, pool).error().message.find("no row") != std::string::npos);
}

TEST_CASE("stochastic rounding continues from a checkpoint bit for bit, and another seed rounds otherwise") {
  const Setup setup = lora_setup();
  REQUIRE_OK(setup.model->use_int8());
  const auto rows = counting_rows(20);
  ThreadPool one(1), three(3);
  const auto values = [&](std::optional<std::uint64_t> seed, ThreadPool& pool, int stop_after) {
    TrainConfig config = config_of(7);
    config.micro_batch = 4;
    config.gradient.stochastic_rounding = seed;
    auto first = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config, pool, kClock);
    REQUIRE_OK(first);
    if (stop_after > 0) {
      const Status stopped = (*first)->run([&](const StepReport& report) { return report.step < stop_after; });
      REQUIRE_FALSE(stopped.ok());
      const Bytes saved = (*first)->checkpoint();
      first = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config, pool, kClock);
      REQUIRE_OK(first);
      REQUIRE_OK((*first)->restore(saved));
    }
    REQUIRE_OK((*first)->run());
    return std::vector<float>((*first)->values().begin(), (*first)->values().end());
  };
  const auto straight = values(5, one, 0);
  CHECK(values(5, three, 3) == straight);
  CHECK(values(6, one, 0) != straight);
  CHECK(values({}, one, 0) != straight);
}

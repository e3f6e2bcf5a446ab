#include <malloc.h>

#include <cmath>

#include "tests/unit/model/tiny.h"

namespace covey::model {
namespace {

bool refused(const Result<LossResult>& result) {
  return !result.ok() && result.error().code == ErrorCode::invalid_argument;
}

}  // namespace

TEST_CASE("The fused loss equals the loss of the logits") {
  auto config = tiny::config();
  config.vocab_size = 5000;  // several chunks of the head
  const auto model = tiny::model(config);
  ThreadPool pool(2);
  EngineOptions options;
  options.batch_max = 10;
  options.seq_max = 60;
  const auto engine = tiny::engine(*model, pool, options);
  const auto batch = tiny::batch(10, 60, config.vocab_size);
  std::vector<float> logits(10 * 60 * 5000);
  REQUIRE_OK(engine->logits(batch.view(), {}, {}, logits));
  double sum = 0;
  std::int64_t targets = 0;
  for (std::size_t i = 0; i < 600; ++i) {
    if (batch.targets[i] == kNoTarget) continue;
    const float* row = logits.data() + i * 5000;
    double total = 0;
    for (int v = 0; v < 5000; ++v) total += std::exp(static_cast<double>(row[v]));
    sum += std::log(total) - static_cast<double>(row[batch.targets[i]]);
    ++targets;
  }
  const auto loss = engine->loss(batch.view(), {}, {});
  REQUIRE_OK(loss);
  CHECK(loss.value().targets == targets);
  CHECK(loss.value().loss_sum == doctest::Approx(sum).epsilon(1e-6));
}

TEST_CASE("Padding and the other rows of a batch leave a row's loss as it is") {
  const auto model = tiny::model(tiny::config());
  ThreadPool pool(1);
  const auto engine = tiny::engine(*model, pool);
  const auto batch = tiny::batch(3, 12, 19);
  const auto together = engine->loss(batch.view(), {}, {});
  REQUIRE_OK(together);
  double sum = 0;
  for (std::size_t b = 0; b < 3; ++b) {
    const int length = batch.lengths[b];
    const TokenBatch row{1,
                         length,
                         std::span(batch.ids).subspan(b * 12, static_cast<std::size_t>(length)),
                         std::span(batch.targets).subspan(b * 12, static_cast<std::size_t>(length)),
                         {}};
    const auto alone = engine->loss(row, {}, {});
    REQUIRE_OK(alone);
    sum += alone.value().loss_sum;
  }
  CHECK(together.value().loss_sum == doctest::Approx(sum).epsilon(1e-6));
}

TEST_CASE("A batch without targets has no loss and no gradient") {
  const auto model = tiny::model(tiny::config());
  ThreadPool pool(1);
  const auto engine = tiny::engine(*model, pool, tiny::training());
  auto batch = tiny::batch(1, 5, 19);
  batch.targets.assign(5, kNoTarget);
  std::vector<float> gradient(static_cast<std::size_t>(model->parameter_count()));
  const auto loss = engine->full_gradient(batch.view(), gradient);
  REQUIRE_OK(loss);
  CHECK(loss.value().targets == 0);
  CHECK(loss.value().mean() == 0);
  CHECK(gradient == std::vector<float>(gradient.size()));
}

TEST_CASE("Batches that do not fit are refused, not read out of bounds") {
  const auto model = tiny::model(tiny::config());
  ThreadPool pool(1);
  const auto engine = tiny::engine(*model, pool);
  const auto good = tiny::batch(2, 10, 19);
  CHECK_FALSE(refused(engine->loss(good.view(), {}, {})));
  auto bad = good;
  bad.ids[3] = 19;
  CHECK(refused(engine->loss(bad.view(), {}, {})));
  bad = good;
  bad.ids[3] = -1;
  CHECK(refused(engine->loss(bad.view(), {}, {})));
  bad = good;
  bad.targets[3] = 19;
  CHECK(refused(engine->loss(bad.view(), {}, {})));
  bad = good;
  bad.targets[19] = 1;  // row 1 has 9 tokens
  CHECK(refused(engine->loss(bad.view(), {}, {})));
  bad = good;
  bad.lengths[0] = 11;
  CHECK(refused(engine->loss(bad.view(), {}, {})));
  bad = good;
  bad.lengths[0] = 0;
  CHECK(refused(engine->loss(bad.view(), {}, {})));
  bad = good;
  bad.targets.pop_back();
  CHECK(refused(engine->loss(bad.view(), {}, {})));
  CHECK(refused(engine->loss(tiny::batch(4, 10, 19).view(), {}, {})));
  CHECK(refused(engine->loss(tiny::batch(1, 21, 19).view(), {}, {})));
  std::vector<float> gradient(static_cast<std::size_t>(model->parameter_count()));
  CHECK(refused(engine->full_gradient(good.view(), gradient)));  // made without training
  EngineOptions options;
  options.seq_max = 65;
  CHECK_FALSE(Engine::create(*model, options, pool).ok());  // above the model's context
}

TEST_CASE("The memory plan counts what an engine takes, and checkpointing takes less") {
  auto config = tiny::config();
  config.layers = 6;
  const auto model = tiny::model(config);
  AdapterSpec spec;
  spec.lora.push_back({0, 2, 1});
  const auto plain = plan_memory(config, spec, model->linear_sites(), tiny::training(), 2);
  const auto less = plan_memory(config, spec, model->linear_sites(), tiny::training(true), 2);
  const auto forward = plan_memory(config, spec, model->linear_sites(), EngineOptions{3, 20}, 2);
  CHECK(plain.weights_bytes == static_cast<std::uint64_t>(model->parameter_count()) * 4);
  CHECK(plain.adapter_bytes == (12 + 18) * 2 * 4 * 4);
  CHECK(less.buffers_bytes < plain.buffers_bytes * 2 / 3);
  CHECK(forward.buffers_bytes < less.buffers_bytes);
}

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST_CASE("What an engine takes from the system stays within a tenth of the plan, and steps take no more") {
  auto config = tiny::config();
  config.hidden_size = 96;
  config.intermediate_size = 256;
  config.layers = 3;
  const auto model = tiny::model(config);
  const auto adapter = tiny::lora(*model, {0, 9}, 4);
  const auto batch = tiny::batch(3, 20, config.vocab_size);
  ThreadPool pool(1);
  const auto in_use = [] {
    const auto info = mallinfo2();
    return static_cast<double>(info.uordblks + info.hblkhd);
  };
  for (const bool checkpoint : {false, true}) {
    auto gradient = adapter.zeros();
    const auto view = adapter.view();
    const auto gradient_view = gradient.gradient_view();
    const double before = in_use();
    const auto engine = tiny::engine(*model, pool, tiny::training(checkpoint));
    REQUIRE_OK(engine->gradient(batch.view(), adapter.spec, view, gradient_view));
    const double after = in_use();
    const auto plan = plan_memory(config, adapter.spec, model->linear_sites(), tiny::training(checkpoint), 2);
    CHECK(after - before == doctest::Approx(static_cast<double>(plan.buffers_bytes)).epsilon(0.1));
    REQUIRE_OK(engine->gradient(batch.view(), adapter.spec, view, gradient_view));  // what this test itself takes, too
    const double settled = in_use();
    for (int step = 0; step < 5; ++step) {
      REQUIRE_OK(engine->gradient(batch.view(), adapter.spec, view, gradient_view));
    }
    CHECK(in_use() == settled);
  }
}
#endif

}  // namespace covey::model

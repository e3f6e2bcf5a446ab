// Training a part of an adapter or of a model: the rest keeps its bits, whatever the method.
#include <algorithm>

#include "core/train/gradient.h"
#include "unit/train/tiny.h"

using namespace covey;
using namespace covey::train;

namespace {

/// The setup with layer 1 alone training, and of its sites but B where `b_alone`.
tiny::Setup upper_layer(bool b_alone = false) {
  tiny::Setup out = tiny::lora_setup();
  for (auto& lora : out.spec.lora) {
    const bool upper = out.model->linear_sites()[static_cast<std::size_t>(lora.site)].layer == 1;
    lora.train_a = upper && !b_alone;
    lora.train_b = upper;
  }
  return out;
}

/// Whether each of the P values lies in a part that trains.
std::vector<bool> trained_values(const tiny::Setup& setup) {
  std::vector<bool> out(setup.start.size());
  const auto parameters = Parameters::of_adapter(*setup.model, setup.spec, setup.start);
  REQUIRE_OK(parameters);
  for (const Piece& piece : parameters->pieces()) {
    for (std::size_t i = 0; i < piece.values.size(); ++i) out[static_cast<std::size_t>(piece.offset) + i] = true;
  }
  return out;
}

}  // namespace

TEST_CASE("what is frozen keeps its bits and the rest learns, by every method and optimizer") {
  ThreadPool pool(2);
  const auto rows = tiny::counting_rows(6);  // one batch
  for (const bool b_alone : {false, true}) {
    const tiny::Setup setup = upper_layer(b_alone);
    const auto trains = trained_values(setup);
    CHECK(std::count(trains.begin(), trains.end(), true) > 0);
    CHECK(std::count(trains.begin(), trains.end(), false) > 0);
    for (const Method method : {Method::backprop, Method::forward_gradient, Method::zeroth_order}) {
      for (const OptimizerKind kind : {OptimizerKind::adamw, OptimizerKind::adamw8bit}) {
        TrainConfig config = tiny::config_of(8);
        config.gradient.method = method;
        config.optimizer.kind = kind;
        config.optimizer.weight_decay = 0.1;  // would move what the optimizer touches
        auto trainer = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config, pool, tiny::kClock);
        REQUIRE_OK(trainer);
        REQUIRE_OK((*trainer)->run());
        const auto values = (*trainer)->values();
        bool kept = true;
        std::size_t moved = 0;
        for (std::size_t i = 0; i < values.size(); ++i) {
          if (trains[i]) {
            moved += values[i] != setup.start[i] ? 1 : 0;
          } else {
            kept = kept && values[i] == setup.start[i];  // not even perturbed
          }
        }
        CHECK(kept);
        CHECK(moved > static_cast<std::size_t>(std::count(trains.begin(), trains.end(), true)) * 9 / 10);
        if (method == Method::backprop) CHECK((*trainer)->report().last_loss < (*trainer)->report().first_loss);
      }
    }
  }
}

TEST_CASE("the gradient of the part that trains is the whole gradient's, to the bit") {
  ThreadPool pool(2);
  const auto rows = tiny::counting_rows(6);
  auto batcher = data::Batcher::create(rows, {.batch = 6, .shuffle = false});
  REQUIRE_OK(batcher);
  const model::TokenBatch batch = token_batch(batcher->next());
  const auto gradient = [&](const tiny::Setup& setup, bool checkpoint) {
    auto parameters = Parameters::of_adapter(*setup.model, setup.spec, setup.start);
    REQUIRE_OK(parameters);
    auto source =
        GradientSource::create(*parameters, {.checkpoint_activations = checkpoint}, {.rows = 6, .seq = 16}, pool);
    REQUIRE_OK(source);
    const auto estimate = (*source)->estimate(batch, 0);
    REQUIRE_OK(estimate);
    return std::vector<float>(estimate->dense.begin(), estimate->dense.end());
  };
  const auto whole = gradient(tiny::lora_setup(), false);
  for (const bool b_alone : {false, true}) {
    const auto setup = upper_layer(b_alone);
    const auto trains = trained_values(setup);
    for (const bool checkpoint : {false, true}) {
      const auto part = gradient(setup, checkpoint);
      bool same = true;
      for (std::size_t i = 0; i < part.size(); ++i) same = same && part[i] == (trains[i] ? whole[i] : 0.0F);
      CHECK(same);
    }
  }
}

TEST_CASE("tensors of a model that are not chosen keep their bits, and state is planned for the others alone") {
  ThreadPool pool(2);
  const auto rows = tiny::counting_rows(24);
  auto model = tiny::lora_setup().model;
  const auto before = tiny::lora_setup().model;
  const auto tensors = model->tensors();
  model::TensorChoice choice;
  for (const auto& tensor : tensors) choice.push_back(tensor.layer == 1 ? 1 : 0);
  const TrainConfig config = tiny::config_of(20);
  auto trainer = LocalTrainer::create_full(*model, rows, config, pool, tiny::kClock, choice);
  REQUIRE_OK(trainer);
  REQUIRE_OK((*trainer)->run());
  CHECK((*trainer)->report().last_loss < (*trainer)->report().first_loss);
  const auto now = model->parameters();
  const auto then = before->parameters();
  for (std::size_t i = 0; i < now.size(); ++i) {
    CAPTURE(now[i].name);
    CHECK(std::equal(now[i].values.begin(), now[i].values.end(), then[i].values.begin()) == (choice[i] == 0));
  }
  const auto part = memory_plan_full(*model, choice, config, 16);
  const auto all = memory_plan_full(*model, {}, config, 16);
  CHECK(part.adapter_bytes < all.adapter_bytes / 2);
  CHECK(part.buffers_bytes < all.buffers_bytes);
  CHECK_FALSE(LocalTrainer::create_full(*model, rows, config, pool, tiny::kClock, model::TensorChoice(2)).ok());
}

TEST_CASE("a checkpoint of sparse training goes on to the same bits, and fits no other choice") {
  ThreadPool pool(1);
  const auto rows = tiny::counting_rows(24);
  const tiny::Setup setup = upper_layer();
  const auto make = [&](const tiny::Setup& of) {
    auto made = LocalTrainer::create(*of.model, of.spec, of.start, rows, tiny::config_of(10), pool, tiny::kClock);
    REQUIRE_OK(made);
    return *std::move(made);
  };
  const auto straight = make(setup);
  REQUIRE_OK(straight->run());
  const auto first = make(setup);
  for (int i = 0; i < 4; ++i) REQUIRE_OK(first->step());
  const auto second = make(setup);
  REQUIRE_OK(second->restore(first->checkpoint()));
  REQUIRE_OK(second->run());
  CHECK(std::equal(straight->values().begin(), straight->values().end(), second->values().begin()));
  CHECK_FALSE(make(tiny::lora_setup())->restore(first->checkpoint()).ok());
  CHECK_FALSE(make(upper_layer(true))->restore(first->checkpoint()).ok());
}

TEST_CASE("an adapter that is frozen whole, and candidate directions over frozen values, are refused") {
  ThreadPool pool(1);
  const auto rows = tiny::counting_rows(6);
  tiny::Setup none = tiny::lora_setup();
  for (auto& lora : none.spec.lora) lora.train_a = lora.train_b = false;
  const auto frozen =
      LocalTrainer::create(*none.model, none.spec, none.start, rows, tiny::config_of(2), pool, tiny::kClock);
  REQUIRE_FALSE(frozen.ok());
  CHECK(frozen.error().message.find("frozen") != std::string::npos);
  const tiny::Setup setup = upper_layer();
  TrainConfig config = tiny::config_of(2);
  config.gradient.method = Method::zeroth_order;
  config.optimizer = {.kind = OptimizerKind::sgd};
  config.candidates = {.seed = 1, .count = 8};
  const auto candidates = LocalTrainer::create(*setup.model, setup.spec, setup.start, rows, config, pool, tiny::kClock);
  REQUIRE_FALSE(candidates.ok());
  CHECK(candidates.error().message.find("candidates") != std::string::npos);
}

TEST_CASE("an adapter of the upper layer is planned without activations of the lower one") {
  const tiny::Setup all = tiny::lora_setup();
  const tiny::Setup upper = upper_layer();
  const TrainConfig config = tiny::config_of(2);
  CHECK(memory_plan(*all.model, upper.spec, config, 16).buffers_bytes <
        memory_plan(*all.model, all.spec, config, 16).buffers_bytes);
}

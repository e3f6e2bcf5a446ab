// Training a part: what is planned, what is refused. (That the gradients are the whole's to the bit: families_test.)
#include "tests/unit/model/tiny.h"

namespace covey::model {
namespace {

ModelConfig deep() {
  auto config = tiny::config();
  config.layers = 6;
  return config;
}

/// Adapters on every linear layer of the blocks from `layer` on.
AdapterSpec from_layer(const Model& model, int layer) {
  AdapterSpec spec;
  for (std::size_t i = 0; i < model.linear_sites().size(); ++i) {
    if (model.linear_sites()[i].layer >= layer) spec.lora.push_back({static_cast<int>(i), 2, 1});
  }
  return spec;
}

std::uint64_t buffers_for(const Model& model, const TrainedPart& part, bool checkpoint) {
  EngineOptions options = tiny::training(checkpoint);
  options.trained = part;
  return plan_memory(model.config(), {}, model.linear_sites(), options, 0).buffers_bytes;
}

}  // namespace

TEST_CASE("The higher the lowest trained layer, the less is planned: nothing is kept below it") {
  const auto model = tiny::model(deep());
  const int layers = model->config().layers;
  EngineOptions inference = tiny::training();
  inference.training = false;
  const auto least = plan_memory(model->config(), {}, model->linear_sites(), inference, 0).buffers_bytes;
  for (const bool checkpoint : {false, true}) {
    CAPTURE(checkpoint);
    const auto anything =
        plan_memory(model->config(), {}, model->linear_sites(), tiny::training(checkpoint), 0).buffers_bytes;
    std::vector<std::uint64_t> bytes;
    for (int layer = 0; layer < layers; ++layer) {
      bytes.push_back(buffers_for(*model, {.adapter = from_layer(*model, layer)}, checkpoint));
      CHECK(bytes.back() <= anything);
      CHECK(bytes.back() > least);
    }
    // Each layer that is left out saves what one layer keeps, and at most that (the first one also frees the
    // embedding).
    for (std::size_t i = 2; i < bytes.size(); ++i) CHECK(bytes[i - 1] - bytes[i] == bytes[1] - bytes[2]);
    CHECK(bytes[1] > bytes[2]);
  }
}

TEST_CASE("Weights that are frozen in a trained layer keep no input of theirs") {
  const auto model = tiny::model(deep());
  const auto tensors = model->tensors();
  const auto choose = [&](const char* leaf) {
    TensorChoice choice;
    for (const auto& tensor : tensors) choice.push_back(tensor.name.find(leaf) != std::string::npos ? 1 : 0);
    return TrainedPart{.model = true, .tensors = choice};
  };
  CHECK(buffers_for(*model, choose("norm"), false) < buffers_for(*model, {.model = true}, false));
  const auto none = buffers_for(*model, {.model = true, .tensors = TensorChoice(tensors.size())}, false);
  CHECK(none < buffers_for(*model, choose("layers.5.mlp.down_proj"), false));
}

TEST_CASE("An engine that was made for a part refuses gradients of anything else, and gives those of less") {
  const auto model = tiny::model(deep());
  ThreadPool pool(1);
  EngineOptions options = tiny::training();
  options.trained = TrainedPart{.adapter = from_layer(*model, 3)};
  const auto engine = tiny::engine(*model, pool, options);
  const auto batch = tiny::batch(2, 9, 19);
  const auto run = [&](const AdapterSpec& spec) {
    std::vector<int> sites;
    for (const auto& lora : spec.lora) sites.push_back(lora.site);
    const auto adapter = tiny::lora(*model, sites, 2);
    auto gradient = adapter.zeros();
    return engine->gradient(batch.view(), adapter.spec, adapter.view(), gradient.gradient_view());
  };
  REQUIRE_OK(run(from_layer(*model, 3)));
  REQUIRE_OK(run(from_layer(*model, 5)));
  const auto refused = run(from_layer(*model, 2));
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message.find("other layers") != std::string::npos);
  std::vector<float> all(static_cast<std::size_t>(model->parameter_count()));
  CHECK_FALSE(engine->full_gradient(batch.view(), all).ok());
}

TEST_CASE("A choice of tensors that does not fit the model is refused") {
  const auto model = tiny::model(deep());
  ThreadPool pool(1);
  const auto engine = tiny::engine(*model, pool, tiny::training());
  const auto batch = tiny::batch(2, 9, 19);
  std::vector<float> one(12);
  CHECK_FALSE(engine->full_gradient(batch.view(), one, 1, TensorChoice(3)).ok());
  TensorChoice choice(model->tensors().size());
  choice.back() = 1;  // the last norm, 12 values
  REQUIRE_OK(engine->full_gradient(batch.view(), one, 1, choice));
  choice.front() = 1;
  CHECK_FALSE(engine->full_gradient(batch.view(), one, 1, choice).ok());  // more values than that
  EngineOptions options = tiny::training();
  options.trained = TrainedPart{.model = true, .tensors = TensorChoice(3)};
  CHECK_FALSE(Engine::create(*model, options, pool).ok());
}

}  // namespace covey::model

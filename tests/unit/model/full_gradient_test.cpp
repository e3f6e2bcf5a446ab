#include <algorithm>

#include "tests/unit/model/reference_model.h"
#include "tests/unit/model/tiny.h"

namespace covey::model {
namespace {

using Complex = std::complex<double>;

/// Some entries of every tensor against exact derivatives, and the loss itself.
void check_full_gradient(const ModelConfig& config) {
  const auto model = tiny::model(config);
  ThreadPool pool(2);
  const auto engine = tiny::engine(*model, pool, tiny::training());
  const auto batch = tiny::batch(3, 9, config.vocab_size);
  std::vector<float> gradient(static_cast<std::size_t>(model->parameter_count()));
  const auto loss = engine->full_gradient(batch.view(), gradient);
  REQUIRE_OK(loss);
  auto weights = reference::weights_of<Complex>(*model);
  CHECK(loss.value().mean() == doctest::Approx(reference::loss(config, weights, batch.view()).real()).epsilon(1e-5));

  double largest = 0;
  for (const float value : gradient) largest = std::max(largest, std::abs(static_cast<double>(value)));
  std::size_t at = 0;
  for (const auto& tensor : model->parameters()) {
    CAPTURE(tensor.name);
    const std::size_t step = std::max<std::size_t>(1, tensor.values.size() / 4);
    for (std::size_t i = 0; i < tensor.values.size(); i += step) {
      Complex& entry = weights.tensors[tensor.name][i];
      const Complex kept = entry;
      entry += Complex(0, 1e-50);
      const double exact = reference::loss(config, weights, batch.view()).imag() / 1e-50;
      entry = kept;
      CHECK(std::abs(static_cast<double>(gradient[at + i]) - exact) < 2e-5 * largest);
    }
    at += tensor.values.size();
  }
}

}  // namespace

TEST_CASE("The gradient of all parameters is exact for a tied head") {
  check_full_gradient(tiny::config());
}

TEST_CASE("The gradient of all parameters is exact with biases everywhere and a head of its own") {
  auto config = tiny::config();
  config.qkv_bias = config.o_bias = config.mlp_bias = true;
  config.tied_head = false;
  check_full_gradient(config);
}

TEST_CASE("The gradient of all parameters is exact with a sliding window") {
  auto config = tiny::config();
  config.family = "mistral";
  config.window.assign(2, 3);
  check_full_gradient(config);
}

TEST_CASE("Recomputing activations gives the same gradient to the bit, on any number of threads") {
  auto config = tiny::config();
  config.hidden_size = 48;
  config.intermediate_size = 100;
  config.vocab_size = 300;
  config.layers = 3;
  const auto model = tiny::model(config);
  const auto batch = tiny::batch(3, 20, config.vocab_size);
  std::vector<std::vector<float>> gradients;
  std::vector<double> losses;
  for (const auto& [threads, checkpoint] : {std::pair{1, false}, {1, true}, {2, false}, {4, true}}) {
    ThreadPool pool(threads);
    const auto engine = tiny::engine(*model, pool, tiny::training(checkpoint));
    gradients.emplace_back(static_cast<std::size_t>(model->parameter_count()));
    const auto loss = engine->full_gradient(batch.view(), gradients.back());
    REQUIRE_OK(loss);
    losses.push_back(loss.value().loss_sum);
  }
  for (std::size_t i = 1; i < gradients.size(); ++i) {
    CHECK(gradients[i] == gradients[0]);
    CHECK(losses[i] == losses[0]);
  }
}

TEST_CASE("Gradients are added to what is there, scaled as asked") {
  const auto model = tiny::model(tiny::config());
  ThreadPool pool(1);
  const auto engine = tiny::engine(*model, pool, tiny::training());
  const auto batch = tiny::batch(2, 9, 19);
  const auto size = static_cast<std::size_t>(model->parameter_count());
  std::vector<float> once(size);
  std::vector<float> twice(size, 1.0F);
  REQUIRE_OK(engine->full_gradient(batch.view(), once));
  REQUIRE_OK(engine->full_gradient(batch.view(), twice, 0.25F));
  for (std::size_t i = 0; i < size; ++i) {
    CHECK(std::abs(twice[i] - (1 + 0.25F * once[i])) < 1e-6F);
  }
}

TEST_CASE("A few steps of plain descent on all parameters learn a repeated row") {
  const auto made = Model::create(tiny::config(), 3);
  REQUIRE_OK(made);
  Model& model = *made.value();
  ThreadPool pool(1);
  const auto engine = tiny::engine(model, pool, tiny::training());
  const auto batch = tiny::batch(1, 9, 19);
  std::vector<float> gradient(static_cast<std::size_t>(model.parameter_count()));
  double first = 0;
  LossResult last;
  for (int step = 0; step < 600; ++step) {
    std::fill(gradient.begin(), gradient.end(), 0.0F);
    const auto loss = engine->full_gradient(batch.view(), gradient);
    REQUIRE_OK(loss);
    last = loss.value();
    if (step == 0) first = last.mean();
    double square = 0;
    for (const float g : gradient) square += static_cast<double>(g) * static_cast<double>(g);
    const float rate = static_cast<float>(0.1 / std::max(1.0, std::sqrt(square)));  // long steps would diverge
    std::size_t at = 0;
    for (auto& tensor : model.parameters()) {
      for (float& value : tensor.values) value -= rate * gradient[at++];
    }
  }
  CHECK(first == doctest::Approx(std::log(19.0)).epsilon(0.05));
  CHECK(last.mean() < 0.1);
  CHECK(last.correct == last.targets);
}

}  // namespace covey::model

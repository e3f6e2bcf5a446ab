#include <algorithm>

#include "tests/unit/model/reference_model.h"
#include "tests/unit/model/tiny.h"

namespace covey::model {
namespace {

using Complex = std::complex<double>;

ModelConfig untied() {
  auto config = tiny::config();
  config.tied_head = false;
  config.qkv_bias = config.o_bias = config.mlp_bias = true;
  return config;
}

reference::Weights<Complex> with_adapter(Model& model, const tiny::Adapter& adapter) {
  auto weights = reference::weights_of<Complex>(model);
  for (std::size_t i = 0; i < adapter.a.size(); ++i) {
    const auto& lora = adapter.spec.lora[i];
    weights.lora[model.linear_sites()[static_cast<std::size_t>(lora.site)].path] = {
        {adapter.a[i].begin(), adapter.a[i].end()},
        {adapter.b[i].begin(), adapter.b[i].end()},
        static_cast<double>(lora.scale)};
  }
  weights.prompt.assign(adapter.prompt.begin(), adapter.prompt.end());
  weights.prompt_tokens = adapter.spec.prompt_tokens;
  return weights;
}

}  // namespace

TEST_CASE("LoRA gradients at every linear layer, the head included, and of a soft prompt are exact") {
  const auto config = untied();
  const auto model = tiny::model(config);
  ThreadPool pool(2);
  const auto engine = tiny::engine(*model, pool, tiny::training(false, 2));
  auto batch = tiny::batch(2, 7, config.vocab_size);
  const std::vector<std::int32_t> first{batch.ids[0], kNoTarget};
  TokenBatch view = batch.view();
  view.first_targets = first;
  auto adapter = tiny::lora(*model, tiny::all_sites(*model), 2);
  adapter.spec.prompt_tokens = 2;
  adapter.prompt.resize(24);
  CounterRng(3).fill_normal(adapter.prompt);
  auto gradient = adapter.zeros();
  const auto loss = engine->gradient(view, adapter.spec, adapter.view(), gradient.gradient_view());
  REQUIRE_OK(loss);
  CHECK(loss.value().targets == 6 + 5 + 1);
  auto weights = with_adapter(*model, adapter);
  CHECK(loss.value().mean() == doctest::Approx(reference::loss(config, weights, view).real()).epsilon(1e-5));

  const auto check = [&](std::vector<Complex>& values, const std::vector<float>& got) {
    double largest = 0;
    for (const float value : got) largest = std::max(largest, std::abs(static_cast<double>(value)));
    CHECK(largest > 0);
    for (std::size_t i = 1; i < values.size(); i += std::max<std::size_t>(1, values.size() / 3)) {
      const Complex kept = values[i];
      values[i] += Complex(0, 1e-50);
      const double exact = reference::loss(config, weights, view).imag() / 1e-50;
      values[i] = kept;
      CHECK(std::abs(static_cast<double>(got[i]) - exact) < 1e-4 * largest + 1e-6);
    }
  };
  for (std::size_t i = 0; i < adapter.a.size(); ++i) {
    const auto& path = model->linear_sites()[i].path;
    CAPTURE(path);
    check(weights.lora[path].a, gradient.a[i]);
    check(weights.lora[path].b, gradient.b[i]);
  }
  check(weights.prompt, gradient.prompt);
}

TEST_CASE("A backward pass that stops early gives each adapter the gradient of the whole one, to the bit") {
  const auto config = untied();
  const auto model = tiny::model(config);
  ThreadPool pool(1);
  const auto batch = tiny::batch(3, 8, config.vocab_size);
  for (const bool checkpoint : {false, true}) {
    const auto engine = tiny::engine(*model, pool, tiny::training(checkpoint));
    auto whole = tiny::lora(*model, tiny::all_sites(*model), 2);
    // Every adapter but one is switched off by a zero scale: its presence must not matter.
    for (std::size_t site = 0; site < whole.spec.lora.size(); ++site) {
      CAPTURE(site);
      auto only = tiny::lora(*model, {static_cast<int>(site)}, 2);
      auto masked = whole;
      for (auto& lora : masked.spec.lora) lora.scale = lora.site == static_cast<int>(site) ? lora.scale : 0;
      auto gradient = only.zeros();
      auto gradient_whole = masked.zeros();
      REQUIRE_OK(engine->gradient(batch.view(), only.spec, only.view(), gradient.gradient_view()));
      REQUIRE_OK(engine->gradient(batch.view(), masked.spec, masked.view(), gradient_whole.gradient_view()));
      CHECK(gradient.a[0] == gradient_whole.a[site]);
      CHECK(gradient.b[0] == gradient_whole.b[site]);
    }
  }
}

TEST_CASE("Forward mode gives the gradient's product with the direction, with inference buffers alone") {
  const auto config = untied();
  const auto model = tiny::model(config);
  ThreadPool pool(2);
  const auto engine = tiny::engine(*model, pool, tiny::training(false, 2));
  EngineOptions inference = tiny::training(false, 2);
  inference.training = false;
  inference.tangent = true;
  const auto forward = tiny::engine(*model, pool, inference);
  const auto batch = tiny::batch(3, 9, config.vocab_size);
  for (const auto& sites : {tiny::all_sites(*model), std::vector<int>{10}, std::vector<int>{14}, std::vector<int>{}}) {
    auto adapter = tiny::lora(*model, sites, 2);
    if (sites.size() != 1) {
      adapter.spec.prompt_tokens = 2;
      adapter.prompt.resize(24);
      CounterRng(3).fill_normal(adapter.prompt);
    }
    auto direction = adapter.zeros();
    for (std::size_t i = 0; i < direction.a.size(); ++i) {
      CounterRng(21, i).fill_normal(direction.a[i]);
      CounterRng(22, i).fill_normal(direction.b[i]);
    }
    CounterRng(23).fill_normal(direction.prompt);
    auto gradient = adapter.zeros();
    const auto loss = engine->gradient(batch.view(), adapter.spec, adapter.view(), gradient.gradient_view());
    REQUIRE_OK(loss);
    double expected = 0;
    double size = 0;
    const auto add = [&](const std::vector<float>& g, const std::vector<float>& d) {
      for (std::size_t i = 0; i < g.size(); ++i) {
        expected += static_cast<double>(g[i]) * static_cast<double>(d[i]);
        size += std::abs(static_cast<double>(g[i]) * static_cast<double>(d[i]));
      }
    };
    for (std::size_t i = 0; i < gradient.a.size(); ++i) {
      add(gradient.a[i], direction.a[i]);
      add(gradient.b[i], direction.b[i]);
    }
    add(gradient.prompt, direction.prompt);
    const auto jvp = forward->jvp(batch.view(), adapter.spec, adapter.view(), direction.view());
    REQUIRE_OK(jvp);
    CHECK(size > 0);
    CHECK(std::abs(jvp.value().derivative - expected) < 2e-5 * size);
    CHECK(jvp.value().loss.loss_sum == doctest::Approx(loss.value().loss_sum).epsilon(1e-6));
    CHECK_FALSE(engine->jvp(batch.view(), adapter.spec, adapter.view(), direction.view()).ok());
  }
}

TEST_CASE("Base plus LoRA equals the merged weights") {
  const auto config = untied();
  const auto model = tiny::model(config);
  const auto adapter = tiny::lora(*model, tiny::all_sites(*model), 3);
  ThreadPool pool(1);
  const auto batch = tiny::batch(2, 8, config.vocab_size);
  const auto with = tiny::engine(*model, pool)->loss(batch.view(), adapter.spec, adapter.view());
  REQUIRE_OK(with);
  auto parameters = model->parameters();
  for (std::size_t i = 0; i < adapter.a.size(); ++i) {
    const LinearSite& site = model->linear_sites()[i];
    const auto found = std::find_if(parameters.begin(), parameters.end(),
                                    [&](const NamedTensor& tensor) { return tensor.name == site.path + ".weight"; });
    REQUIRE(found != parameters.end());
    const auto in = static_cast<std::size_t>(site.in);
    for (std::size_t o = 0; o < static_cast<std::size_t>(site.out); ++o) {
      for (std::size_t r = 0; r < 3; ++r) {
        for (std::size_t k = 0; k < in; ++k) {
          found->values[o * in + k] += 0.7F * adapter.b[i][o * 3 + r] * adapter.a[i][r * in + k];
        }
      }
    }
  }
  const AdapterSpec none;
  const auto merged = tiny::engine(*model, pool)->loss(batch.view(), none, AdapterView{});
  REQUIRE_OK(merged);
  CHECK(merged.value().loss_sum == doctest::Approx(with.value().loss_sum).epsilon(1e-5));
}

TEST_CASE("Adapters that do not fit the model are refused") {
  const auto model = tiny::model(tiny::config());
  ThreadPool pool(1);
  const auto engine = tiny::engine(*model, pool, tiny::training());
  const auto batch = tiny::batch(1, 5, 19);
  const auto refused = [&](const tiny::Adapter& adapter) {
    const auto result = engine->loss(batch.view(), adapter.spec, adapter.view());
    return !result.ok() && result.error().code == ErrorCode::invalid_argument;
  };
  const auto good = tiny::lora(*model, {0, 3}, 2);
  CHECK_FALSE(refused(good));
  auto bad = good;
  bad.spec.lora[1].site = 14;  // the head is tied: it is no site
  CHECK(refused(bad));
  bad = good;
  bad.spec.lora[1].site = 0;
  CHECK(refused(bad));
  bad = good;
  bad.spec.lora[0].rank = 3;
  CHECK(refused(bad));
  bad = good;
  bad.spec.lora[0].rank = 0;
  CHECK(refused(bad));
  bad = good;
  bad.a[0].pop_back();
  CHECK(refused(bad));
  bad = good;
  bad.spec.prompt_tokens = 1;
  bad.prompt.resize(12);
  CHECK(refused(bad));  // the engine was made without room for a prompt
}

}  // namespace covey::model

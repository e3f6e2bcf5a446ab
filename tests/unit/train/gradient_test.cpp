// The three ways to a gradient against each other, on stories260K and on a tiny model.
#include "core/train/gradient.h"

#include <cmath>
#include <numeric>
#include <vector>

#include "core/base/rng.h"
#include "unit/train/tiny.h"

using namespace covey;
using namespace covey::train;

namespace {

double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

/// A model, an adapter with values everywhere, and one batch of rows of unequal length.
struct Case {
  std::shared_ptr<model::Model> model;
  model::AdapterSpec spec;
  std::vector<float> start;
  std::vector<TokenRow> rows;
  std::optional<data::Batcher> batcher;
  int longest = 0;

  Case(std::shared_ptr<model::Model> base, std::vector<TokenRow> with, const char* leaf)
      : model(std::move(base)), rows(std::move(with)) {
    const auto& sites = model->linear_sites();
    for (std::size_t i = 0; i < sites.size(); ++i) {
      if (sites[i].layer < 0 || sites[i].leaf.find(leaf) == std::string::npos) continue;
      spec.lora.push_back({.site = static_cast<int>(i), .rank = 2, .scale = 2});
    }
    start.resize(static_cast<std::size_t>(flat_size(spec, sites, model->config().hidden_size)));
    CounterRng(5).fill_normal(start);
    for (float& x : start) x *= 0.05F;
    for (const auto& row : rows) longest = std::max(longest, static_cast<int>(row.ids.size()));
    auto made = data::Batcher::create(rows, {.batch = static_cast<int>(rows.size()), .shuffle = false});
    REQUIRE_OK(made);
    batcher = *std::move(made);
  }
  model::TokenBatch batch() {
    REQUIRE_OK(batcher->seek({}));
    return token_batch(batcher->next());
  }
  Parameters parameters() const { return *Parameters::of_adapter(*model, spec, start); }
  GradientSource::Sizes sizes(int at_once = 0) const {
    return {.rows = at_once > 0 ? at_once : static_cast<int>(rows.size()), .seq = longest};
  }
};

Case tiny_case() {
  return {tiny::lora_setup().model, tiny::counting_rows(6), ""};
}

/// Some tokens of the story model's vocabulary; which ones does not matter to calculus.
std::optional<Case> stories_case() {
  const auto path = test::data_path("stories260K/stories260K.bin");
  if (!path) return std::nullopt;
  auto model = model::Model::load(*path);
  REQUIRE_OK(model);
  Rng rng(3);
  std::vector<TokenRow> rows;
  for (const int length : {12, 7}) {
    TokenRow row;
    for (int t = 0; t < length; ++t) {
      row.ids.push_back(static_cast<std::int32_t>(rng.below(512)));
      row.targets.push_back(t % 3 == 0 ? data::kNoTarget : static_cast<std::int32_t>(rng.below(512)));
    }
    rows.push_back(std::move(row));
  }
  return Case(*model, std::move(rows), "v_proj");
}

std::vector<float> backprop(Case& with, int at_once = 0) {
  ThreadPool pool(1);
  Parameters parameters = with.parameters();
  auto source = GradientSource::create(parameters, {}, with.sizes(at_once), pool);
  REQUIRE_OK(source);
  const auto estimate = (*source)->estimate(with.batch(), 0);
  REQUIRE_OK(estimate);
  CHECK(estimate->terms.empty());
  return {estimate->dense.begin(), estimate->dense.end()};
}

Estimate along(Case& with, const GradientConfig& config, std::uint64_t seed, int at_once = 0) {
  ThreadPool pool(1);
  Parameters parameters = with.parameters();
  auto source = GradientSource::create(parameters, config, with.sizes(at_once), pool);
  REQUIRE_OK(source);
  auto estimate = (*source)->estimate(with.batch(), seed);
  REQUIRE_OK(estimate);
  CHECK(estimate->dense.empty());
  // Central differences move values below 0.5 and bring them back: three roundings of 1.5e-8 for each direction.
  for (std::size_t i = 0; i < with.start.size(); ++i) {
    REQUIRE(std::abs(parameters.values()[i] - with.start[i]) < 5e-8F * static_cast<float>(config.directions_used()));
  }
  return *std::move(estimate);
}

std::vector<float> direction_of(std::uint64_t seed, std::size_t size) {
  std::vector<float> v(size);
  const SeededTerm unit{.seed = seed, .weight = 1};
  combine({&unit, 1}, 0, v);
  return v;
}

}  // namespace

TEST_CASE("the exact derivative along a direction is the product of gradient and direction, to 1e-4") {
  auto with = stories_case();
  if (!with) return;
  const auto gradient = backprop(*with);
  const auto estimate = along(*with, {.method = Method::forward_gradient, .directions = 8}, 77);
  REQUIRE(estimate.terms.size() == 8);
  for (const SeededTerm& term : estimate.terms) {
    const double expected = dot(gradient, direction_of(term.seed, gradient.size()));
    CHECK(8.0 * static_cast<double>(term.weight) == doctest::Approx(expected).epsilon(1e-4).scale(l2_norm(gradient)));
  }
}

TEST_CASE("central differences agree with exact derivatives, to what their step and rounding allow") {
  auto with = stories_case();
  if (!with) return;
  const auto exact = along(*with, {.method = Method::forward_gradient, .directions = 8}, 78);
  for (const Method method : {Method::forward_gradient, Method::zeroth_order}) {
    const auto central =
        along(*with, {.method = method, .derivative = Derivative::central, .directions = 8, .epsilon = 3e-3}, 78);
    REQUIRE(central.terms.size() == 8);
    for (std::size_t k = 0; k < 8; ++k) {
      CHECK(central.terms[k].seed == exact.terms[k].seed);
      // The third derivative's term is h^2 f'''/6; a loss of 6 nats has 24 bits: 1e-6 / 3e-3.
      CHECK(8 * central.terms[k].weight == doctest::Approx(8 * exact.terms[k].weight).epsilon(0.02).scale(0.1));
    }
    CHECK(central.loss.mean() == doctest::Approx(exact.loss.mean()).epsilon(1e-3));
  }
}

TEST_CASE("the mean of many forward gradients is backprop's gradient, within its standard error") {
  auto with = stories_case();
  if (!with) return;
  constexpr int N = 400;
  const auto gradient = backprop(*with);
  const std::size_t P = gradient.size();
  const auto estimate = along(*with, {.method = Method::forward_gradient, .directions = N}, 1234);
  std::vector<double> sum(P), squares(P);
  std::vector<double> on_gradient;  // each sample's component along the true gradient's direction
  const double norm = l2_norm(gradient);
  for (const SeededTerm& term : estimate.terms) {
    auto sample = direction_of(term.seed, P);
    for (std::size_t i = 0; i < P; ++i) {
      sample[i] *= N * term.weight;
      sum[i] += static_cast<double>(sample[i]);
      squares[i] += static_cast<double>(sample[i]) * static_cast<double>(sample[i]);
    }
    on_gradient.push_back(dot(sample, gradient) / norm);
  }
  // Element by element: (mean - g) / standard error has mean square 1; P of them, not independent, so 10% is generous.
  double z2 = 0;
  for (std::size_t i = 0; i < P; ++i) {
    const double mean = sum[i] / N;
    const double error = std::sqrt((squares[i] / N - mean * mean) / (N - 1));
    z2 += std::pow((mean - static_cast<double>(gradient[i])) / error, 2) / static_cast<double>(P);
  }
  CHECK(z2 == doctest::Approx(1).epsilon(0.1));
  // Where the signal is: its length, with a standard error of |g| sqrt(2 / N) = 7%, which tells it from 0 and from 2
  // |g|.
  const double mean = std::accumulate(on_gradient.begin(), on_gradient.end(), 0.0) / N;
  double variance = 0;
  for (const double x : on_gradient) variance += (x - mean) * (x - mean) / (N - 1);
  const double error = std::sqrt(variance / N);
  CHECK(error < 0.1 * norm);
  CHECK(std::abs(mean - norm) < 3 * error);
}

TEST_CASE("a MeZO step is the step that a hand computes from the same seed") {
  auto with = stories_case();
  if (!with) return;
  const double lr = 0.05;
  const float epsilon = 0.01F;
  TrainConfig config;
  config.gradient = {.method = Method::zeroth_order, .epsilon = static_cast<double>(epsilon)};
  config.optimizer.kind = OptimizerKind::sgd;
  config.lr = lr;
  config.batch = 2;
  config.steps = 1;
  config.seed = 21;
  ThreadPool pool(1);
  auto trainer = LocalTrainer::create(*with->model, with->spec, with->start, with->rows, config, pool, tiny::kClock);
  REQUIRE_OK(trainer);
  REQUIRE_OK((*trainer)->step());

  // By hand: the step's seed, its one direction element by element, two losses at copies of the weights.
  const std::uint64_t step_seed = derive_seed(derive_seed(21, 0x646972), 0);
  const CounterRng z(derive_seed(step_seed, 0), 0x4449524543544E);
  std::vector<float> above = with->start, below = with->start;
  for (std::size_t i = 0; i < above.size(); ++i) {
    above[i] += epsilon * z.normal(i);
    below[i] -= epsilon * z.normal(i);
  }
  auto engine = model::Engine::create(*with->model, {.batch_max = 2, .seq_max = with->longest}, pool);
  REQUIRE_OK(engine);
  const auto loss_at = [&](const std::vector<float>& values) {
    const auto view = flat_view(with->spec, with->model->linear_sites(), with->model->config().hidden_size, values);
    const auto loss = (*engine)->loss(with->batch(), with->spec, view);
    REQUIRE_OK(loss);
    return loss->mean();
  };
  const double g = (loss_at(above) - loss_at(below)) / (2 * static_cast<double>(epsilon));
  CHECK(std::abs(g) > 0.01);
  for (std::size_t i = 0; i < with->start.size(); ++i) {
    const double expected = static_cast<double>(with->start[i]) - lr * g * static_cast<double>(z.normal(i));
    // Losses of 6 nats differ by roundings of 1e-6 between the two ways: 1e-6 / (2 eps) * lr * |z|.
    REQUIRE(std::abs(static_cast<double>((*trainer)->values()[i]) - expected) < 2e-5);
  }
}

TEST_CASE("gradients accumulated over micro-batches are the large batch's, however many targets each has") {
  Case with = tiny_case();
  const auto whole = backprop(with);
  double largest = 0;
  for (const float g : whole) largest = std::max(largest, std::abs(static_cast<double>(g)));
  for (const int at_once : {1, 2, 4, 5}) {
    const auto parts = backprop(with, at_once);
    // The same products summed in another order: some hundred float additions.
    for (std::size_t i = 0; i < whole.size(); ++i) {
      REQUIRE(std::abs(static_cast<double>(parts[i]) - static_cast<double>(whole[i])) < 3e-6 * largest);
    }
    for (const auto& config : {GradientConfig{.method = Method::forward_gradient, .directions = 3},
                               GradientConfig{.method = Method::zeroth_order, .directions = 3}}) {
      const auto a = along(with, config, 5);
      const auto b = along(with, config, 5, at_once);
      CHECK(a.loss.mean() == doctest::Approx(b.loss.mean()).epsilon(1e-6));
      CHECK(a.loss.targets == b.loss.targets);
      for (std::size_t k = 0; k < 3; ++k) {
        CHECK(a.terms[k].weight == doctest::Approx(b.terms[k].weight).epsilon(1e-3).scale(0.01));
      }
    }
  }
  // Parts averaged without regard to their targets would be something else: the rows differ in length.
  std::vector<float> naive(whole.size());
  for (const TokenRow& row : with.rows) {
    Case one(with.model, {row}, "");
    const auto g = backprop(one);
    for (std::size_t i = 0; i < naive.size(); ++i) naive[i] += g[i] / static_cast<float>(with.rows.size());
  }
  double apart = 0;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    apart = std::max(apart, std::abs(static_cast<double>(naive[i]) - static_cast<double>(whole[i])));
  }
  CHECK(apart > 1e-3 * largest);
}

TEST_CASE("positions without a target add nothing to loss or gradient, whatever the model says there") {
  Case with = tiny_case();
  // Masked by hand: the loss of each target alone, weighted; a mask must give the mean over those it leaves.
  const TokenRow row = with.rows[0];
  REQUIRE(row.ids.size() >= 5);
  TokenRow masked = row, first = row, second = row;
  for (std::size_t t = 0; t < row.targets.size(); ++t) {
    if (t != 1) first.targets[t] = data::kNoTarget;
    if (t != 4) second.targets[t] = data::kNoTarget;
    if (t != 1 && t != 4) masked.targets[t] = data::kNoTarget;
  }
  Case both(with.model, {masked}, ""), a(with.model, {first}, ""), b(with.model, {second}, "");
  const auto g = backprop(both), ga = backprop(a), gb = backprop(b);
  for (std::size_t i = 0; i < g.size(); ++i)
    REQUIRE(g[i] == doctest::Approx((ga[i] + gb[i]) / 2).epsilon(1e-3).scale(1e-3));
}

TEST_CASE("gradients without backprop run in the memory of inference") {
  const Case with = tiny_case();
  const auto plan = [&](const GradientConfig& config) {
    return model::plan_memory(with.model->config(), with.spec, with.model->linear_sites(),
                              config.engine(4, with.longest, 0), 0)
        .buffers_bytes;
  };
  const model::EngineOptions evaluation{.batch_max = 4, .seq_max = with.longest};
  const auto inference =
      model::plan_memory(with.model->config(), with.spec, with.model->linear_sites(), evaluation, 0).buffers_bytes;
  CHECK(plan({.method = Method::zeroth_order}) == inference);
  CHECK(plan({.method = Method::forward_gradient, .derivative = Derivative::central}) == inference);
  CHECK(plan({.method = Method::forward_gradient}) <= inference + inference / 10);  // half of the rows at a time
  CHECK(2 * plan({}) > 3 * inference);                                              // already with two layers
}

TEST_CASE("directions are added until the halves' mean gradients agree, or the bound is reached") {
  Case with = tiny_case();
  const GradientConfig free{.method = Method::forward_gradient, .directions = 4, .directions_max = 32};
  CHECK(along(with, free, 9).terms.size() == 4);
  GradientConfig bound = free;
  bound.variance_max = 1e-12;  // out of reach
  const auto most = along(with, bound, 9);
  CHECK(most.terms.size() == 32);
  std::vector<SeededTerm> raw = most.terms;
  for (auto& term : raw) term.weight *= 32;
  const auto P = static_cast<std::int64_t>(with.start.size());
  const double after_8 = variance_between_halves(std::span(raw).first(8), 0, P);
  const double after_16 = variance_between_halves(std::span(raw).first(16), 0, P);
  CHECK(after_16 < after_8);  // the mean settles
  bound.variance_max = after_16 * 1.01;
  CHECK(along(with, bound, 9).terms.size() <= 16);

  // By hand, on two values: halves {1 z0, 2 z1} and {3 z2, -1 z3}.
  const std::vector<SeededTerm> terms{{10, 1}, {11, 2}, {12, 3}, {13, -1}};
  double expected = 0;
  for (std::size_t i = 0; i < 2; ++i) {
    double mean[2] = {};
    for (std::size_t k = 0; k < 4; ++k) {
      mean[k / 2] += static_cast<double>(terms[k].weight) * static_cast<double>(direction_of(terms[k].seed, 2)[i]) / 2;
    }
    expected += (mean[0] - mean[1]) * (mean[0] - mean[1]) / 2 / 2;
  }
  CHECK(variance_between_halves(terms, 0, 2) == doctest::Approx(expected).epsilon(1e-5));
}

TEST_CASE("whole models train by central differences, and not by exact ones") {
  const auto model = tiny::lora_setup().model;
  ThreadPool pool(2);
  TrainConfig config = tiny::config_of(60);
  config.gradient = {.method = Method::zeroth_order, .directions = 8};
  config.lr = 0.005;
  const auto rows = tiny::counting_rows(6);
  auto trainer = LocalTrainer::create_full(*model, rows, config, pool, tiny::kClock);
  REQUIRE_OK(trainer);
  REQUIRE_OK((*trainer)->run());
  CHECK((*trainer)->report().last_loss < (*trainer)->report().first_loss - 0.05);
  config.gradient = {.method = Method::forward_gradient};
  auto refused = LocalTrainer::create_full(*model, rows, config, pool, tiny::kClock);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.error().message.find("central") != std::string::npos);
}

TEST_CASE("zeroth-order-sign goes along the same directions as zeroth-order, by the derivatives' signs") {
  auto with = stories_case();
  if (!with) return;
  auto values = along(*with, {.method = Method::zeroth_order, .directions = 6}, 5);
  auto signs = along(*with, {.method = Method::zeroth_order, .directions = 6, .name = "zeroth-order-sign"}, 5);
  REQUIRE(signs.terms.size() == 6);
  for (std::size_t k = 0; k < 6; ++k) {
    CHECK(signs.terms[k].seed == values.terms[k].seed);
    CHECK(signs.terms[k].weight == std::copysign(1.0F / 6, values.terms[k].weight));
  }
}

TEST_CASE("settings that a method does not have are named") {
  CHECK(GradientConfig{.directions = 2}.check().error().message.find("directions") == 0);
  CHECK(GradientConfig{.method = Method::zeroth_order, .variance_max = 1}.check().error().message.find(
            "variance_max") == 0);
  CHECK(GradientConfig{.method = Method::zeroth_order, .epsilon = -1}.check().error().message.find("epsilon") == 0);
  CHECK(GradientConfig{.method = Method::zeroth_order, .checkpoint_activations = true}.check().error().message.find(
            "checkpoint_activations") == 0);
  for (const auto& name : method_names()) CHECK(to_string(*method_named(name)) == name);
  CHECK_FALSE(method_named("backpropagation").has_value());
  for (const auto& name : plan_method_names()) CHECK(plan_method_named(name).has_value());
  for (const auto& name : method_names()) CHECK(plan_method_named(name)->method == *method_named(name));
  CHECK(plan_method_named("forward-gradient")->derivative == Derivative::exact);
  CHECK(plan_method_named("forward-gradient-central")->derivative == Derivative::central);
  CHECK_FALSE(plan_method_named("forward").has_value());
  CHECK(GradientConfig{.name = "forward"}.check().error().message.find("name") == 0);
  CHECK(GradientConfig{.name = "zeroth-order"}.check().error().message.find("name") == 0);
  CHECK(GradientConfig{.method = Method::forward_gradient, .name = "forward-gradient-central"}
            .check()
            .error()
            .message.find("name") == 0);
}

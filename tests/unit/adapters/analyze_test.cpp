// Which layers to train: names, ranks, budgets; and on trained weights, that the ranks mean something.
#include "adapters/analyze.h"

#include <algorithm>
#include <map>

#include "adapters/train_choice.h"
#include "adapters/workbench.h"
#include "core/train/local_trainer.h"
#include "support/support.h"
#include "unit/adapters/tiny_config.h"

using namespace covey;
using namespace covey::adapters;

namespace {

const SystemClock kClock;

struct Stories {
  Workbench bench;
  Adapter adapter;  ///< fresh, on every linear layer
  std::vector<train::TokenRow> rows;
  train::TrainConfig config;
};

/// stories260K, and lines about something that it has never read.
std::optional<Stories> stories() {
  const auto path = test::data_path("stories260K/stories260K.bin");
  if (!path) return std::nullopt;
  Stories out;
  auto bench = open_workbench(*path);
  REQUIRE_OK(bench);
  out.bench = *std::move(bench);
  auto adapter = Adapter::create_lora(*out.bench.model, {.target_modules = {"all-linear"}}, 1);
  REQUIRE_OK(adapter);
  out.adapter = *std::move(adapter);
  std::vector<std::string> lines;
  const char* const goods[] = {"copper", "grain", "crude oil", "cotton"};
  for (int i = 0; i < 24; ++i) {
    lines.push_back("Shares of " + std::string(goods[i % 4]) + " fell " + std::to_string(i % 7 + 1) +
                    " percent in early trading on Monday as analysts cut their quarterly forecasts.");
  }
  out.rows = text_rows(*out.bench.tokenizer, lines, 64);
  out.config.batch = 24;  // all of them
  out.config.seq = 64;
  out.config.steps = 12;
  out.config.seed = 1;
  return out;
}

/// Loss at the last of a few plain steps where all layers but one train.
double loss_without(const Stories& with, int layer) {
  model::AdapterSpec spec = with.adapter.spec();
  const auto& sites = with.bench.model->linear_sites();
  for (auto& lora : spec.lora) {
    lora.train_a = lora.train_b = sites[static_cast<std::size_t>(lora.site)].layer != layer;
  }
  train::TrainConfig config = with.config;
  config.optimizer = {.kind = train::OptimizerKind::sgd};
  config.lr = 0.01;
  ThreadPool pool(2);
  auto trainer =
      train::LocalTrainer::create(*with.bench.model, spec, {with.adapter.values().begin(), with.adapter.values().end()},
                                  with.rows, config, pool, kClock);
  REQUIRE_OK(trainer);
  REQUIRE_OK((*trainer)->run());
  return (*trainer)->report().last_loss;
}

}  // namespace

TEST_CASE("on stories260K, training without the top-ranked layer loses more than without the bottom-ranked one") {
  const auto with = stories();
  if (!with) return;
  ThreadPool pool(2);
  const auto parts = contributions(*with->bench.model, with->adapter, with->rows, with->config, 16, pool);
  REQUIRE_OK(parts);
  std::map<int, double> layers;
  for (const auto& part : *parts) {
    CHECK(part.a == 0);  // B is zero at the start
    CHECK(part.b > 0);
    layers[with->bench.model->linear_sites()[static_cast<std::size_t>(part.site)].layer] += part.total();
  }
  REQUIRE(layers.size() == 5);
  const auto by_worth = [](const auto& x, const auto& y) { return x.second < y.second; };
  const auto top = std::max_element(layers.begin(), layers.end(), by_worth);
  const auto bottom = std::min_element(layers.begin(), layers.end(), by_worth);
  const double without_top = loss_without(*with, top->first);
  const double without_bottom = loss_without(*with, bottom->first);
  MESSAGE("without layer " << top->first << ": " << without_top << ", without layer " << bottom->first << ": "
                           << without_bottom);
  CHECK(without_top > without_bottom + 0.01);
}

TEST_CASE("contributions are the squared gradients of the batches, averaged, in any number of parts") {
  const auto with = stories();
  if (!with) return;
  ThreadPool pool(1);
  train::TrainConfig parts = with->config;
  parts.batch = 8;
  parts.micro_batch = 3;
  train::TrainConfig at_once = parts;
  at_once.micro_batch = 0;
  const auto whole = contributions(*with->bench.model, with->adapter, with->rows, at_once, 2, pool);
  const auto split = contributions(*with->bench.model, with->adapter, with->rows, parts, 2, pool);
  REQUIRE_OK(whole);
  REQUIRE_OK(split);
  for (std::size_t i = 0; i < whole->size(); ++i) {
    CHECK((*whole)[i].total() == doctest::Approx((*split)[i].total()).epsilon(1e-3));
  }
}

TEST_CASE("the best part fits its budget, and a smaller budget never holds more") {
  const auto with = stories();
  if (!with) return;
  ThreadPool pool(2);
  const auto& model = *with->bench.model;
  const auto& spec = with->adapter.spec();
  const auto parts = contributions(model, with->adapter, with->rows, with->config, 4, pool);
  REQUIRE_OK(parts);
  const auto all = best_subset(model, spec, *parts, with->config, 64, 0);
  REQUIRE_OK(all);
  CHECK(all->sites.size() == spec.lora.size());
  CHECK(all->bytes == train::memory_plan(model, spec, with->config, 64).total());
  double before = all->contribution;
  std::uint64_t bytes = all->bytes;
  int fitted = 0;
  for (int i = 0; i < 8; ++i) {
    bytes -= bytes / 12;
    const auto best = best_subset(model, spec, *parts, with->config, 64, bytes);
    if (!best.ok()) {
      CHECK(best.error().code == ErrorCode::resource_exhausted);
      break;
    }
    ++fitted;
    CHECK(best->bytes <= bytes);
    CHECK(best->contribution <= before);
    CHECK(best->sites.size() < spec.lora.size());
    CHECK(train::memory_plan(model, only(spec, best->sites), with->config, 64).total() == best->bytes);
    before = best->contribution;
  }
  CHECK(fitted >= 2);
  const auto nothing = best_subset(model, spec, *parts, with->config, 64, 1);
  REQUIRE_FALSE(nothing.ok());
  CHECK(nothing.error().message.find("MiB") != std::string::npos);
}

TEST_CASE("layers and tensors are chosen by the names that adapters have, and misspelt ones are named") {
  std::vector<model::LinearSite> sites;
  for (int layer = 0; layer < 3; ++layer) {
    for (const char* leaf : {"q_proj", "v_proj"}) {
      sites.push_back({layer, "model.layers." + std::to_string(layer) + ".self_attn." + leaf, leaf, 8, 8});
    }
  }
  const LoraOptions options{.target_modules = {"all-linear"}};
  const auto paths = [&](const TrainChoice& choice) {
    const auto layout = chosen_lora_layout(sites, options, choice);
    REQUIRE_OK(layout);
    std::string out;
    for (const auto& entry : layout->lora) out += entry.path.substr(13, 1) + entry.path.substr(25, 1) + " ";
    return out;
  };
  CHECK(paths({}) == "0q 0v 1q 1v 2q 2v ");
  CHECK(paths({.layers = {2, 0}}) == "0q 0v 2q 2v ");
  CHECK(paths({.layers = {1, 2}, .tensors = {"v_proj"}}) == "1v 2v ");
  CHECK(paths({.layers = {}, .tensors = {"layers.1.self_attn.q_proj", "v_proj.lora_B"}}) == "0v 1q 1v 2v ");

  const auto layout = lora_layout(sites, options);
  REQUIRE_OK(layout);
  const auto spec = layout->bind(sites);
  REQUIRE_OK(spec);
  model::AdapterSpec frozen = *spec;
  REQUIRE_OK(freeze_rest(frozen, sites, {.layers = {1}, .tensors = {"lora_B", "q_proj"}}));
  CHECK(frozen.lora[2].train_a);
  CHECK(frozen.lora[2].train_b);
  CHECK_FALSE(frozen.lora[3].train_a);
  CHECK(frozen.lora[3].train_b);
  for (const std::size_t other : {0, 1, 4, 5}) CHECK_FALSE(frozen.lora[other].trains());

  const auto why = [&](const TrainChoice& choice) {
    model::AdapterSpec any = *spec;
    const auto status = freeze_rest(any, sites, choice);
    REQUIRE_FALSE(status.ok());
    return status.error().message;
  };
  CHECK(why({.layers = {3}}).find("layer 3") != std::string::npos);
  CHECK(why({.layers = {}, .tensors = {"k_proj"}}).find("k_proj") != std::string::npos);
  CHECK(why({.layers = {0}, .tensors = {"layers.1.self_attn.q_proj"}}).find("nothing would train") !=
        std::string::npos);
}

TEST_CASE("a model's own tensors are chosen by layer, by module and by name") {
  const auto model = model::Model::create(test::tiny_config(), 1);
  REQUIRE_OK(model);
  const auto names = [&](const TrainChoice& choice) {
    const auto flags = chosen_tensors(**model, choice);
    REQUIRE_OK(flags);
    std::vector<std::string> out;
    const auto tensors = (*model)->tensors();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if ((*flags)[i] != 0) out.push_back(tensors[i].name);
    }
    return out;
  };
  CHECK(names({}).size() == (*model)->tensors().size());
  CHECK(names({.layers = {1}, .tensors = {"v_proj"}}) ==
        std::vector<std::string>{"model.layers.1.self_attn.v_proj.weight"});
  CHECK(names({.layers = {}, .tensors = {"model.norm", "embed_tokens.weight"}}).size() == 2);
  CHECK(names({.layers = {0}}).size() == 9);
  CHECK_FALSE(chosen_tensors(**model, {.layers = {2}}).ok());
}

#include "adapters/layout.h"

#include <cmath>

#include "support/support.h"

using namespace covey;
using namespace covey::adapters;

namespace {

std::vector<model::LinearSite> sites() {
  std::vector<model::LinearSite> out;
  for (int layer = 0; layer < 3; ++layer) {
    const std::string block = "model.layers." + std::to_string(layer) + ".";
    out.push_back({layer, block + "self_attn.q_proj", "q_proj", 16, 24});
    out.push_back({layer, block + "self_attn.v_proj", "v_proj", 16, 8});
    out.push_back({layer, block + "mlp.down_proj", "down_proj", 40, 16});
  }
  out.push_back({-1, "lm_head", "lm_head", 16, 100});
  return out;
}

AdapterLayout layout_of(const LoraOptions& options) {
  auto layout = lora_layout(sites(), options);
  REQUIRE_OK(layout);
  return *layout;
}

LoraOptions targets(std::vector<std::string> names) {
  LoraOptions options;
  options.target_modules = std::move(names);
  return options;
}

}  // namespace

TEST_CASE("targets are leaf names, ends of paths, or every linear layer but the head") {
  CHECK(layout_of(targets({"q_proj", "v_proj"})).lora.size() == 6);
  CHECK(layout_of(targets({"self_attn.v_proj"})).lora.size() == 3);
  CHECK(layout_of(targets({"layers.1.self_attn.q_proj"})).lora.front().path == "model.layers.1.self_attn.q_proj");
  CHECK(layout_of(targets({"all-linear"})).lora.size() == 9);
  CHECK(layout_of(targets({"lm_head"})).lora.size() == 1);
  CHECK_FALSE(lora_layout(sites(), targets({"proj"})).ok());  // the end of a leaf is not a name
  const auto unknown = lora_layout(sites(), targets({"q_proj", "k_proj"}));
  REQUIRE_FALSE(unknown.ok());
  CHECK(unknown.error().message.find("\"k_proj\" names no linear layer; there are down_proj, lm_head, q_proj") !=
        std::string::npos);
}

TEST_CASE("the flat layout puts A before B, site after site, and counts P") {
  LoraOptions options = targets({"q_proj", "v_proj"});
  options.rank = 4;
  const AdapterLayout layout = layout_of(options);
  CHECK(layout.lora[0].offset == 0);
  CHECK(layout.lora[1].offset == 4 * (16 + 24));
  CHECK(layout.size == 3 * 4 * (16 + 24 + 16 + 8));
  const auto spec = layout.bind(sites());
  REQUIRE_OK(spec);
  CHECK(spec->lora[1].site == 1);
  CHECK(spec->lora[1].scale == 4.0F);
}

TEST_CASE("rank and alpha patterns hold for the layers they name, the longest name first") {
  LoraOptions options = targets({"q_proj"});
  options.rank_pattern = {{"q_proj", 2}, {"layers.2.self_attn.q_proj", 6}};
  options.alpha_pattern = {{"layers.0.self_attn.q_proj", 3}};
  const AdapterLayout layout = layout_of(options);
  CHECK(layout.lora[0].rank == 2);
  CHECK(layout.lora[2].rank == 6);
  CHECK(layout.lora[0].alpha == 3);
  CHECK(layout.lora[1].alpha == 16);
}

TEST_CASE("rsLoRA scales by the root of the rank") {
  LoraOptions options = targets({"q_proj"});
  options.rank = 16;
  options.use_rslora = true;
  CHECK(layout_of(options).lora[0].scale() == 4.0F);
}

TEST_CASE("the canonical text reads back to the same layout and to nothing else") {
  LoraOptions options = targets({"all-linear"});
  options.alpha = 0.1;
  const AdapterLayout layout = layout_of(options);
  const std::string text = layout.canonical();
  const auto again = AdapterLayout::parse(text);
  REQUIRE_OK(again);
  CHECK(*again == layout);
  CHECK(again->size == layout.size);
  CHECK(text.find("lora model.layers.0.self_attn.q_proj 16 24 8 0.1 plain\n") != std::string::npos);
}

TEST_CASE("texts that are not canonical are refused") {
  const std::string good = "covey-adapter 1\nlora a.b 16 24 8 16 plain\n";
  REQUIRE_OK(AdapterLayout::parse(good));
  for (const char* bad :
       {"", "covey-adapter 1\n", "covey-adapter 2\nlora a.b 16 24 8 16 plain\n",
        "covey-adapter 1\nlora a.b 16 24 8 16 plain", "covey-adapter 1\nlora a.b 16 24 8 16.0 plain\n",
        "covey-adapter 1\nlora a.b 16 24 8 16  plain\n", "covey-adapter 1\nlora a.b 16 24 0 16 plain\n",
        "covey-adapter 1\nlora a.b 16 24 -1 16 plain\n", "covey-adapter 1\nlora a.b 16 24 8 nan plain\n",
        "covey-adapter 1\nlora a.b 16 24 8 inf plain\n", "covey-adapter 1\nlora a.b 16 24 8 -4 plain\n",
        "covey-adapter 1\nlora a.b 99999999999 24 8 16 plain\n", "covey-adapter 1\nlora a/b 16 24 8 16 plain\n",
        "covey-adapter 1\nlora a.b 16 24 8 16 other\n",
        "covey-adapter 1\nlora a.b 16 24 8 16 plain\nlora a.b 16 24 8 16 plain\n",
        "covey-adapter 1\nlora a.b 1048576 1048576 1024 16 plain\n", "covey-adapter 1\nlora a.b +16 24 8 16 plain\n"}) {
    CAPTURE(bad);
    const auto result = AdapterLayout::parse(bad);
    REQUIRE_FALSE(result.ok());
    CHECK(result.error().code == ErrorCode::corrupt_data);
  }
  CHECK_FALSE(AdapterLayout::parse(std::string(kLayoutTextMax + 1, 'x')).ok());
}

TEST_CASE("a layout does not bind to a model with other layers or other shapes") {
  const AdapterLayout layout = layout_of(targets({"q_proj"}));
  auto other = sites();
  other[3].in = 17;
  CHECK(layout.bind(other).error().message.find("24x16 in the adapter and 24x17 in the model") != std::string::npos);
  other.erase(other.begin());
  CHECK(layout.bind(other).error().message.find("another model") != std::string::npos);
}

TEST_CASE("a classifier's head lies after the LoRA by its names, and binds to that head alone") {
  const std::vector<float> weight(12, 1.5F), bias(3, 0.5F);
  std::vector<model::HeadParameter> head = {{"classifier.weight", {3, 4}, 0, weight},
                                            {"classifier.bias", {3}, 12, bias}};
  LoraOptions options = targets({"q_proj"});
  CHECK(lora_layout(sites(), options, head)->head.empty());
  options.train_head = true;
  const auto made = lora_layout(sites(), options, head);
  REQUIRE_OK(made);
  const std::int64_t lora = layout_of(targets({"q_proj"})).size;
  CHECK(made->size == lora + 15);
  CHECK(made->head[1].offset == lora + 12);
  CHECK(made->canonical().ends_with("head classifier.weight 3 4\nhead classifier.bias 3\n"));
  const auto back = AdapterLayout::parse(made->canonical());
  REQUIRE_OK(back);
  CHECK(*back == *made);
  CHECK(back->size == made->size);
  const auto spec = made->bind(sites(), head);
  REQUIRE_OK(spec);
  CHECK(spec->head_values == 15);
  CHECK(made->bind(sites()).error().message.find("head") != std::string::npos);
  head[1].shape = {4};
  CHECK_FALSE(made->bind(sites(), head).ok());
  CHECK(lora_layout(sites(), options).error().message.find("no classification head") != std::string::npos);
  for (const std::string bad : {"head a", "head a 0", "head a 2 2 2", "head a/b 2", "head a 1048577",
                                "head a 2\nhead a 2", "head a 2\nlora a.b 16 24 8 16 plain", "head a 2 "}) {
    CAPTURE(bad);
    CHECK_FALSE(AdapterLayout::parse("covey-adapter 1\nlora m.n 16 24 8 16 plain\n" + bad + "\n").ok());
  }
}

TEST_CASE("the default targets are the query and value projections, whatever they are called") {
  CHECK(default_targets(sites()) == std::vector<std::string>{"q_proj", "v_proj"});
  const std::vector<model::LinearSite> bert = {{0, "a.query", "query", 4, 4}, {0, "a.value", "value", 4, 4}};
  CHECK(default_targets(bert) == std::vector<std::string>{"query", "value"});
  const std::vector<model::LinearSite> odd = {{0, "a.mix", "mix", 4, 4}};
  CHECK(default_targets(odd) == std::vector<std::string>{"all-linear"});
}

TEST_CASE("A starts uniform within 1/sqrt(in), B at zero, and a site's A does not depend on the others") {
  LoraOptions options = targets({"all-linear"});
  options.rank = 64;
  const AdapterLayout layout = layout_of(options);
  const std::vector<float> values = initial_values(layout, 9);
  CHECK(values == initial_values(layout, 9));
  CHECK(values != initial_values(layout, 10));
  for (const auto& entry : layout.lora) {
    const double bound = 1 / std::sqrt(entry.in);
    double sum = 0, squares = 0;
    for (std::int64_t i = 0; i < entry.a_size(); ++i) {
      const double x = values[static_cast<std::size_t>(entry.offset + i)];
      REQUIRE(std::abs(x) < bound);
      sum += x;
      squares += x * x;
    }
    const auto n = static_cast<double>(entry.a_size());
    CHECK(std::abs(sum / n) < 5 * bound / std::sqrt(3 * n));                 // five standard errors
    CHECK(squares / n == doctest::Approx(bound * bound / 3).epsilon(0.15));  // the variance of a uniform
    for (std::int64_t i = 0; i < entry.b_size(); ++i) {
      REQUIRE(values[static_cast<std::size_t>(entry.offset + entry.a_size() + i)] == 0.0F);
    }
  }
  options.target_modules = {"v_proj"};
  const AdapterLayout alone = layout_of(options);
  const std::vector<float> alone_values = initial_values(alone, 9);
  const auto& entry = layout.lora[1];
  REQUIRE(entry.path == alone.lora[0].path);
  CHECK(std::vector<float>(alone_values.begin(), alone_values.begin() + alone.lora[0].a_size()) ==
        std::vector<float>(values.begin() + entry.offset, values.begin() + entry.offset + entry.a_size()));
}

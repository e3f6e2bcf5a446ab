#include "adapters/choices.h"

#include "core/text/bpe_train.h"
#include "core/text/pipeline.h"
#include "core/train/evaluate.h"
#include "support/support.h"

using namespace covey;  // NOLINT
using adapters::Classification;

namespace {

struct World {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<model::Model> model;
};

World world() {
  World out;
  out.tokenizer = text::make_tokenizer(*text::train_bpe("the lamp is on the lamp is off", 270)).value();
  model::ModelConfig config;
  config.layers = 2;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.heads = config.kv_heads = 2;
  config.head_dim = 8;
  config.vocab_size = out.tokenizer->vocab_size();
  config.context_max = 32;
  auto model = model::Model::create(config, 4);
  REQUIRE_OK(model);
  out.model = *model;
  return out;
}

}  // namespace

TEST_CASE("accuracy and macro F1 are what their definitions say") {
  // Of a: 2 true, 1 found, and once said of b. b: 2 true, 1 found. c: 1 true, never said. d: never at all.
  const Classification c{.labels = {"a", "b", "c", "d"}, .truth = {0, 0, 1, 1, 2}, .predicted = {0, 1, 1, 0, 0}};
  CHECK(c.counts().accuracy() == doctest::Approx(2.0 / 5));
  const double a = 2.0 / (2 + 3), b = 2.0 / (2 + 2);
  CHECK(c.counts().macro_f1() == doctest::Approx((a + b + 0) / 3));
  CHECK(Classification{}.counts().macro_f1() == 0);
}

TEST_CASE("the label with the least loss is predicted") {
  const World w = world();
  ThreadPool pool(1);
  const std::vector<data::Example> examples = {
      {.prompt = "the lamp", .text = " on"}, {.prompt = "is", .text = " off"}, {.prompt = "lamp", .text = " is here"}};
  const auto found = adapters::classify(*w.model, {}, {}, *w.tokenizer, examples, {.seq = 32}, pool);
  REQUIRE_OK(found);
  CHECK(found->labels == std::vector<std::string>{" is here", " off", " on"});
  CHECK(found->truth == std::vector<int>{2, 1, 0});
  for (std::size_t i = 0; i < examples.size(); ++i) {
    std::vector<double> losses;  // by the evaluation, which knows nothing of labels
    for (const auto& label : found->labels) {
      const std::vector rows = {data::tokenize(*w.tokenizer, {.prompt = examples[i].prompt, .text = label}, 32)};
      const auto one = train::evaluate(*w.model, {}, {}, rows, {.seq = 32}, pool);
      REQUIRE_OK(one);
      losses.push_back(one->loss * static_cast<double>(one->tokens));
    }
    CHECK(found->predicted[i] == std::min_element(losses.begin(), losses.end()) - losses.begin());
  }
}

TEST_CASE("files that are no classification are refused with the example's number") {
  const World w = world();
  ThreadPool pool(1);
  const auto refused = [&](const std::vector<data::Example>& examples, std::string_view says, int seq = 32) {
    const auto result = adapters::classify(*w.model, {}, {}, *w.tokenizer, examples, {.seq = seq}, pool);
    REQUIRE_FALSE(result.ok());
    CAPTURE(result.error().message);
    CHECK(result.error().message.find(says) != std::string::npos);
    CHECK(exit_code(result.error()) == 2);
  };
  refused({{.prompt = "a", .text = "b"}, {.prompt = "", .text = "c"}}, "example 2");
  refused({{.prompt = "a", .text = "b"}, {.prompt = "x", .text = "b"}}, "nothing to choose");
  refused({{.prompt = std::string(60, 'x'), .text = "b"}, {.prompt = "x", .text = "c"}}, "example 1 is longer");
  refused({{.prompt = "a", .text = "b"}, {.prompt = "x", .text = "c"}}, "seq", 1);
  std::vector<data::Example> many;
  for (std::size_t i = 0; i <= adapters::kLabelsMax; ++i) many.push_back({.prompt = "p", .text = std::to_string(i)});
  refused(many, "they are no labels");
}

#include <algorithm>
#include <cmath>

#include "core/base/file.h"
#include "core/formats/llama2c.h"
#include "tests/unit/model/tiny.h"

namespace covey::model {

TEST_CASE("Decoding token by token gives the logits of the whole row, with window, LoRA and prompt") {
  auto config = tiny::config();
  config.family = "mistral";
  config.window.assign(2, 5);
  const auto model = tiny::model(config);
  auto adapter = tiny::lora(*model, {0, 2, 6, 9}, 2);
  adapter.spec.prompt_tokens = 2;
  adapter.prompt.resize(24);
  CounterRng(3).fill_normal(adapter.prompt);
  ThreadPool pool(2);
  EngineOptions options;
  options.seq_max = 20;
  options.batch_max = 1;
  options.prompt_tokens_max = 2;
  const auto engine = tiny::engine(*model, pool, options);
  const auto batch = tiny::batch(1, 20, 19);
  std::vector<float> logits(22 * 19);
  REQUIRE_OK(engine->logits(batch.view(), adapter.spec, adapter.view(), logits));
  const auto decoder = Decoder::create(*model, 20, adapter.spec, adapter.view(), pool);
  REQUIRE_OK(decoder);
  for (std::size_t t = 0; t < 20; ++t) {
    const auto got = decoder.value()->feed(batch.ids[t]);
    REQUIRE_OK(got);
    for (std::size_t v = 0; v < 19; ++v) CHECK(std::abs(got.value()[v] - logits[(t + 2) * 19 + v]) < 2e-5F);
  }
  const auto full = decoder.value()->feed(1);
  REQUIRE_FALSE(full.ok());
  CHECK(full.error().code == ErrorCode::resource_exhausted);
  const auto fresh = Decoder::create(*model, 20, adapter.spec, adapter.view(), pool);
  REQUIRE_OK(fresh);
  CHECK_FALSE(fresh.value()->feed(19).ok());
  CHECK_FALSE(Decoder::create(*model, 63, adapter.spec, adapter.view(), pool).ok());
}

TEST_CASE("what T5 and BART write greedily is what their whole rows say at every position") {
  for (const std::string name : {"t5", "t5_flan", "bart"}) {
    CAPTURE(name);
    const auto path = test::golden_path(name);
    if (!path) return;
    const auto model = Model::load(*path);
    REQUIRE_OK(model);
    const ModelConfig& config = model.value()->config();
    const std::vector<std::int32_t> source = {7, 42, 100, 3, 55, 19, 88, 1};
    ThreadPool pool(2);
    const auto decoder = Decoder::create_for_source(*model.value(), source, 20, {}, {}, pool);
    REQUIRE_OK(decoder);
    std::vector<std::int32_t> second = {config.decoder_start_id};
    std::vector<std::int32_t> written;
    while (written.size() < 20) {
      const auto logits = decoder.value()->feed(second.back());
      REQUIRE_OK(logits);
      written.push_back(static_cast<std::int32_t>(std::ranges::max_element(*logits) - logits->begin()));
      second.push_back(written.back());
    }
    second.pop_back();
    EngineOptions options;
    options.seq_max = static_cast<int>(source.size());
    options.target_seq_max = 20;
    const auto engine = tiny::engine(*model.value(), pool, options);
    const auto V = static_cast<std::size_t>(config.vocab_size);
    std::vector<float> logits(20 * V);
    TokenBatch batch{.B = 1, .T = options.seq_max, .ids = source, .targets = {}, .lengths = {}};
    batch.second_ids = second;
    batch.T2 = 20;
    REQUIRE_OK(engine->logits(batch, {}, {}, logits));
    for (std::size_t t = 0; t < 20; ++t) {
      const auto row = std::span(logits).subspan(t * V, V);
      CHECK(std::ranges::max_element(row) - row.begin() == written[t]);
    }
  }
}

TEST_CASE("stories260K tells the expected story, greedily") {
  const auto path = test::data_path("stories260K/stories260K.bin");
  const auto words = test::data_path("stories260K/tok512.bin");
  const auto expected = test::data_path("stories260K/expected_greedy_200.txt");
  if (!path || !words || !expected) return;
  const auto model = Model::load(*path);
  REQUIRE_OK(model);
  const auto pieces = formats::read_llama2c_tokenizer(*words);
  REQUIRE_OK(pieces);
  ThreadPool pool(1);
  const auto decoder = Decoder::create(*model.value(), 200, {}, {}, pool);
  REQUIRE_OK(decoder);
  std::string text;
  std::int32_t token = 1;
  for (int i = 0; i < 200; ++i) {
    const auto logits = decoder.value()->feed(token);
    REQUIRE_OK(logits);
    const auto best = std::max_element(logits.value().begin(), logits.value().end());
    const bool start = token == 1;
    token = static_cast<std::int32_t>(best - logits.value().begin());
    if (token == 1 || token == 2) break;
    std::string piece = pieces.value()[static_cast<std::size_t>(token)].bytes;
    if (start && piece.starts_with(' ')) piece.erase(0, 1);
    text += piece == "<0x0A>" ? "\n" : piece;
  }
  const auto story = read_text_file(*expected);
  REQUIRE_OK(story);
  CHECK(text == story.value());
}

}  // namespace covey::model

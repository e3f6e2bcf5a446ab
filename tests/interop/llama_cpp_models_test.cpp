// Models and adapters that we write, computed by a real llama.cpp (npm's node-llama-cpp) and by our engine.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>

#include "adapters/convert.h"
#include "adapters/gguf_adapter.h"
#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/base/thread_pool.h"
#include "core/formats/gguf_vocabulary.h"
#include "core/formats/json.h"
#include "core/formats/tokenizer_spec.h"
#include "core/model/engine.h"
#include "core/text/tokenizer.h"
#include "interop/llama_cpp_library.h"
#include "support/support.h"

using namespace covey;            // NOLINT
using namespace covey::adapters;  // NOLINT
using formats::Json;
using Ids = std::vector<std::int32_t>;

namespace {

constexpr int kContext = 256;  // llama_judge.mjs's

struct Question {
  std::string model = {};
  std::string lora = {};
  std::vector<Ids> prompts = {};
  int tokens = 0;
  std::vector<Ids> texts = {};
  std::vector<std::string> strings = {};
};

/// llama_judge.mjs's answers, in order.
std::vector<Json> ask(const std::vector<Question>& questions, const test::TempDir& dir) {
  const auto lists = [](const std::vector<Ids>& all) {
    Json out = Json::array();
    for (const Ids& ids : all) out.push_back(Json(ids));
    return out;
  };
  Json request = Json::array();
  for (const Question& q : questions) {
    request.push_back(Json::object({{"model", q.model},
                                    {"lora", q.lora},
                                    {"prompts", lists(q.prompts)},
                                    {"tokens", q.tokens},
                                    {"texts", lists(q.texts)},
                                    {"strings", Json(q.strings)}}));
  }
  REQUIRE_OK(request.save(dir.file("request.json")));
  const auto result = test::run_command("node '" + test::source_dir() + "/tests/interop/llama_judge.mjs' '" +
                                        interop::node_modules() + "' '" + dir.file("request.json") + "'");
  CAPTURE(result.err);
  REQUIRE(result.exit_code == 0);
  const auto answers = Json::parse(result.out, "llama_judge");
  REQUIRE_OK(answers);
  REQUIRE(answers->size() == questions.size());
  return {answers->items().begin(), answers->items().end()};
}

std::vector<Ids> lists_of(const Json& answer, const char* field) {
  std::vector<Ids> out;
  for (const Json& ids : answer.get_array(field).value()->items()) {
    Ids row;
    for (const Json& id : ids.items()) row.push_back(static_cast<std::int32_t>(id.as_int().value()));
    out.push_back(std::move(row));
  }
  return out;
}

double largest_difference(const std::vector<float>& mine, const Json& answer) {
  const auto logits = answer.get_object("logits");
  REQUIRE_OK(logits);
  REQUIRE((*logits)->size() == mine.size());
  double largest = 0;
  for (std::size_t id = 0; id < mine.size(); ++id) {
    const auto theirs = (*logits)->get_double(std::to_string(id));
    REQUIRE_OK(theirs);
    largest = std::max(largest, std::abs(mine[id] - *theirs));
  }
  return largest;
}

double sum_of(const Json& answer, const char* field) {
  const auto values = answer.get_doubles(field);
  REQUIRE_OK(values);
  double sum = 0;
  for (const double value : *values) sum += value;
  REQUIRE(std::isfinite(sum));
  return sum;
}

/// Our engine on one model, with an adapter or without.
class Ours {
 public:
  explicit Ours(const std::string& path) : pool_(1) {
    auto loaded = model::Model::load(path);
    REQUIRE_OK(loaded);
    model_ = *loaded;
  }
  [[nodiscard]] const model::Model& model() const { return *model_; }
  void attach(const Adapter& adapter) { adapter_ = &adapter; }

  Ids greedy(const Ids& prompt, int tokens) {
    const auto decoder = start();
    std::span<const float> logits;
    for (const auto id : prompt) logits = feed(*decoder, id);
    Ids out;
    while (static_cast<int>(out.size()) < tokens) {
      out.push_back(static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      logits = feed(*decoder, out.back());
    }
    return out;
  }
  std::vector<float> logits(const Ids& prompt) {
    const auto decoder = start();
    std::span<const float> row;
    for (const auto id : prompt) row = feed(*decoder, id);
    return {row.begin(), row.end()};
  }
  double minus_log_probability(const Ids& text) {
    const auto decoder = start();
    double sum = 0;
    for (std::size_t i = 0; i + 1 < text.size(); ++i) {
      const auto row = feed(*decoder, text[i]);
      const double top = *std::max_element(row.begin(), row.end());
      double total = 0;
      for (const float x : row) total += std::exp(x - top);
      sum += top + std::log(total) - row[static_cast<std::size_t>(text[i + 1])];
    }
    return sum;
  }

 private:
  std::unique_ptr<model::Decoder> start() {
    static const model::AdapterSpec kNone;
    auto decoder = model::Decoder::create(*model_, std::min(kContext, model_->config().context_max),
                                          adapter_ != nullptr ? adapter_->spec() : kNone,
                                          adapter_ != nullptr ? adapter_->view() : model::AdapterView(), pool_);
    REQUIRE_OK(decoder);
    return *std::move(decoder);
  }
  static std::span<const float> feed(model::Decoder& decoder, std::int32_t id) {
    const auto row = decoder.feed(id);
    REQUIRE_OK(row);
    return *row;
  }

  ThreadPool pool_;
  std::shared_ptr<model::Model> model_;
  const Adapter* adapter_ = nullptr;
};

/// Beginnings of different lengths, out of what the model itself writes from random starts.
std::vector<Ids> prompts_of(Ours& ours, int count, int vocab) {
  Rng rng(7);
  std::vector<Ids> out;
  for (int i = 0; i < count; ++i) {
    Ids prompt{1};
    for (int j = 0; j < 2; ++j)
      prompt.push_back(3 + static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(vocab - 3))));
    const Ids more = ours.greedy(prompt, 2 + i % 20);
    prompt.insert(prompt.end(), more.begin(), more.end());
    out.push_back(std::move(prompt));
  }
  return out;
}

/// A tokenizer.json of this many printable tokens, for models whose own vocabulary is not here or does not load there:
/// llama.cpp takes a sentencepiece vocabulary with all 256 byte tokens only. Only ids matter then.
std::string stand_in_vocabulary(std::size_t size, const test::TempDir& dir) {
  formats::TokenizerSpec spec;
  spec.byte_level = true;
  for (char c = '!'; c <= '~'; ++c) spec.vocab.emplace_back(1, c);
  spec.vocab.emplace_back("\xC4\x8A");  // a line feed in the byte-level alphabet
  for (char c = '!'; spec.vocab.size() < size; ++c) {
    const auto id = static_cast<std::int32_t>(c - '!');
    spec.merges.push_back({id, id, static_cast<std::int32_t>(spec.vocab.size())});
    spec.vocab.emplace_back(2, c);
  }
  REQUIRE_OK(formats::write_byte_level_tokenizer(dir.path(), spec));
  return dir.file("tokenizer.json");
}

std::optional<std::string> babyllama(const test::TempDir& dir) {
  const auto model = test::data_path("babyllama-tok105/model5000.bin");
  if (!model) return std::nullopt;
  REQUIRE_OK(convert_model(*model, dir.file("baby.gguf"), stand_in_vocabulary(105, dir)));
  return dir.file("baby.gguf");
}

/// Its own pieces, which lie beside it as text.
std::shared_ptr<const text::Tokenizer> babyllama_tokenizer(const test::TempDir& dir) {
  const auto path = test::data_path("babyllama-tok105/tok105.vocab");
  if (!path) return nullptr;
  std::vector<formats::ScoredPiece> pieces;
  std::ifstream in(*path);
  for (std::string line; std::getline(in, line);) {
    const std::size_t tab = line.find('\t');
    REQUIRE(tab != std::string::npos);
    std::string piece = line.substr(0, tab);
    if (piece.starts_with("\xE2\x96\x81")) piece.replace(0, 3, " ");
    pieces.push_back({std::move(piece), std::stof(line.substr(tab + 1))});
  }
  REQUIRE_OK(formats::write_llama2c_tokenizer(dir.file("tokenizer.bin"), pieces));
  const auto tokenizer = text::load_tokenizer(dir.file("tokenizer.bin"));
  REQUIRE_OK(tokenizer);
  return *tokenizer;
}

std::optional<std::string> stories(const test::TempDir& dir) {
  const auto model = test::data_path("stories260K/stories260K.bin");
  const auto tokenizer = test::data_path("stories260K/tok512.bin");
  if (!model || !tokenizer) return std::nullopt;
  REQUIRE_OK(convert_model(*model, dir.file("stories.gguf"), *tokenizer));
  return dir.file("stories.gguf");
}

}  // namespace

TEST_CASE("greedy continuations of 50 prompts are llama.cpp's, and logits agree to f32's rounding") {
  if (!interop::is_installed()) return;
  const test::TempDir dir;
  const auto path = stories(dir);
  if (!path) return;
  Ours ours(*path);
  const auto prompts = prompts_of(ours, 50, 512);
  const auto answer = ask({{.model = *path, .prompts = prompts, .tokens = 40}}, dir).front();
  const auto theirs = lists_of(answer, "greedy");
  REQUIRE(theirs.size() == 50);
  int equal = 0;
  for (std::size_t i = 0; i < prompts.size(); ++i) equal += ours.greedy(prompts[i], 40) == theirs[i] ? 1 : 0;
  CHECK(equal == 50);
  const double largest = largest_difference(ours.logits(prompts.front()), answer);
  std::cout << "50 prompts x 40 tokens: " << equal << " equal; logits differ by " << largest << " at most\n";
  CHECK(largest < 2e-4);  // logits of about 10, sums of 172 products in another order
}

TEST_CASE("200 greedy tokens of stories260K and babyllama are llama.cpp's") {
  if (!interop::is_installed()) return;
  const test::TempDir dir;
  for (const auto& path : {stories(dir), babyllama(dir)}) {
    if (!path) return;
    Ours ours(*path);
    const std::vector<Ids> prompt = {{1}};
    const auto theirs = lists_of(ask({{.model = *path, .prompts = prompt, .tokens = 200}}, dir).front(), "greedy");
    REQUIRE(theirs.size() == 1);
    REQUIRE(theirs.front().size() == 200);
    CHECK(ours.greedy(prompt.front(), 200) == theirs.front());
    std::cout << "200 greedy tokens, " << std::set<std::int32_t>(theirs[0].begin(), theirs[0].end()).size()
              << " different ones\n";
  }
}

namespace {

/// A golden model, with fields of its config.json changed to what llama.cpp computes. @return its directory, or none.
std::optional<std::string> golden_with(const std::string& name, const Json& changes, const test::TempDir& dir) {
  const auto golden = test::golden_path(name);
  if (!golden || changes.empty()) return golden;
  auto config = Json::load(*golden + "/config.json");
  REQUIRE_OK(config);
  for (const auto& member : changes.members()) config->set(member.key, member.value);
  // Not its own name: of a model called phi3, llama.cpp wants certain tokens.
  const std::string folder = dir.file("changed" + std::to_string(name.size()));
  std::filesystem::create_directories(folder);
  REQUIRE_OK(config->save(folder + "/config.json"));
  std::filesystem::create_symlink(*golden + "/model.safetensors", folder + "/model.safetensors");
  return folder;
}

}  // namespace

TEST_CASE("each architecture that we write gives llama.cpp our logits") {
  if (!interop::is_installed()) return;
  const test::TempDir dir;
  // llama.cpp looks GELU up in a table of f16, and has the tanh form alone; the largest logits are about 10.
  constexpr double kTable = 5e-3;
  // Gemma 2: its file has no key for the scale of queries. Phi 3: llama.cpp computes no sliding window.
  const struct {
    const char* name;
    double tolerance;
    Json changes = Json::object();
  } models[] = {{"llama", 1e-4},      {"llama_rope3", 1e-4},
                {"qwen2", 1e-4},      {"qwen3", 1e-4},
                {"olmo2", 1e-4},      {"olmo", 1e-4},
                {"stablelm", 1e-4},   {"phi3", 1e-4, Json::object({{"sliding_window", nullptr}})},
                {"gemma", kTable},    {"gemma2", kTable, Json::object({{"query_pre_attn_scalar", 16}})},
                {"phi", kTable},      {"gpt2", kTable},
                {"gpt_neox", kTable}, {"bloom", kTable}};
  std::vector<Question> questions;
  std::vector<std::string> folders;
  Rng rng(5);
  for (const auto& entry : models) {
    const std::string name = entry.name;
    CAPTURE(name);
    const auto folder = golden_with(name, entry.changes, dir);
    if (!folder) return;
    folders.push_back(*folder);
    const int vocab = Ours(*folder).model().config().vocab_size;
    const test::TempDir vocabulary;
    REQUIRE_OK(convert_model(*folder, dir.file(name + ".gguf"),
                             stand_in_vocabulary(static_cast<std::size_t>(vocab), vocabulary)));
    Ids prompt(40);  // longer than the context that llama_rope3's scaling starts from
    for (auto& id : prompt) id = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(vocab)));
    questions.push_back({.model = dir.file(name + ".gguf"), .prompts = {prompt}, .tokens = 20});
  }
  const auto answers = ask(questions, dir);
  for (std::size_t i = 0; i < questions.size(); ++i) {
    CAPTURE(std::string(models[i].name));
    const Ids& prompt = questions[i].prompts.front();
    Ours ours(folders[i]);
    Ours again(questions[i].model);  // what we read back
    CHECK(lists_of(answers[i], "greedy").front() == again.greedy(prompt, 20));
    const double apart = largest_difference(ours.logits(prompt), answers[i]);
    const double read = largest_difference(again.logits(prompt), answers[i]);
    std::cout << models[i].name << ": logits differ by " << apart << " at most (read back: " << read << ")\n";
    CHECK(apart < models[i].tolerance);
    CHECK(read < models[i].tolerance);
  }
}

TEST_CASE("perplexity of stories260K and babyllama agrees with llama.cpp within 0.1 percent") {
  if (!interop::is_installed()) return;
  const test::TempDir dir;
  const auto shakespeare = test::data_path("tinyshakespeare/input.txt");
  const auto pieces = test::data_path("stories260K/tok512.bin");
  if (!shakespeare || !pieces) return;
  const auto all = read_text_file(*shakespeare);
  REQUIRE_OK(all);
  for (const bool baby : {false, true}) {
    const auto path = baby ? babyllama(dir) : stories(dir);
    const auto tokenizer = baby ? babyllama_tokenizer(dir) : text::load_tokenizer(*pieces).value();
    if (!path || !tokenizer) return;
    const auto ids = tokenizer->encode(all->substr(0, 6000), false);
    Ours ours(*path);
    std::vector<Ids> texts;
    std::size_t count = 0;
    for (std::size_t at = 0; at + 200 <= ids.size() && texts.size() < 10; at += 200) {
      Ids text{1};
      text.insert(text.end(), ids.begin() + static_cast<std::ptrdiff_t>(at),
                  ids.begin() + static_cast<std::ptrdiff_t>(at) + 200);
      count += text.size() - 1;
      texts.push_back(std::move(text));
    }
    const auto answer = ask({{.model = *path, .texts = texts}}, dir).front();
    const double theirs = sum_of(answer, "nll");
    double mine = 0;
    for (const Ids& text : texts) mine += ours.minus_log_probability(text);
    const double a = std::exp(mine / static_cast<double>(count));
    const double b = std::exp(theirs / static_cast<double>(count));
    std::cout << (baby ? "babyllama" : "stories260K") << ": perplexity " << a << " here, " << b << " there, over "
              << count << " tokens\n";
    CHECK(count >= 1000);
    CHECK(std::abs(a - b) <= 0.001 * b);
  }
}

namespace {

/// Lines of plays, and what tokenizers stumble over.
std::vector<std::string> strings_to_tokenize(const std::string& plays) {
  std::vector<std::string> out = {"Once upon a time",         " two  spaces ",
                                  "tab\tand\nlines\n\n",      "don't I'll we've",
                                  "12345 3.14 1,000",         "caf\xC3\xA9 na\xC3\xAFve",
                                  "\xE6\x97\xA5\xE6\x9C\xAC", "\xF0\x9F\x99\x82!",
                                  "x = {\"a\": [1, 2]};",     "!!!???...",
                                  "\xCE\xB1\xCE\xB2\xCE\xB3"};
  std::istringstream in(plays);
  for (std::string line; out.size() < 200 && std::getline(in, line);) {
    if (!line.empty()) out.push_back(line);
  }
  return out;
}

}  // namespace

TEST_CASE("llama.cpp cuts texts into our ids by the vocabularies that we write") {
  if (!interop::is_installed()) return;
  const test::TempDir dir;
  const auto shakespeare = test::data_path("tinyshakespeare/input.txt");
  const auto pieces = test::data_path("stories260K/tok512.bin");
  const auto gpt2 = test::data_path("tok-gpt2/tokenizer.json");
  const auto llama2 = test::data_path("tok-llama2-spm/tokenizer.model");
  const auto path = stories(dir);
  if (!shakespeare || !pieces || !gpt2 || !llama2 || !path) return;
  const auto strings = strings_to_tokenize(read_text_file(*shakespeare).value());
  std::vector<Question> questions{{.model = *path, .strings = strings}};
  const std::string tokenizers[] = {*pieces, *gpt2, *llama2};
  for (const std::size_t i : {1, 2}) {  // a model of any size goes round the vocabulary
    model::ModelConfig config;
    config.vocab_size = i == 1 ? 50257 : 32000;
    config.hidden_size = 8;
    config.intermediate_size = 8;
    config.layers = 1;
    config.heads = 1;
    config.kv_heads = 1;
    config.head_dim = 8;
    config.context_max = 256;
    const auto model = model::Model::create(config, 1);
    REQUIRE_OK(model);
    const std::string folder = dir.file("model" + std::to_string(i));
    REQUIRE_OK((*model)->save(folder));
    REQUIRE_OK(convert_model(folder, folder + ".gguf", tokenizers[i]));
    questions.push_back({.model = folder + ".gguf", .strings = strings});
  }
  const auto answers = ask(questions, dir);
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const auto tokenizer = text::load_tokenizer(tokenizers[i]);
    REQUIRE_OK(tokenizer);
    const auto theirs = lists_of(answers[i], "ids");
    REQUIRE(theirs.size() == strings.size());
    for (std::size_t j = 0; j < strings.size(); ++j) {
      CAPTURE(strings[j]);
      CHECK((*tokenizer)->encode(strings[j], false) == theirs[j]);
    }
  }
}

TEST_CASE("an adapter that llama.cpp applies from our GGUF continues as here, and so does the merged model") {
  if (!interop::is_installed()) return;
  const test::TempDir dir;
  const auto path = stories(dir);
  if (!path) return;
  Ours ours(*path);
  const auto prompts = prompts_of(ours, 12, 512);
  std::vector<Ids> plain;
  for (const Ids& prompt : prompts) plain.push_back(ours.greedy(prompt, 30));

  auto adapter = Adapter::create_lora(ours.model(), {.rank = 4, .alpha = 8, .target_modules = {"all-linear"}}, 5);
  REQUIRE_OK(adapter);
  std::vector<float> noise(adapter->values().size());
  CounterRng(4).fill_normal(noise);
  for (std::size_t i = 0; i < noise.size(); ++i) adapter->values()[i] = 0.08F * noise[i];
  REQUIRE_OK(save_gguf_adapter(dir.file("lora.gguf"), *adapter, ours.model()));
  auto merged = model::Model::load(*path, {.writable = true});
  REQUIRE_OK(merged);
  REQUIRE_OK(merge_into(**merged, *adapter));
  REQUIRE_OK((*merged)->save(dir.file("merged")));
  REQUIRE_OK(convert_model(dir.file("merged"), dir.file("merged.gguf"), *test::data_path("stories260K/tok512.bin")));

  const auto answers = ask({{.model = *path, .lora = dir.file("lora.gguf"), .prompts = prompts, .tokens = 30},
                            {.model = dir.file("merged.gguf"), .prompts = prompts, .tokens = 30}},
                           dir);
  ours.attach(*adapter);
  std::vector<Ids> adapted;
  for (const Ids& prompt : prompts) adapted.push_back(ours.greedy(prompt, 30));
  CHECK(adapted != plain);  // or the adapter would prove nothing
  CHECK(lists_of(answers[0], "greedy") == adapted);
  CHECK(lists_of(answers[1], "greedy") == adapted);
}

TEST_CASE("quantized models that we write load in llama.cpp and continue as here") {
  if (!interop::is_installed()) return;
  const test::TempDir dir;
  const auto path = stories(dir);
  if (!path) return;
  for (const auto type : {formats::GgmlType::q8_0, formats::GgmlType::q4_0}) {
    REQUIRE_OK(quantize_model(*path, dir.file("q.gguf"), type, ""));
    Ours ours(dir.file("q.gguf"));
    const auto prompts = prompts_of(ours, 4, 512);
    const auto answer = ask({{.model = dir.file("q.gguf"), .texts = prompts}}, dir).front();
    const double theirs = sum_of(answer, "nll");
    double mine = 0;
    for (const Ids& text : prompts) mine += ours.minus_log_probability(text);
    // llama.cpp rounds activations to 8 bits beside such weights, we do not yet.
    CHECK(std::abs(mine - theirs) <= 0.02 * theirs);
  }
}

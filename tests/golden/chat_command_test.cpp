// A user's conversations through the program: train on them, ask, and choose among labels.
#include <algorithm>
#include <set>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "support/support.h"

using namespace covey;

namespace {

test::CommandResult covey_model(const std::string& arguments) {
  return test::run_command(test::bin_dir() + "/covey-model " + arguments);
}
formats::Json json_of(const test::CommandResult& result) {
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  auto json = formats::Json::parse(result.out);
  REQUIRE_OK(json);
  return *json;
}
double number(const formats::Json& json, const char* key) {
  const auto value = json.get_double(key);
  REQUIRE_OK(value);
  return *value;
}
void check_refused(const test::CommandResult& result, std::string_view says) {
  CAPTURE(result.err);
  CHECK(result.exit_code == 2);
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(result.err.find(says) != std::string::npos);
}

const std::vector<std::pair<std::string, std::string>> kAnswers = {
    {"red", "warm"}, {"blue", "cold"}, {"orange", "warm"}, {"white", "cold"}};

/// A base that has seen the words, conversations about them, and the same as prompts with completions; made once.
struct World {
  test::TempDir dir;
  std::string model = dir.file("base"), chats = dir.file("chats.jsonl"), pairs = dir.file("pairs.jsonl");
  World() {
    std::string text, chat, pair;
    for (int i = 0; i < 12; ++i) {
      for (const auto& [colour, feel] : kAnswers) {
        text += "the lamp is " + colour + " and it feels warm or cold\n";
        chat += R"({"messages": [{"role": "user", "content": ")" + colour +
                R"("}, {"role": "assistant", "content": ")" + feel + "\"}]}\n";
        pair += R"({"prompt": ")" + colour + R"( is", "completion": " )" + feel + "\"}\n";
      }
    }
    write("text.txt", text);
    write("chats.jsonl", chat);
    write("pairs.jsonl", pair);
    write("pretrain.yaml",
          "data: text.txt\nvocab_size: 300\n"
          "model: {layers: 2, hidden_size: 32, intermediate_size: 64, heads: 4, kv_heads: 2, context: 64}\n"
          "training: {lr: 0.01, batch: 8, seq: 48, steps: 150}\n");
    write("train.yaml", "lr: 0.01\nbatch: 8\nseq: 48\nepochs: 200\nlora: {rank: 8, target_modules: all-linear}\n");
    json_of(covey_model("pretrain --json --config " + dir.file("pretrain.yaml") + " --out " + model));
  }
  void write(const std::string& name, std::string_view content) const {
    REQUIRE_OK(write_file_durably(dir.file(name), content));
  }
  [[nodiscard]] std::string train(const std::string& data, const std::string& out) const {
    return "train --json " + model + " --data " + data + " --config " + dir.file("train.yaml") + " --out " +
           dir.file(out);
  }
};

const World& world() {
  static const World made;
  return made;
}

}  // namespace

TEST_CASE("an adapter trained on conversations answers when it is asked") {
  const World& w = world();
  check_refused(covey_model(w.train(w.chats, "x")), "chats.jsonl:1: is a conversation");
  check_refused(covey_model(w.train(w.chats, "x") + " --chat-template alpaca"), "alpaca");
  const std::string chosen = " --chat-template mistral";
  json_of(covey_model(w.train(w.chats, "chat") + chosen));
  const auto result = json_of(
      covey_model("eval --json " + w.model + " --data " + w.chats + chosen + " --adapter " + w.dir.file("chat")));
  // The answer and the end token are all that is predicted of each of the 48 conversations.
  const double per_talk = number(result, "tokens") / number(result, "examples");
  CHECK(per_talk >= 2);
  CHECK(per_talk <= 6);
  CHECK(number(result, "accuracy") > 0.95);
  for (const auto& [colour, feel] : kAnswers) {
    const auto said = covey_model("generate " + w.model + " --chat --tokens 8 --prompt " + colour + chosen +
                                  " --adapter " + w.dir.file("chat"));
    CHECK(said.exit_code == 0);
    CHECK(said.out == feel);
  }
  check_refused(covey_model("generate " + w.model + " --chat --prompt red"), "has no chat_template");
  check_refused(covey_model("generate " + w.model + " --chat --prompt red --chat-template chatml"), "ends an answer");

  // A directory that states its template needs no option.
  const auto config_path = w.model + "/tokenizer_config.json";
  auto config = formats::Json::load(config_path);
  REQUIRE_OK(config);
  const formats::Json plain = *config;
  config->set(
      "chat_template",
      "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + "
      "message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}");
  REQUIRE_OK(config->save(config_path));
  const auto stated =
      json_of(covey_model("eval --json " + w.model + " --data " + w.chats + " --adapter " + w.dir.file("chat")));
  CHECK(stated == result);
  // Nor does a GGUF file made of it.
  const std::string gguf = w.dir.file("base.gguf");
  REQUIRE(covey_model("convert " + w.model + " " + gguf).exit_code == 0);
  const auto from_gguf = json_of(covey_model("eval --json " + gguf + " --data " + w.chats));
  const auto from_folder = json_of(covey_model("eval --json " + w.model + " --data " + w.chats));
  CHECK(number(from_gguf, "tokens") == number(from_folder, "tokens"));
  CHECK(number(from_gguf, "loss") == doctest::Approx(number(from_folder, "loss")).epsilon(1e-4));
  config->set("chat_template", "{{ messages }}");
  REQUIRE_OK(config->save(config_path));
  check_refused(covey_model("eval " + w.model + " --data " + w.chats), "tokenizer_config.json: chat_template");
  CHECK(covey_model("eval " + w.model + " --data " + w.pairs).exit_code == 0);  // no conversation, no template
  REQUIRE_OK(plain.save(config_path));
}

TEST_CASE("eval --labels chooses each completion among the file's, before and after training") {
  const World& w = world();
  const auto before = json_of(covey_model("eval --json --labels " + w.model + " --data " + w.pairs));
  CHECK(number(before, "labels") == 2);
  json_of(covey_model(w.train(w.pairs, "pairs")));
  const auto after = json_of(
      covey_model("eval --json --labels " + w.model + " --data " + w.pairs + " --adapter " + w.dir.file("pairs")));
  // Chance is one half; how far training gets depends on rounding, so on the machine.
  CHECK(number(after, "accuracy") >= 0.75);
  CHECK(number(after, "macro_f1") > 0.7);
  CHECK(number(before, "accuracy") <= 0.5);
  check_refused(covey_model("eval --labels " + w.model + " --data " + w.dir.file("text.txt")), "text.txt: example 1");
}

TEST_CASE("generate draws with a seed, and a narrow draw is the greedy one") {
  const World& w = world();
  const auto generate = [&](const std::string& more) {
    const auto result = covey_model("generate " + w.model + " --prompt \"the lamp\" --tokens 12 " + more);
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    return result.out;
  };
  const std::string greedy = generate("");
  CHECK(greedy.starts_with("the lamp is"));
  CHECK(generate("--temperature 2 --top-k 1 --seed 5") == greedy);
  CHECK(generate("--temperature 2 --top-p 0 --seed 5") == greedy);
  CHECK(generate("--temperature 2 --seed 5") == generate("--temperature 2 --seed 5"));
  std::set<std::string> texts;
  for (int seed = 0; seed < 4; ++seed) texts.insert(generate("--temperature 2 --seed " + std::to_string(seed)));
  CHECK(texts.size() > 1);
  check_refused(covey_model("generate " + w.model + " --top-k -1"), "--top-k");
  check_refused(covey_model("generate " + w.model + " --top-p 1.5"), "--top-p");
}

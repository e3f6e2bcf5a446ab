// `covey-model train`, `eval` and `generate` for classifiers, masked language models and encoder-decoders.
#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "core/model/model.h"
#include "support/process.h"
#include "support/support.h"
#include "support/word_tokenizer.h"

using namespace covey;
using formats::Json;

namespace {

void put(const std::string& path, std::string_view text) {
  REQUIRE_OK(write_file_durably(path, text));
}

std::string content(const std::string& path) {
  const auto text = read_text_file(path);
  REQUIRE_OK(text);
  return *text;
}

test::CommandResult covey_model(const std::string& arguments) {
  return test::run_command(test::bin_dir() + "/covey-model " + arguments);
}

Json answer(const test::CommandResult& result) {
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  auto json = Json::parse(result.out);
  REQUIRE_OK(json);
  return *json;
}

struct Line {
  std::string text;
  std::string label;
};

/// Words of a line as the tests' tokenizer has them, apostrophes cut out.
std::vector<std::string> words_of(const std::string& text) {
  std::string plain;
  for (const char c : text) plain += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : ' ';
  std::istringstream in(plain);
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

constexpr const char* kBert = R"("vocab_size": VOCAB, "hidden_size": 48, "num_hidden_layers": 2,
  "num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 48, "type_vocab_size": 2,
  "hidden_act": "gelu", "id2label": {LABELS}})";
constexpr const char* kT5 = R"({"model_type": "t5", "architectures": ["T5ForConditionalGeneration"],
  "vocab_size": VOCAB, "d_model": 48, "d_kv": 12, "d_ff": 64, "num_layers": 2, "num_heads": 4,
  "feed_forward_proj": "relu", "relative_attention_num_buckets": 8, "relative_attention_max_distance": 16,
  "tie_word_embeddings": false, "decoder_start_token_id": 0, "eos_token_id": 3, "pad_token_id": 0})";

std::string with(std::string text, const std::string& name, const std::string& value) {
  if (const auto at = text.find(name); at != std::string::npos) text.replace(at, name.size(), value);
  return text;
}

/// A random model with a tokenizer of these lines' words, as a Hugging Face directory.
void make_model(const std::string& directory, std::string config, const std::vector<std::string>& lines, int classes) {
  std::set<std::string> words;
  for (const auto& line : lines) {
    for (const auto& word : words_of(line)) words.insert(word);
  }
  std::string labels;
  for (int i = 0; i < classes; ++i) {
    labels += (i > 0 ? ", \"" : "\"") + std::to_string(i) + "\": \"LABEL_" + std::to_string(i) + "\"";
  }
  config = with(with(config, "VOCAB", std::to_string(words.size() + 5)), "LABELS", labels);
  const auto read = model::config_from_hf(config, "config.json");
  REQUIRE_OK(read);
  const auto model = model::Model::create(*read, 5);
  REQUIRE_OK(model);
  for (auto& tensor : (*model)->parameters()) {  // first values say almost nothing of what was read
    if (tensor.shape.size() < 2) continue;
    for (float& x : tensor.values) x *= tensor.name == "lm_head.weight" ? 40 : 8;
  }
  REQUIRE_OK((*model)->save(directory));
  put(directory + "/tokenizer.json", test::word_tokenizer_json({words.begin(), words.end()}));
}

std::string bert(const std::string& architecture) {
  return R"({"model_type": "bert", "architectures": [")" + architecture + "\"], " + kBert;
}

std::string train(const test::TempDir& dir, const std::string& model, const std::string& data, const std::string& out) {
  return "train " + dir.file(model) + " --json --threads 2 --data " + dir.file(data) + " --config " +
         dir.file(model + ".yaml") + " --out " + dir.file(out);
}

std::vector<Line> clinc(const std::string& path, const std::string& part, const std::set<std::string>& intents) {
  const auto json = Json::load(path);
  REQUIRE_OK(json);
  std::vector<Line> out;
  for (const Json& row : json->find(part)->items()) {
    const std::string label = *row.items()[1].as_string();
    if (intents.contains(label)) out.push_back({*row.items()[0].as_string(), label});
  }
  return out;
}

std::vector<std::string> texts_of(const std::vector<Line>& lines) {
  std::vector<std::string> out;
  for (const auto& line : lines) out.push_back(line.text);
  return out;
}

std::string csv_of(const std::vector<Line>& lines) {
  std::string out = "label,text\n";
  for (const auto& line : lines) {
    std::string doubled;
    for (const char c : line.text) doubled += c == '"' ? "\"\"" : std::string(1, c);
    out += line.label + ",\"" + doubled + "\"\n";
  }
  return out;
}

std::string jsonl_of(const std::vector<Line>& lines) {
  std::string out;
  for (const auto& line : lines) {
    out += Json::object({{"text", line.text}, {"label", line.label}}).dump() + "\n";
  }
  return out;
}

/// Two kinds of sentence that differ in a word.
std::vector<Line> weather(int count) {
  const std::vector<std::string> good = {"sun", "warm", "blue"}, bad = {"rain", "storm", "grey"};
  std::vector<Line> out;
  for (int i = 0; i < count; ++i) {
    const auto& words = i % 2 == 0 ? good : bad;
    out.push_back({"day " + std::to_string(i) + " was " + words[static_cast<std::size_t>(i / 2) % 3] + " all over",
                   i % 2 == 0 ? "good" : "bad"});
  }
  return out;
}

const std::vector<std::pair<std::string, std::string>> kPairs = {{"one two three", "three two one"},
                                                                 {"red green", "green red"},
                                                                 {"the cat sleeps", "sleeps cat the"},
                                                                 {"milk and bread", "bread and milk"},
                                                                 {"go home now", "now home go"}};

void make_pairs(const test::TempDir& dir) {
  std::vector<std::string> all;
  std::string jsonl;
  for (const auto& [source, target] : kPairs) {
    all.push_back(source);
    jsonl += Json::object({{"source", source}, {"target", target}}).dump() + "\n";
  }
  make_model(dir.file("t5"), kT5, all, 0);
  put(dir.file("pairs.jsonl"), jsonl);
}

}  // namespace

TEST_CASE("a classifier's LoRA and head learn real intents, and are evaluated, merged and exported with their labels") {
  const auto path = test::data_path("clinc150/data_full.json");
  if (!path) return;
  const std::set<std::string> intents = {"translate", "weather", "play_music", "bill_due", "timer", "oil_change_how"};
  const auto lines = clinc(*path, "train", intents);
  const auto tested = clinc(*path, "test", intents);
  REQUIRE(lines.size() == 600);
  REQUIRE(tested.size() == 180);
  const test::TempDir dir;
  make_model(dir.file("bert"), bert("BertForSequenceClassification"), texts_of(lines), 6);
  put(dir.file("train.csv"), csv_of(lines));
  put(dir.file("held.jsonl"), jsonl_of(tested));
  put(dir.file("bert.yaml"),
      "task: classification\nsteps: 200\nbatch: 16\nseq: 24\nlr: 0.004\nschedule: cosine\nheld_out: held.jsonl\n"
      "evaluate_every: 50\nlora: {rank: 4}\n");
  const auto summary = answer(covey_model(train(dir, "bert", "train.csv", "out")));
  CHECK(*summary.get_double("held_out_accuracy") > 0.6);  // chance: 0.17; the encoder below is random and frozen
  const auto evaluate = [&](const std::string& more) {
    return covey_model("eval " + more + " --seq 24 --data " + dir.file("held.jsonl"));
  };
  const std::string with_adapter = dir.file("bert") + " --adapter " + dir.file("out");
  const Json result = answer(evaluate("--json " + with_adapter));
  CHECK(*result.get_double("accuracy") == doctest::Approx(*summary.get_double("held_out_accuracy")));
  CHECK(*result.get_double("micro_f1") == doctest::Approx(*result.get_double("accuracy")));
  CHECK(*result.get_double("macro_f1") > 0.6);
  CHECK(*result.get_int("examples") == 180);
  REQUIRE(result.find("classes")->size() == 6);
  std::int64_t correct = 0;
  for (const Json& one : result.find("classes")->items()) {
    CHECK(intents.contains(*one.get_string("label")));
    CHECK(*one.get_int("support") == 30);
    correct += *one.get_int("correct");
  }
  CHECK(static_cast<double>(correct) / 180 == doctest::Approx(*result.get_double("accuracy")));
  const auto table = evaluate(with_adapter);
  CHECK(table.out.find("macro_f1") != std::string::npos);
  CHECK(table.out.find("  oil_change_how\n") != std::string::npos);

  // As PEFT has it: the head is a module that was saved whole.
  const Json config = *Json::load(dir.file("out/adapter_config.json"));
  CHECK(*config.get_string("task_type") == "SEQ_CLS");
  CHECK(*config.get_strings("modules_to_save") == std::vector<std::string>{"classifier"});
  CHECK(*config.get_strings("target_modules") == std::vector<std::string>{"query", "value"});
  CHECK(answer(covey_model("adapter info --json " + dir.file("bert") + " " + dir.file("out")))
            .get_bool("computed")
            .value());
  const Json flat = answer(covey_model("adapter export --json " + dir.file("bert") + " " + dir.file("out") + " --out " +
                                       dir.file("flat.safetensors")));
  CHECK(*flat.get_int("values") == 2 * 2 * 4 * (48 + 48) + 6 * 48 + 6);
  answer(
      covey_model("adapter merge --json " + dir.file("bert") + " " + dir.file("out") + " --out " + dir.file("merged")));
  put(dir.file("merged/tokenizer.json"), content(dir.file("bert/tokenizer.json")));
  const auto named = evaluate(dir.file("merged"));
  CHECK(named.exit_code == 2);  // the merged model's own configuration knows no names
  CHECK(named.err.find("held.jsonl:1: its label is none of the model's 6 classes") != std::string::npos);
}

TEST_CASE("an encoder-decoder learns a handful of pairs by heart and writes them, greedily and as the seed says") {
  const test::TempDir dir;
  make_pairs(dir);
  put(dir.file("t5.yaml"), "steps: 250\nbatch: 5\nseq: 12\nlr: 0.01\nlora: {rank: 8, target_modules: [all-linear]}\n");
  answer(covey_model(train(dir, "t5", "pairs.jsonl", "out")));
  const std::string adapted = dir.file("t5") + " --adapter " + dir.file("out");
  const Json evaluated = answer(covey_model("eval " + adapted + " --json --data " + dir.file("pairs.jsonl")));
  CHECK(*evaluated.get_double("perplexity") < 1.2);
  CHECK(*evaluated.get_double("accuracy") == 1);
  for (const auto& [source, target] : kPairs) {
    const auto written = covey_model("generate " + adapted + " --tokens 10 --prompt '" + source + "'");
    REQUIRE_MESSAGE(written.exit_code == 0, written.err);
    CHECK(written.out == target);
  }
  const auto drawn = [&](const std::string& flags) {
    return *answer(covey_model("generate " + dir.file("t5") + " --json --tokens 12 --prompt 'red green' " + flags))
                .get_string("text");
  };
  CHECK(drawn("--temperature 2 --seed 1") == drawn("--temperature 2 --seed 1"));
  CHECK(drawn("--temperature 2 --seed 1") != drawn("--temperature 2 --seed 2"));
  CHECK(drawn("--temperature 2 --seed 1 --top-k 1") == drawn(""));
  CHECK(drawn("--temperature 2 --seed 1 --top-p 0.000001") == drawn(""));
  CHECK(covey_model("generate " + dir.file("t5") + " --chat --prompt a").exit_code == 2);
}

TEST_CASE("a masked language model is trained, and evaluated with a stated seed") {
  const test::TempDir dir;
  const auto lines = weather(60);
  make_model(dir.file("mlm"), bert("BertForMaskedLM"), texts_of(lines), 2);
  std::string text;
  for (const auto& line : lines) text += line.text + "\n";
  put(dir.file("text.txt"), text);
  put(dir.file("mlm.yaml"),
      "task: masked_lm\nsteps: 150\nbatch: 12\nseq: 16\nlr: 0.01\nmask_share: 0.3\nlora: {rank: 4}\n");
  const auto evaluate = [&](const std::string& more) {
    return answer(covey_model("eval " + dir.file("mlm") + " --json --data " + dir.file("text.txt") + more));
  };
  answer(covey_model(train(dir, "mlm", "text.txt", "out")));
  const Json before = evaluate(""), after = evaluate(" --adapter " + dir.file("out"));
  CHECK(*after.get_double("loss") < *before.get_double("loss") - 1);
  CHECK(*after.get_double("accuracy") > *before.get_double("accuracy"));
  CHECK(*before.get_int("mask_seed") == 0);
  CHECK(evaluate("") == before);
  const Json other = evaluate(" --mask-seed 4");
  CHECK(*other.get_int("mask_seed") == 4);
  CHECK(*other.get_double("loss") != *before.get_double("loss"));
  CHECK(*evaluate(" --mask-share 0.5").get_int("tokens") > *before.get_int("tokens"));
}

TEST_CASE("a model with another head becomes a classifier of the data's labels, by a task that asks for it") {
  const test::TempDir dir;
  const auto lines = weather(60);
  const std::string llama = R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": VOCAB,
    "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 32})";
  for (const auto& [model, config] : {std::pair(std::string("mlm"), bert("BertForMaskedLM")), {"llama", llama}}) {
    CAPTURE(model);
    make_model(dir.file(model), config, texts_of(lines), 2);
    put(dir.file("weather.jsonl"), jsonl_of(lines));
    put(dir.file(model + ".yaml"),
        "task: classification\nsteps: 120\nbatch: 12\nseq: 12\nlr: 0.005\nlora: {rank: 4}\n");
    answer(covey_model(train(dir, model, "weather.jsonl", model + "-out")));
    const Json result = answer(covey_model("eval " + dir.file(model) + " --json --data " + dir.file("weather.jsonl") +
                                           " --adapter " + dir.file(model + "-out")));
    CHECK(*result.get_double("accuracy") > 0.9);
    REQUIRE(result.find("classes")->size() == 2);
    CHECK(*result.find("classes")->items()[0].get_string("label") == "bad");
    // The head is the adapter's: the model itself is none.
    const auto bare = covey_model("adapter merge " + dir.file(model) + " " + dir.file(model + "-out") + " --out " +
                                  dir.file("merged"));
    CHECK(bare.exit_code == 2);
    CHECK(bare.err.find("modules_to_save") != std::string::npos);
  }
}

TEST_CASE("trainings of every task that were killed and resumed end with the bytes of those that were not") {
  const test::TempDir dir;
  const auto lines = weather(40);
  make_model(dir.file("bert"), bert("BertForSequenceClassification"), texts_of(lines), 2);
  make_model(dir.file("mlm"), bert("BertForMaskedLM"), texts_of(lines), 2);
  make_pairs(dir);
  put(dir.file("weather.jsonl"), jsonl_of(lines));
  const std::vector<std::pair<std::string, std::string>> tasks = {
      {"bert", "weather.jsonl"}, {"mlm", "weather.jsonl"}, {"t5", "pairs.jsonl"}};
  for (const auto& [model, data] : tasks) {
    CAPTURE(model);
    put(dir.file(model + ".yaml"), "steps: 300\nbatch: 4\nseq: 12\nlr: 0.002\nseed: 5\nheld_out: " + data +
                                       "\nevaluate_every: 60\ncheckpoint_every: 7\nlora: {rank: 2}\n");
    answer(covey_model(train(dir, model, data, model + "-straight")));
    const std::string killed = dir.file(model + "-killed");
    const auto told = [&] {
      const auto log = read_text_file(killed + "/metrics.jsonl");
      return log.ok() ? std::count(log->begin(), log->end(), '\n') : 0;
    };
    int kills = 0;
    for (const int after : {40, 150}) {
      std::vector<std::string> argv = {
          "covey-model", "train", dir.file(model), "--data", dir.file(data), "--config", dir.file(model + ".yaml"),
          "--out",       killed,  "--threads",     "2"};
      if (kills > 0) argv.emplace_back("--resume");
      test::Process process(argv, dir.file("log"));
      REQUIRE(test::eventually(60'000, [&] { return told() >= after || !process.running(); }));
      if (!process.running()) break;
      process.kill_now();
      ++kills;
    }
    CHECK(kills > 0);
    answer(covey_model(train(dir, model, data, model + "-killed") + " --resume"));
    for (const std::string file : {"/adapter_model.safetensors", "/metrics.jsonl"}) {
      CHECK(content(killed + file) == content(dir.file(model + "-straight" + file)));
    }
  }
}

TEST_CASE("data that does not fit a task is refused with its line, and a task that does not fit the model by name") {
  const test::TempDir dir;
  const auto lines = weather(8);
  make_model(dir.file("bert"), bert("BertForSequenceClassification"), texts_of(lines), 2);
  make_pairs(dir);
  const auto refused = [&](const std::string& model, const std::string& keys, const std::string& data) {
    put(dir.file(model + ".yaml"), "steps: 2\n" + keys);
    put(dir.file("d.jsonl"), data);
    const auto result = covey_model(train(dir, model, "d.jsonl", "out"));
    CHECK(result.exit_code == 2);
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
    return result.err;
  };
  CHECK(refused("bert", "", "{\"text\": \"sun\", \"label\": 1}\n{\"text\": \"rain\"}\n").find("2: has no \"label\"") !=
        std::string::npos);
  CHECK(refused("bert", "",
                "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"b\", \"label\": \"y\"}\n"
                "{\"text\": \"c\", \"label\": \"z\"}\n")
            .find("3 labels, the model has 2") != std::string::npos);
  CHECK(refused("bert", "task: seq2seq\n", jsonl_of(lines)).find("is made for classification") != std::string::npos);
  CHECK(refused("bert", "task: classify\n", jsonl_of(lines)).find("classification") != std::string::npos);
  CHECK(refused("t5", "", "{\"text\": \"sun\"}\n").find("d.jsonl:1: has no source") != std::string::npos);
  CHECK(refused("bert", "seq: 2\n", jsonl_of(lines)).find("leaves no room") != std::string::npos);
}

// The program as a user runs it: commands, exit codes, one-line errors.
#include <algorithm>
#include <filesystem>

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

void write(const std::string& path, std::string_view text) {
  REQUIRE_OK(write_file_durably(path, text));
}

/// A base model of a few seconds on the household corpus, made once.
struct Base {
  test::TempDir dir;
  std::string corpus = dir.file("corpus");
  std::string model = dir.file("base");
  Base() {
    json_of(
        covey_model("corpus --json --households 2 --unseen 1 --lines 60 --general-lines 800 --seed 7 --out " + corpus));
    write(dir.file("pretrain.yaml"),
          "data: corpus/general/train.txt\nheld_out: corpus/general/held_out.txt\nvocab_size: 400\n"
          "model: {layers: 2, hidden_size: 48, intermediate_size: 96, heads: 4, kv_heads: 2, context: 96}\n"
          "training: {lr: 0.01, batch: 16, seq: 64, steps: 250}\n");
    const auto result =
        json_of(covey_model("pretrain --json --config " + dir.file("pretrain.yaml") + " --out " + model));
    CHECK(number(result, "last_loss") < 0.8 * number(result, "first_loss"));
    CHECK(number(result, "held_out_perplexity") < 40);  // of 400 tokens
  }
};

const Base& base() {
  static const Base made;
  return made;
}

}  // namespace

TEST_CASE("greedy generation prints the reference text exactly") {
  const auto model = test::data_path("stories260K/stories260K.bin");
  const auto expected = test::data_path("stories260K/expected_greedy_200.txt");
  if (!model || !expected) return;
  const auto text = read_text_file(*expected);
  REQUIRE_OK(text);
  const auto result = covey_model("generate " + *model + " --tokens 200");
  CHECK(result.exit_code == 0);
  CHECK(result.out == *text);
  // The same weights through a Hugging Face directory, and back to a .bin.
  const test::TempDir dir;
  REQUIRE(covey_model("convert " + *model + " " + dir.file("hf")).exit_code == 0);
  CHECK(covey_model("generate " + dir.file("hf")).out == *text);
  REQUIRE(covey_model("convert " + dir.file("hf") + " " + dir.file("m.bin")).exit_code == 0);
  CHECK(covey_model("generate " + dir.file("m.bin")).out == *text);
}

TEST_CASE("token ids and text turn into each other") {
  const auto model = test::data_path("stories260K/stories260K.bin");
  if (!model) return;
  const test::TempDir dir;
  const std::string text = "Once upon a time,\nthere was  a bird.\n";
  write(dir.file("text"), text);
  const auto ids = covey_model("tokenize " + *model + " --file " + dir.file("text"));
  REQUIRE(ids.exit_code == 0);
  CHECK(std::count(ids.out.begin(), ids.out.end(), '\n') == 1);
  write(dir.file("ids"), ids.out);
  CHECK(covey_model("detokenize " + *model + " --file " + dir.file("ids")).out == text);
}

TEST_CASE("a base model is made, an adapter trained, evaluated, exported, imported and merged") {
  const Base& b = base();
  const std::string held_out = b.corpus + "/held_out.txt";
  const auto before = json_of(covey_model("eval --json " + b.model + " --data " + held_out));
  CHECK(before.members().size() == 5);
  const test::TempDir dir;
  write(dir.file("train.yaml"),
        "lr: 0.02\nbatch: 8\nseq: 64\nepochs: 12\nlora: {rank: 4, target_modules: all-linear}\n");
  const auto trained = json_of(covey_model("train --json " + b.model + " --data " + b.corpus + "/train.txt --config " +
                                           dir.file("train.yaml") + " --out " + dir.file("a")));
  CHECK(number(trained, "last_loss") < number(trained, "first_loss"));
  const auto after =
      json_of(covey_model("eval --json " + b.model + " --data " + held_out + " --adapter " + dir.file("a")));
  CHECK(number(after, "perplexity") < 0.5 * number(before, "perplexity"));
  CHECK(number(after, "accuracy") > number(before, "accuracy"));
  CHECK(number(after, "tokens") == number(before, "tokens"));

  REQUIRE(covey_model("adapter export " + b.model + " " + dir.file("a") + " --out " + dir.file("flat")).exit_code == 0);
  REQUIRE(covey_model("adapter import " + b.model + " " + dir.file("flat") + " --out " + dir.file("b")).exit_code == 0);
  const auto first = read_file(dir.file("a/adapter_model.safetensors"));
  const auto second = read_file(dir.file("b/adapter_model.safetensors"));
  REQUIRE_OK(first);
  REQUIRE_OK(second);
  CHECK(*first == *second);
  CHECK(json_of(covey_model("adapter info --json " + b.model + " " + dir.file("a"))).contains("norm_of_b"));

  REQUIRE(covey_model("adapter merge " + b.model + " " + dir.file("a") + " --out " + dir.file("m")).exit_code == 0);
  const auto merged = json_of(covey_model("eval --json " + dir.file("m") + " --data " + held_out));
  CHECK(number(merged, "loss") == doctest::Approx(number(after, "loss")).epsilon(1e-4));
}

TEST_CASE("plan and info print what they promise") {
  const Base& b = base();
  const auto plan = json_of(covey_model("plan --json " + b.model + " --batch 4 --seq 64"));
  CHECK(number(plan, "total_bytes") == number(plan, "process_bytes") + number(plan, "weights_bytes") +
                                           number(plan, "buffers_bytes") + number(plan, "adapter_bytes"));
  const auto smaller = json_of(covey_model("plan --json " + b.model + " --batch 4 --seq 64 --checkpoint"));
  CHECK(number(smaller, "buffers_bytes") < number(plan, "buffers_bytes"));
  CHECK(number(json_of(covey_model("info --json " + b.model)), "layers") == 2);
}

TEST_CASE("golden exits 1 when a case fails and 0 when all pass") {
  const auto good = test::golden_path("llama_rope3");
  if (!good) return;
  CHECK(covey_model("golden " + *good).exit_code == 0);
  const test::TempDir dir;
  std::filesystem::copy(*good, dir.path(), std::filesystem::copy_options::recursive);
  std::filesystem::remove(dir.file("config.json"));
  write(dir.file("config.json"), "{}");
  const auto mixed = covey_model("golden " + *good + " " + dir.path());
  CHECK(mixed.exit_code == 1);
  CHECK(mixed.out.find("ok llama_rope3") == 0);
  CHECK(mixed.out.find("FAILED ") != std::string::npos);
}

TEST_CASE("help and version answer, and nothing unfinished is listed") {
  const auto help = covey_model("--help");
  CHECK(help.exit_code == 0);
  for (const char* command : {"info", "plan", "tokenize", "eval", "generate", "train", "pretrain", "convert",
                              "quantize", "golden", "analyze"}) {
    CHECK(help.out.find(command) != std::string::npos);
    CHECK(covey_model(std::string(command) + " --help").exit_code == 0);
  }
  for (const char* later : {"w8a8"}) CHECK(help.out.find(later) == std::string::npos);
  CHECK(covey_model("--version").out.find("covey-model ") == 0);
}

TEST_CASE("bad input gets one line and exit code 2") {
  const Base& b = base();
  const test::TempDir dir;
  write(dir.file("text.txt"), "a line\n");
  write(dir.file("empty.txt"), "\n");
  write(dir.file("bad.jsonl"), "{\"text\": 3}\n");
  write(dir.file("ids"), "1 2 x\n");
  write(dir.file("far.ids"), "1 99999\n");
  write(dir.file("typo.yaml"), "lr: 0.1\nbtach: 3\n");
  write(dir.file("type.yaml"), "lr: fast\n");
  write(dir.file("both.yaml"), "steps: 3\nepochs: 1\n");
  write(dir.file("target.yaml"), "lora: {target_modules: [nope]}\n");
  write(dir.file("heads.yaml"), "data: text.txt\nmodel: {hidden_size: 32, heads: 5}\n");
  write(dir.file("nodata.yaml"), "vocab_size: 300\n");
  write(dir.file("cut.bin"), "too short");
  write(dir.file("cut.gguf"), "GG");
  const std::string model = b.model;
  const std::string train =
      "train " + model + " --data " + dir.file("text.txt") + " --out " + dir.file("o") + " --config ";
  const std::pair<std::string, std::string> cases[] = {
      {"", "subcommand"},
      {"frobnicate", "no command \"frobnicate\""},
      {"eval " + model, "--data"},
      {"eval /nowhere --data " + dir.file("text.txt"), "/nowhere"},
      {"eval " + model + " --data " + dir.file("none.txt"), "none.txt"},
      {"eval " + model + " --data " + dir.file("empty.txt"), "empty.txt"},
      {"eval " + model + " --data " + dir.file("bad.jsonl"), "bad.jsonl:1"},
      {"eval " + model + " --data " + dir.file("text.txt") + " --adapter /nowhere", "/nowhere"},
      {"eval " + model + " --data " + dir.file("text.txt") + " --batch 0", "--batch"},
      {"info " + dir.file("cut.bin"), "cut.bin"},
      {"info " + dir.path(), "config.json"},
      {"info " + dir.file("cut.gguf"), "cut.gguf: is not a GGUF file"},
      {"convert " + model + " " + dir.file("other"), "of one kind"},
      {"convert /nowhere " + dir.file("m.gguf"), "/nowhere"},
      {"quantize " + model + " --scheme q5_k --out " + dir.file("m.gguf"), "--scheme"},
      {"quantize " + model + " --scheme q8_0 --out " + dir.file("m.bin"), "must end in .gguf"},
      {"generate " + model + " --tokens many", "--tokens"},
      {"detokenize " + model + " --file " + dir.file("ids"), "not a token id"},
      {"detokenize " + model + " --file " + dir.file("far.ids"), "far.ids"},
      {train + dir.file("typo.yaml"), "did you mean `batch`"},
      {train + dir.file("type.yaml"), "type.yaml:1"},
      {train + dir.file("both.yaml"), "exclude each other"},
      {train + dir.file("target.yaml"), "names no linear layer"},
      {train + dir.file("none.yaml"), "none.yaml"},
      {"pretrain --out " + dir.file("o") + " --config " + dir.file("heads.yaml"), "heads"},
      {"pretrain --out " + dir.file("o") + " --config " + dir.file("nodata.yaml"), "data"},
      {"convert " + model + " " + dir.file("x"), "convert"},
      {"corpus --households 0 --out " + dir.file("c"), "households"},
      {"bench --shape huge", "--shape"},
      {"adapter", "subcommand"},
      {"adapter import " + model + " " + model + "/model.safetensors --out " + dir.file("o"), "covey.layout"},
  };
  for (const auto& [arguments, says] : cases) {
    const auto result = covey_model(arguments);
    CAPTURE(arguments);
    CAPTURE(result.err);
    CHECK(result.exit_code == 2);
    CHECK(result.out.empty());
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
    CHECK(result.err.find("covey-model: ") == 0);
    CHECK(result.err.find(says) != std::string::npos);
  }
}

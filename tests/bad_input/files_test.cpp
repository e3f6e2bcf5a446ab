// Files of examples, token ids and adapters, and places to write to.
#include <filesystem>

#include "bad_input/expect.h"
#include "bad_input/fixture.h"
#include "core/formats/safetensors.h"

using namespace covey;
using namespace covey::bad_input;

namespace {

void refuse_data(const std::string& name, const std::string& content, std::vector<std::string> fragments) {
  static int number = 0;
  const std::string file = "bad" + std::to_string(number++) + ".jsonl";
  write(fixture().file(file), content);
  fragments.push_back(file);
  expect_refusal({name, "covey-model eval {}/model --data {}/" + file, std::move(fragments)}, fixture().path());
}

void refuse_adapter_config(const std::string& name, std::string_view from, std::string_view to,
                           std::vector<std::string> fragments) {
  static int number = 0;
  const std::string folder = "adapter" + std::to_string(number++);
  const std::string path = fixture().adapter(folder) + "/adapter_config.json";
  write(path, replaced(slurp(path), from, to));
  expect_refusal({name, "covey-model adapter info {}/model {}/" + folder, std::move(fragments)}, fixture().path());
}

/// An adapter of these (name, shape) tensors, all zero.
void refuse_adapter_tensors(const std::string& name,
                            const std::vector<std::pair<std::string, std::vector<std::int64_t>>>& tensors,
                            std::vector<std::string> fragments) {
  static int number = 0;
  const std::string folder = "pairs" + std::to_string(number++);
  const std::string path = fixture().adapter(folder) + "/adapter_model.safetensors";
  const std::vector<float> zeros(1 << 16);
  std::vector<formats::TensorView> views;
  for (const auto& [tensor, shape] : tensors) {
    std::size_t count = 1;
    for (const auto n : shape) count *= static_cast<std::size_t>(n);
    views.push_back(formats::f32_view(tensor, shape, std::span(zeros).first(count)));
  }
  REQUIRE_OK(formats::write_safetensors(path, views));
  expect_refusal({name, "covey-model adapter info {}/model {}/" + folder, std::move(fragments)}, fixture().path());
}

const std::string kSite = "base_model.model.model.layers.0.self_attn.q_proj.";

}  // namespace

TEST_CASE("files of examples that hold none, or broken ones") {
  refuse_data("empty", "", {"no example"});
  refuse_data("blank lines", "\n \n\n", {"no example"});
  refuse_data("broken second line", "{\"text\": \"a\"}\n{\"text\": \"b\"\n", {".jsonl:2"});
  refuse_data("a list", "[1]\n", {":1", "object"});
  refuse_data("no text", "{\"txt\": \"a\"}\n", {":1", "\"text\"", "\"prompt\""});
  refuse_data("text and prompt", "{\"text\": \"a\", \"prompt\": \"b\"}\n", {":1", "either"});
  refuse_data("prompt without answer", "{\"prompt\": \"b\"}\n", {":1", "completion"});
  refuse_data("text is a number", "{\"text\": 5}\n", {":1", "text"});
  refuse_data("not UTF-8", "{\"text\": \"\xc3\x28\"}\n", {":1"});
  refuse_data("nested deep", "{\"text\": " + std::string(100'000, '[') + "\n", {":1", "deep"});
  refuse_data("a line of 20 MB", "{\"text\": \"" + std::string(20'000'000, 'a') + "\"}\n", {":1"});
  refuse_data("zeros", std::string(100, '\0'), {":1"});
  std::filesystem::create_directories(fixture().file("folder.jsonl"));
  write(fixture().file("words.txt"), "12 13 fourteen");
  write(fixture().file("ids.txt"), "12 13 1000000");
  write(fixture().file("minus.txt"), "12 -13");
  write(fixture().file("short.txt"), "\n\n");
  expect_refusals(
      {{"no such file", "covey-model eval {}/model --data {}/nothing.txt", {"nothing.txt"}},
       {"a folder", "covey-model eval {}/model --data {}/folder.jsonl", {"folder.jsonl", "regular"}},
       {"blank text file", "covey-model eval {}/model --data {}/short.txt", {"short.txt", "no example"}},
       {"ids that are words", "covey-model detokenize {}/model --file {}/words.txt", {"words.txt", "fourteen"}},
       {"ids beyond the vocabulary",
        "covey-model detokenize {}/model --file {}/ids.txt",
        {"ids.txt", "1000000", "300"}},
       {"negative ids", "covey-model detokenize {}/model --file {}/minus.txt", {"minus.txt", "-13"}},
       {"text to tokenize is a folder", "covey-model tokenize {}/model --file {}/folder.jsonl", {"folder.jsonl"}}},
      fixture().path());
}

TEST_CASE("adapters whose configuration is broken or asks for what we do not compute") {
  expect_success("covey-model adapter info {}/model {}/adapter", fixture().path());
  refuse_adapter_config("DoRA", "\"use_dora\": false", "\"use_dora\": true", {"adapter_config.json", "use_dora"});
  refuse_adapter_config("another method", "\"LORA\"", "\"LOHA\"", {"peft_type", "LOHA", "LORA"});
  refuse_adapter_config("rank 0", "\"r\": 2", "\"r\": 0", {"r", "0"});
  refuse_adapter_config("negative rank", "\"r\": 2", "\"r\": -8", {"r", "-8"});
  refuse_adapter_config("rank is a word", "\"r\": 2", "\"r\": \"two\"", {"r"});
  refuse_adapter_config("no rank", "\"r\": 2,", "", {"adapter_config.json", "r: is missing"});
  refuse_adapter_config("alpha 0", "\"lora_alpha\": 4", "\"lora_alpha\": 0", {"lora_alpha", "above 0"});
  refuse_adapter_config("biases", "\"bias\": \"none\"", "\"bias\": \"some\"", {"bias", "none"});
  refuse_adapter_config("PiSSA", "\"use_dora\": false", "\"init_lora_weights\": \"pissa\"",
                        {"init_lora_weights", "pissa", "convert"});
  refuse_adapter_config("modules to save", "\"use_dora\": false", "\"modules_to_save\": \"lm_head\"",
                        {"modules_to_save"});
  refuse_adapter_config("unknown option", "\"use_dora\": false", "\"use_magic\": 1", {"use_magic"});
  refuse_adapter_config("not JSON", "{", "{{", {"adapter_config.json:1:"});
}

TEST_CASE("adapters whose values are missing, of the wrong shape, or for another model") {
  const std::vector<std::int64_t> a{2, 16};
  const std::vector<std::int64_t> b{16, 2};
  refuse_adapter_tensors("wide A", {{kSite + "lora_A.weight", {2, 17}}, {kSite + "lora_B.weight", b}},
                         {"q_proj", "17"});
  refuse_adapter_tensors("half a pair", {{kSite + "lora_A.weight", a}}, {"q_proj", "half"});
  refuse_adapter_tensors("ranks differ", {{kSite + "lora_A.weight", {3, 16}}, {kSite + "lora_B.weight", b}},
                         {"q_proj", "[r, in]"});
  refuse_adapter_tensors("one dimension", {{kSite + "lora_A.weight", {32}}, {kSite + "lora_B.weight", b}}, {"q_proj"});
  refuse_adapter_tensors("another tensor", {{"hello", {2}}}, {"hello", "base_model.model"});
  refuse_adapter_tensors("no tensor", {}, {"no LoRA pair"});
  const std::string elsewhere = "base_model.model.model.layers.7.self_attn.q_proj.";
  refuse_adapter_tensors("a layer that is not there",
                         {{elsewhere + "lora_A.weight", a}, {elsewhere + "lora_B.weight", b}}, {"layers.7"});
  const std::string cut = fixture().adapter("cut") + "/adapter_model.safetensors";
  write(cut, slurp(cut).substr(0, 700));
  std::filesystem::rename(fixture().adapter("pickled") + "/adapter_model.safetensors",
                          fixture().file("pickled/adapter_model.bin"));
  write(fixture().file("flat.bin"), "not an adapter");
  std::filesystem::create_directories(fixture().file("no-adapter"));
  expect_refusals(
      {{"cut off", "covey-model eval {}/model --data {}/data.txt --adapter {}/cut", {"cut/adapter_model", "cut off"}},
       {"not torch's", "covey-model adapter info {}/model {}/pickled", {"pickled", "no torch file"}},
       {"empty folder", "covey-model adapter info {}/model {}/no-adapter", {"no-adapter", "adapter_config.json"}},
       {"no such folder", "covey-model generate {}/model --adapter {}/nowhere", {"nowhere: cannot open"}},
       {"a file for the folder", "covey-model adapter merge {}/model {}/data.txt --out {}/x", {"data.txt"}},
       {"flat file that is none", "covey-model adapter import {}/model {}/flat.bin --out {}/y", {"flat.bin"}},
       {"flat file missing", "covey-model adapter import {}/model {}/nothing --out {}/y", {"nothing"}}},
      fixture().path());
}

TEST_CASE("conversions that cannot be, and places that cannot be written to") {
  write(fixture().file("plain"), "a file");
  expect_refusals({{"folder to folder", "covey-model convert {}/model {}/z", {"convert", ".bin"}},
                   {"nothing to convert", "covey-model convert {}/nowhere {}/z.bin", {"nowhere"}},
                   {"a folder below a file", "covey-model corpus --out {}/plain/x", {"plain"}},
                   {"adapter into a file",
                    "covey-model train {}/model --data {}/data.txt --config {}/train.yaml --out {}/plain",
                    {"plain"}},
                   {"no households", "covey-model corpus --households -3 --out {}/none", {"households"}},
                   {"more households than the machine has bytes",
                    "covey-model corpus --households 2000000000 --out {}/none",
                    {"households"}},
                   {"golden cases elsewhere", "covey-model golden {}/nowhere", {"nowhere"}},
                   {"golden case that is none", "covey-model golden {}/model", {"model"}}},
                  fixture().path());
}

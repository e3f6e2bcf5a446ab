// YAML that is no YAML, of the wrong types, with unknown keys, or with values out of range.
#include <filesystem>

#include "bad_input/expect.h"
#include "bad_input/fixture.h"

using namespace covey;
using namespace covey::bad_input;

namespace {

/// `train` with this configuration.
void refuse_yaml(const std::string& name, const std::string& yaml, std::vector<std::string> fragments) {
  static int number = 0;
  const std::string file = "c" + std::to_string(number++) + ".yaml";
  write(fixture().file(file), yaml);
  fragments.push_back(file);
  expect_refusal({name, "covey-model train {}/model --data {}/data.txt --threads 1 --out {}/never --config {}/" + file,
                  std::move(fragments)},
                 fixture().path());
  CHECK(!std::filesystem::exists(fixture().file("never")));
}

void refuse_pretrain(const std::string& name, std::string_view from, std::string_view to,
                     std::vector<std::string> fragments) {
  static int number = 0;
  const std::string file = "p" + std::to_string(number++) + ".yaml";
  write(fixture().file(file), replaced(slurp(fixture().file("pretrain.yaml")), from, to));
  expect_refusal({name, "covey-model pretrain --threads 1 --out {}/never --config {}/" + file, std::move(fragments)},
                 fixture().path());
}

}  // namespace

TEST_CASE("the good configurations are taken") {
  expect_success("covey-model train {}/model --data {}/data.txt --threads 1 --config {}/train.yaml --out {}/trained",
                 fixture().path());
  expect_success("covey-model pretrain --threads 1 --config {}/pretrain.yaml --out {}/pretrained", fixture().path());
}

TEST_CASE("text that is not YAML, or more of it than a configuration holds") {
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 10; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int k = 0; k < 9; ++k) bomb += ", " + before;
    bomb += "]\n";
  }
  refuse_yaml("a tab", "lr: 0.01\nlora:\n\trank: 2\n", {":3:", "not YAML"});
  refuse_yaml("a quote left open", "lr: \"0.01\nbatch: 2\n", {"not YAML", "quotes"});
  refuse_yaml("a bracket left open", "lora: {rank: 2\n", {"not YAML"});
  refuse_yaml("a list", "- 1\n- 2\n", {":1:", "key: value"});
  refuse_yaml("a word", "hello\n", {":1:", "key: value"});
  refuse_yaml("two documents", "lr: 0.01\n---\nlr: 0.02\n", {"second document"});
  refuse_yaml("a key twice", "lr: 0.01\nlr: 0.02\n", {":2:", "`lr`", "twice"});
  refuse_yaml("a tag", "lr: !!python/object:os.system 1\n", {":1:", "tag"});
  refuse_yaml("a bomb of aliases", bomb, {"100000"});
  refuse_yaml("an alias of itself", "a: &a [*a]\n", {"alias"});
  refuse_yaml("nested deep", "a: " + std::string(5000, '['), {"32 levels"});
  refuse_yaml("zeros", std::string("lr: 0.01\n\0\0", 11), {"zero"});
  refuse_yaml("two megabytes", "# " + std::string(2'000'000, 'x'), {"2000002 bytes", "1048576"});
  std::filesystem::create_directories(fixture().file("folder.yaml"));
  expect_refusals({{"no such file", "covey-model pretrain --config {}/none.yaml --out {}/never", {"none.yaml"}},
                   {"a folder", "covey-model pretrain --config {}/folder.yaml --out {}/never", {"folder.yaml"}},
                   {"no such experiment", "covey-sim run {}/none.yaml --out {}/never", {"none.yaml"}},
                   {"no such coordinator.yaml", "covey-coordinator status --config {}/none.yaml", {"none.yaml"}},
                   {"no coordinator.yaml here", "covey-coordinator status", {"coordinator.yaml"}}},
                  fixture().path());
}

TEST_CASE("keys that are unknown, missing, or of the wrong type") {
  refuse_yaml("misspelt key", "lr: 0.01\nbacth: 4\n", {":2:1:", "`bacth`", "did you mean `batch`?"});
  refuse_yaml("misspelt key in a section", "lora: {rnak: 4}\n", {"rnak", "did you mean `rank`?"});
  refuse_yaml("a key of nowhere", "frobnicate: true\n", {":1:", "frobnicate"});
  refuse_yaml("a word for a number", "lr: fast\n", {":1:", "`lr`", "number", "fast"});
  refuse_yaml("quoted number", "batch: \"4\"\n", {"`batch`", "whole number"});
  refuse_yaml("a fraction for a whole number", "batch: 2.5\n", {"`batch`", "whole number", "2.5"});
  refuse_yaml("a list for a number", "batch: [1, 2]\n", {"`batch`", "a list"});
  refuse_yaml("a section for a number", "batch: {size: 2}\n", {"batch"});
  refuse_yaml("a number for a section", "lora: 8\n", {"`lora`", "section"});
  refuse_yaml("yes for true", "checkpoint_activations: yes\n", {"true or false", "yes"});
  refuse_yaml("no value", "lr:\n", {"`lr`", "no value"});
  refuse_yaml("unknown choice", "optimizer: adamm\n", {"`optimizer`", "adamm", "adamw"});
  refuse_pretrain("no data", "data: data.txt\n", "", {"`data`", "missing"});
}

TEST_CASE("values out of range, and rules between values") {
  refuse_yaml("negative rate", "lr: -0.1\n", {"`lr`", "-0.1", "from 0"});
  refuse_yaml("not a number", "lr: .nan\n", {"`lr`", "number"});
  refuse_yaml("infinite", "lr: .inf\n", {"`lr`", "number"});
  refuse_yaml("batch 0", "batch: 0\n", {"`batch` is 0", "from 1"});
  refuse_yaml("beyond 64 bits", "steps: 99999999999999999999\n", {"`steps`"});
  refuse_yaml("rank too high", "lora: {rank: 100000}\n", {"rank", "100000"});
  refuse_yaml("steps and epochs", "steps: 5\nepochs: 2\n", {"epochs", "steps", "exclude"});
  refuse_yaml("layer that the model lacks", "steps: 1\nlora: {target_modules: [qq_proj]}\n", {"qq_proj"});
  refuse_pretrain("heads do not divide", "heads: 2", "heads: 3", {"heads", "divide"});
  refuse_pretrain("vocabulary too small", "vocab_size: 300", "vocab_size: 10", {"vocab_size", "258"});
  refuse_pretrain("data elsewhere", "data.txt", "elsewhere.txt", {"elsewhere.txt"});
}

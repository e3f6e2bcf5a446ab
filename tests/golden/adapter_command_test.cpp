// covey-model adapter info | export | import, as a user runs them: every kind of adapter, with a model and without.
#include <algorithm>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "core/formats/peft.h"
#include "support/support.h"

using namespace covey;           // NOLINT
using namespace covey::formats;  // NOLINT

namespace {

test::CommandResult adapter_command(const std::string& arguments) {
  return test::run_command(test::bin_dir() + "/covey-model adapter " + arguments);
}
Json json_of(const test::CommandResult& result) {
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  auto json = Json::parse(result.out);
  REQUIRE_OK(json);
  return *json;
}
void check_refused(const test::CommandResult& result, std::string_view says) {
  CAPTURE(result.err);
  CHECK(result.exit_code == 2);
  CHECK(result.out.empty());
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(result.err.find(says) != std::string::npos);
}
void check_same_directory(const std::string& a, const std::string& b) {
  for (const char* name : {"/adapter_config.json", "/adapter_model.safetensors"}) {
    const auto first = read_file(a + name);
    const auto second = read_file(b + name);
    REQUIRE_OK(first);
    REQUIRE_OK(second);
    CHECK(*first == *second);
  }
}

/// One small adapter of each kind, named for what it is.
std::vector<std::pair<std::string, PeftAdapter>> adapters() {
  const std::vector<float> values{1, 2, 3, 4, 5, 6, 7, 8};
  const auto lora = [&](std::string_view module) {
    PeftAdapter out;
    out.config.r = 2;
    out.config.target_modules = {{"q_proj"}};
    const std::string name = "base_model.model." + std::string(module);
    out.tensors = {peft_tensor(name + ".lora_A.weight", {2, 4}, values),
                   peft_tensor(name + ".lora_B.weight", {4, 2}, values)};
    return out;
  };
  PeftAdapter biases = lora("q_proj");
  biases.config.bias = "all";
  biases.tensors.insert(biases.tensors.begin(), peft_tensor("base_model.model.norm.bias", {8}, values));
  PeftAdapter head = lora("q_proj");
  head.config.modules_to_save = {"score"};
  head.tensors.push_back(peft_tensor("base_model.model.score.weight", {2, 4}, values));
  PeftAdapter embedding = lora("q_proj");
  embedding.tensors = {peft_tensor("base_model.model.wte.lora_embedding_A", {2, 4}, values),
                       peft_tensor("base_model.model.wte.lora_embedding_B", {4, 2}, values)};
  PeftAdapter prompt, prefix, ia3;
  prompt.config.peft_type = "PROMPT_TUNING";
  prompt.config.num_virtual_tokens = 2;
  prompt.tensors = {peft_tensor("prompt_embeddings", {2, 4}, values)};
  prefix.config.peft_type = "PREFIX_TUNING";
  prefix.config.num_virtual_tokens = 1;
  prefix.tensors = {peft_tensor("prompt_embeddings", {1, 8}, values)};
  ia3.config.peft_type = "IA3";
  ia3.config.target_modules = {{"k_proj"}};
  ia3.tensors = {peft_tensor("base_model.model.k_proj.ia3_l", {8, 1}, values)};
  return {{"lora", lora("q_proj")}, {"biases", biases}, {"head", head}, {"embedding", embedding},
          {"prompt", prompt},       {"prefix", prefix}, {"ia3", ia3}};
}

}  // namespace

TEST_CASE("every kind of adapter is described, exported to one file and imported again byte for byte") {
  const test::TempDir dir;
  for (const auto& [name, adapter] : adapters()) {
    CAPTURE(name);
    const std::string first = dir.file(name), file = dir.file(name + ".safetensors"), second = dir.file(name + "2");
    REQUIRE_OK(write_peft_directory(first, adapter));
    const Json info = json_of(adapter_command("info --json " + first));
    CHECK(info.get_string("peft_type").value() == adapter.config.peft_type);
    const bool computed = name == "lora" || name == "prompt" || name == "prefix" || name == "ia3";
    CHECK(info.get_bool("computed").value() == computed);
    CHECK(info.contains("not_computed") != computed);
    CHECK(json_of(adapter_command("export --json " + first + " --out " + file)).get_string("form").value() == "whole");
    json_of(adapter_command("import --json " + file + " --out " + second));
    check_same_directory(first, second);
    CHECK(json_of(adapter_command("info --json " + file)) == info);
  }
}

TEST_CASE(
    "an adapter that no model computes, or that does not fit this one, is refused by name where it would be used") {
  const auto model = test::data_path("stories260K/stories260K.bin");
  if (!model) return;
  const test::TempDir dir;
  const std::vector<std::pair<std::string, std::string>> says = {{"biases", "bias \"all\""},
                                                                 {"head", "modules_to_save"},
                                                                 {"embedding", "embedding wte"},
                                                                 {"prefix", "keys and values together 320"},
                                                                 {"ia3", "no linear layer k_proj"}};
  for (const auto& [name, adapter] : adapters()) {
    const auto reason = std::ranges::find(says, name, &std::pair<std::string, std::string>::first);
    if (reason == says.end()) continue;
    CAPTURE(name);
    REQUIRE_OK(write_peft_directory(dir.file(name), adapter));
    check_refused(test::run_command(test::bin_dir() + "/covey-model generate " + *model + " --tokens 1 --adapter " +
                                    dir.file(name)),
                  reason->second);
    check_refused(adapter_command("merge " + *model + " " + dir.file(name) + " --out " + dir.file("m")),
                  reason->second);
  }
}

TEST_CASE("the published torch checkpoint is imported with its alpha, and not without") {
  const auto path = test::data_path("lora-roberta-base-mnli/roberta_base_lora_mnli.bin");
  if (!path) return;
  const test::TempDir dir;
  const Json bare = json_of(adapter_command("info --json " + *path));
  CHECK(bare.get_int("sites").value() == 24);
  CHECK_FALSE(bare.contains("alpha"));
  check_refused(adapter_command("import " + *path + " --out " + dir.file("a")), "--alpha");
  json_of(adapter_command("import --json " + *path + " --alpha 16 --task SEQ_CLS --out " + dir.file("a")));
  const Json info = json_of(adapter_command("info --json " + dir.file("a")));
  CHECK(info.get_int("values").value() == 887811);
  CHECK(info.get_double("alpha").value() == 16);
  CHECK(info.get_double("norm").value() == bare.get_double("norm").value());
}

TEST_CASE("files that are no adapter are refused in one line") {
  const test::TempDir dir;
  REQUIRE_OK(write_file_durably(dir.file("text"), std::string_view("hello, this is text")));
  REQUIRE_OK(write_file_durably(dir.file("zip"), std::string_view("PK\3\4 and then nothing of use")));
  check_refused(adapter_command("info " + dir.file("text")), "text");
  check_refused(adapter_command("info " + dir.file("zip")), "end record");
  check_refused(adapter_command("import " + dir.file("none") + " --out " + dir.file("o")), "none");
  check_refused(adapter_command("info a b c"), "ADAPTER");
  check_refused(adapter_command("info"), "ADAPTER");
  check_refused(adapter_command("import " + dir.file("zip") + " --alpha 0 --out " + dir.file("o")), "--alpha");
  check_refused(adapter_command("import " + dir.file("zip") + " --task SINGING --out " + dir.file("o")), "--task");
}

// Training a part, from the command line: analyze says which, train takes its lines, plan counts it.
#include <set>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "core/formats/safetensors.h"
#include "support/support.h"

using namespace covey;

namespace {

test::CommandResult program(const std::string& arguments) {
  return test::run_command(test::bin_dir() + "/covey-model " + arguments);
}

formats::Json object_of(const test::CommandResult& result) {
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  auto json = formats::Json::parse(result.out);
  REQUIRE_OK(json);
  return *json;
}

double figure(const formats::Json& json, const char* key) {
  const auto value = json.get_double(key);
  REQUIRE_OK(value);
  return *value;
}

struct Files {
  test::TempDir dir;
  std::string model;
  explicit Files(std::string path) : model(std::move(path)) {
    std::string text;
    for (int i = 0; i < 24; ++i) text += "The cat number " + std::to_string(i) + " likes milk and sleeps on the mat.\n";
    put("data.txt", text);
  }
  void put(const std::string& name, const std::string& text) const {
    REQUIRE_OK(write_file_durably(dir.file(name), text));
  }
  [[nodiscard]] test::CommandResult train(const std::string& config, const std::string& out,
                                          const std::string& more = "") const {
    return program("train " + model + " --json --threads 1 --data " + dir.file("data.txt") + " --config " +
                   dir.file(config) + " --out " + dir.file(out) + more);
  }
  /// Name and bytes of every tensor that a run left.
  [[nodiscard]] std::map<std::string, std::string> tensors(const std::string& out) const {
    const auto file = formats::SafetensorsFile::open(dir.file(out + "/adapter_model.safetensors"));
    REQUIRE_OK(file);
    std::map<std::string, std::string> all;
    for (const auto& tensor : file->tensors()) {
      all[tensor.name] = std::string(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
    }
    return all;
  }
};

std::optional<Files> files() {
  const auto path = test::data_path("stories260K/stories260K.bin");
  if (!path) return std::nullopt;
  return std::optional<Files>(std::in_place, *path);
}

}  // namespace

TEST_CASE("analyze ranks layers, keeps to its budget, and prints lines that train takes") {
  const auto with = files();
  if (!with) return;
  const std::string common =
      "analyze " + with->model + " --json --threads 1 --batch 32 --seq 64 --data " + with->dir.file("data.txt");
  const auto all = object_of(program(common));
  CHECK(figure(all, "share") == doctest::Approx(1));
  const auto& layers = all.find("layers")->items();
  REQUIRE(layers.size() == 5);
  for (std::size_t i = 1; i < layers.size(); ++i) {
    CHECK(figure(layers[i - 1], "contribution") >= figure(layers[i], "contribution"));
  }
  const double least = figure(object_of(program("plan " + with->model +
                                                " --json --batch 32 --seq 64 --target all-linear "
                                                "--train-layers 4")),
                              "total_bytes") /
                       (1 << 20);
  const int limit = static_cast<int>(least) + 2;
  REQUIRE(limit < figure(all, "planned_mib"));
  const auto some = object_of(program(common + " --memory-mib " + std::to_string(limit)));
  CHECK(figure(some, "planned_mib") <= limit);
  CHECK(figure(some, "share") < 1);
  CHECK(figure(some, "share") > 0);

  std::set<std::string> chosen;
  for (const auto& tensor : some.find("tensors")->items()) {
    if (*tensor.get_bool("chosen")) chosen.insert(*tensor.get_string("path"));
  }
  std::string config = "steps: 3\nbatch: 8\nseq: 64\nlora: {target_modules: [all-linear]}\n";
  for (const auto& line : some.find("settings")->items()) config += *line.as_string() + "\n";
  with->put("sparse.yaml", config);
  CHECK(figure(object_of(with->train("sparse.yaml", "sparse")), "steps") == 3);
  std::set<std::string> trained;
  for (const auto& [name, bytes] : with->tensors("sparse")) {
    const std::string prefix = "base_model.model.";
    trained.insert(name.substr(prefix.size(), name.find(".lora_") - prefix.size()));
  }
  CHECK(trained == chosen);

  const auto table = program("analyze " + with->model + " --threads 1 --batch 32 --seq 64 --data " +
                             with->dir.file("data.txt") + " --memory-mib " + std::to_string(limit));
  CHECK(table.exit_code == 0);
  CHECK(table.out.find("train_") != std::string::npos);
  const auto none = program(common + " --memory-mib 1");
  CHECK(none.exit_code != 0);
  CHECK(none.err.find("MiB") != std::string::npos);
}

TEST_CASE("an adapter that goes on to train in part keeps the bytes of the rest") {
  const auto with = files();
  if (!with) return;
  with->put("all.yaml", "steps: 4\nbatch: 8\nlr: 0.01\nlora: {rank: 2, target_modules: [q_proj, v_proj]}\n");
  with->put("part.yaml",
            "steps: 4\nbatch: 8\nlr: 0.01\ntrain_layers: [3, 4]\ntrain_tensors: [v_proj, q_proj.lora_B]\n");
  object_of(with->train("all.yaml", "first"));
  object_of(with->train("part.yaml", "second", " --adapter " + with->dir.file("first")));
  const auto before = with->tensors("first");
  const auto after = with->tensors("second");
  REQUIRE(before.size() == after.size());
  REQUIRE(before.size() == 20);
  int moved = 0;
  for (const auto& [name, bytes] : before) {
    CAPTURE(name);
    const bool upper = name.find("layers.3.") != std::string::npos || name.find("layers.4.") != std::string::npos;
    const bool named = name.find("v_proj") != std::string::npos || name.find("lora_B") != std::string::npos;
    CHECK((after.at(name) != bytes) == (upper && named));
    moved += after.at(name) != bytes ? 1 : 0;
  }
  CHECK(moved == 6);
  with->put("wrong.yaml", "steps: 1\ntrain_layers: [9]\n");
  const auto wrong = with->train("wrong.yaml", "third");
  CHECK(wrong.exit_code == 2);
  CHECK(wrong.err.find("train_layers") != std::string::npos);
}

// `covey-model quantize`, and what can be done with its results: LoRA on each base, conversion back, the dtype of train
// and eval.
#include <filesystem>
#include <string>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "support/support.h"

using namespace covey;

namespace {

namespace fs = std::filesystem;

test::CommandResult model_command(const std::string& arguments) {
  return test::run_command(test::bin_dir() + "/covey-model " + arguments);
}

formats::Json parsed(const test::CommandResult& result) {
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  auto json = formats::Json::parse(result.out);
  REQUIRE_OK(json);
  return *json;
}

double value_of(const formats::Json& json, const char* key) {
  const auto value = json.get_double(key);
  REQUIRE_OK(value);
  return *value;
}

/// stories260K, with lines of its own kind.
struct Stories {
  test::TempDir dir;
  std::string model;
  std::string text = dir.file("stories.txt");
  explicit Stories(std::string path) : model(std::move(path)) {
    std::string lines;
    for (const std::string name : {"Lily", "Tom", "Sue", "Max", "Anna", "Ben", "Mia", "Sam"}) {
      lines += "Once upon a time, there was a little child named " + name + ". " + name +
               " loved to play with a red ball in the park. One day, " + name + " saw a big dog and was happy.\n";
    }
    REQUIRE_OK(write_file_durably(text, lines));
  }
  [[nodiscard]] std::string tokenizer() const {
    return " --tokenizer " + fs::path(model).parent_path().string() + "/tok512.bin";
  }
  [[nodiscard]] double loss(const std::string& of, const std::string& more = "") const {
    return value_of(parsed(model_command("eval --json " + of + " --data " + text + more)), "loss");
  }
};

std::optional<Stories> stories() {
  const auto path = test::data_path("stories260K/stories260K.bin");
  if (!path) return std::nullopt;
  return std::optional<Stories>(std::in_place, *path);
}

}  // namespace

TEST_CASE("quantize smooths by calibration text, keeps outlier columns, says what it left, and refuses misuse") {
  const auto with = stories();
  if (!with) return;
  const std::string quantize = "quantize " + with->model + " --json --out " + with->dir.file("q") + " --scheme ";
  const std::string text = " --calibrate " + with->text;
  const auto done = parsed(model_command(quantize + "w8a8 --smooth --outliers 2" + text));
  CHECK(value_of(done, "smoothed_norms") == 10);   // two in each of 5 blocks
  CHECK(value_of(done, "smoothed_layers") == 25);  // q, k, v; gate, up
  const auto left = done.get_strings("not_smoothed");
  REQUIRE_OK(left);
  REQUIRE(left->size() == 10);
  CHECK(left->front() == "model.layers.0.self_attn.o_proj (no norm stands before it)");
  CHECK(fs::exists(with->dir.file("q/outliers.covey")));
  CHECK(with->loss(with->dir.file("q")) == doctest::Approx(with->loss(with->model)).epsilon(0.005));
  CHECK(parsed(model_command(quantize + "w8a8 --smooth 0.8" + text)).contains("smoothed_norms"));
  CHECK_FALSE(parsed(model_command(quantize + "w8a8")).contains("smoothed_norms"));

  const auto refused = [&](const std::string& arguments) {
    const auto result = model_command(arguments);
    CHECK(result.exit_code == 2);
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
    return result.err;
  };
  CHECK(refused(quantize + "w8a8 --smooth").find("--calibrate") != std::string::npos);
  CHECK(refused(quantize + "w8a8 --outliers 2").find("--calibrate") != std::string::npos);
  CHECK(refused(quantize + "w8a8" + text).find("--smooth or --outliers") != std::string::npos);
  CHECK(refused(quantize + "w8a8 --smooth 1.5" + text).find("--smooth") != std::string::npos);
  CHECK(refused(quantize + "w8a8 --smooth much" + text).find("--smooth") != std::string::npos);
  CHECK(refused(quantize + "w8a8 --outliers 64" + text).find("keep fewer") != std::string::npos);
  CHECK(refused(quantize + "q8_0 --smooth" + text).find("--scheme w8a8") != std::string::npos);
  CHECK(refused(quantize + "w8a8 --smooth --calibrate " + with->dir.file("none.txt")).find("none.txt") !=
        std::string::npos);
  REQUIRE_OK(write_file_durably(with->dir.file("empty.txt"), "\n"));
  CHECK(refused(quantize + "w8a8 --smooth --calibrate " + with->dir.file("empty.txt")).find("empty.txt") !=
        std::string::npos);
  CHECK(
      refused("quantize " + with->dir.file("q") + " --scheme w8a8 --out " + with->dir.file("r")).find("int8 already") !=
      std::string::npos);
}

TEST_CASE("LoRA trains on each quantized base, and a base in int8 can be widened and converted") {
  const auto with = stories();
  if (!with) return;
  REQUIRE_OK(
      write_file_durably(with->dir.file("t.yaml"),
                         "steps: 12\nbatch: 4\nseq: 64\nlr: 0.005\nlora: {rank: 4, target_modules: all-linear}\n"));
  const auto train = [&](const std::string& base, const std::string& out, const std::string& more = "") {
    return parsed(model_command("train " + base + " --json --data " + with->text + " --config " +
                                with->dir.file("t.yaml") + " --out " + with->dir.file(out) + more));
  };
  const double exact = value_of(train(with->model, "f32"), "mean_loss");
  const double before = with->loss(with->model);
  for (const std::string scheme : {"w8a8", "q8_0", "q4_0"}) {
    CAPTURE(scheme);
    const std::string base = with->dir.file(scheme == "w8a8" ? scheme : scheme + ".gguf");
    parsed(model_command("quantize " + with->model + " --json --scheme " + scheme + " --out " + base));
    const auto trained = train(base, "on-" + scheme);
    CHECK(value_of(trained, "last_loss") < 0.8 * value_of(trained, "first_loss"));
    CHECK(value_of(trained, "mean_loss") == doctest::Approx(exact).epsilon(scheme == "q4_0" ? 0.05 : 0.01));
    CHECK(with->loss(base, " --adapter " + with->dir.file("on-" + scheme)) < 0.8 * before);
  }
  const std::string base = with->dir.file("w8a8");
  // The dtype is the caller's choice, both ways; as stored is the default.
  CHECK(with->loss(with->model, " --dtype w8a8") == doctest::Approx(with->loss(base)).epsilon(1e-9));
  const double widened = with->loss(base, " --dtype f32");
  CHECK(widened != with->loss(base));
  const double by_int8 = value_of(train(base, "d1"), "last_loss");
  CHECK(value_of(train(with->model, "d2", " --dtype w8a8"), "last_loss") == by_int8);
  CHECK(value_of(train(base, "d3", " --dtype f32"), "last_loss") != by_int8);
  CHECK(value_of(train(base, "d3", " --dtype auto"), "last_loss") == by_int8);
  CHECK(model_command("train " + base + " --dtype int8").exit_code == 2);
  // Converted, it is the widened model.
  const auto converted = parsed(model_command("convert " + base + " " + with->dir.file("w.gguf") + " --json"));
  const auto not_held = converted.get_strings("not_held");
  REQUIRE_OK(not_held);
  CHECK(std::ranges::any_of(*not_held, [](const std::string& what) { return what.starts_with("int8:"); }));
  CHECK(with->loss(with->dir.file("w.gguf")) == doctest::Approx(widened).epsilon(1e-6));
}

TEST_CASE("stochastic rounding is a setting: repeatable, off by default, and nothing to an f32 base") {
  const auto with = stories();
  if (!with) return;
  int runs = 0;
  const auto losses = [&](const std::string& keys, const std::string& dtype) {
    const std::string out = with->dir.file("o" + std::to_string(runs++));
    REQUIRE_OK(write_file_durably(with->dir.file("t.yaml"), "steps: 6\nbatch: 4\nmicro_batch: 2\nlr: 0.01\n" + keys));
    parsed(model_command("train " + with->model + " --json --data " + with->text + " --config " +
                         with->dir.file("t.yaml") + " --out " + out + " --dtype " + dtype));
    const auto log = read_text_file(out + "/metrics.jsonl");
    REQUIRE_OK(log);
    return *log;
  };
  const std::string nearest = losses("", "w8a8");
  const std::string drawn = losses("stochastic_rounding: true\n", "w8a8");
  CHECK(drawn != nearest);
  CHECK(losses("stochastic_rounding: false\n", "w8a8") == nearest);
  CHECK(losses("stochastic_rounding: true\n", "w8a8") == drawn);
  CHECK(losses("stochastic_rounding: true\n", "f32") == losses("", "f32"));
  REQUIRE_OK(
      write_file_durably(with->dir.file("t.yaml"), "steps: 6\nmethod: zeroth-order\nstochastic_rounding: true\n"));
  const auto refused = model_command("train " + with->model + " --data " + with->text + " --config " +
                                     with->dir.file("t.yaml") + " --out " + with->dir.file("no"));
  CHECK(refused.exit_code == 2);
  CHECK(refused.err.find("stochastic_rounding") != std::string::npos);
}

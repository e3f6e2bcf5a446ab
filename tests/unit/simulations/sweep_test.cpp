// Keys, settings from elsewhere than the file, and sweeps.
#include "simulations/sweep.h"

#include <algorithm>
#include <set>

#include "simulations/experiment_keys.h"
#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;

namespace {

const std::string kBase = "model: base\ndevices: 20\ndata: {format: households}\nprivacy: {mode: robust}\n";

/// Dotted keys of a resolved experiment; durations without their unit.
std::set<std::string> keys_in(const std::string& resolved) {
  std::set<std::string> out;
  std::vector<std::pair<std::size_t, std::string>> above;  // indent, name
  for (std::size_t at = 0; at < resolved.size();) {
    const auto end = std::min(resolved.find('\n', at), resolved.size());
    const std::string line = resolved.substr(at, end - at);
    at = end + 1;
    const auto indent = line.find_first_not_of(' ');
    const auto colon = line.find(':');
    if (indent == std::string::npos || line[indent] == '-' || line[indent] == '#' || colon == std::string::npos)
      continue;
    while (!above.empty() && above.back().first >= indent) above.pop_back();
    std::string name = above.empty() ? "" : above.back().second + ".";
    name += line.substr(indent, colon - indent);
    above.emplace_back(indent, name);
    if (colon + 1 == line.size()) continue;  // a section
    out.insert(name.ends_with("_ms") ? name.substr(0, name.size() - 3) : name);
  }
  return out;
}

struct Loaded {
  std::string file;
  std::string resolved;
};

/// Experiments that among them read every key: many are read only where another one has a certain value.
std::vector<Loaded> every_kind(const test::TempDir& dir) {
  std::string phones;
  for (int i = 1; i <= 5; ++i) {
    phones += std::string(i > 1 ? "," : "") + R"({"Model": "x", "RAM": "4GB", "CPU_F_AI_Score": ")" +
              std::to_string(100 * i) + "\"}";
  }
  tiny::write(dir.file("scores.json"), "[" + phones + "]");
  const std::string base = "model: base\ndevices: 400\n";
  const std::string robust = "privacy: {mode: robust}\n";
  const std::string made = "data: {format: households}\n";
  std::vector<Loaded> out;
  for (const std::string& rest :
       {made + robust, made + "goal: 256\nprivacy: {mode: grouped}\n",
        robust + "data: {format: lines, file: x, partition: label}\n",
        robust + "data: {format: households, partition: drift}\n", made + robust + "training: modelled\n",
        made + robust + "fleet: {availability: {model: diurnal}}\n", made + robust + "fleet: {scores: scores.json}\n",
        made + "privacy: {mode: robust, dp: {mechanism: blt, separation: 3}}\n"}) {
    out.push_back({dir.file(std::to_string(out.size()) + ".yaml"), ""});
    tiny::write(out.back().file, base + rest);
    const auto experiment = load_experiment(out.back().file);
    REQUIRE_OK(experiment);
    out.back().resolved = experiment->resolved;
  }
  return out;
}

std::set<std::string> listed() {
  std::set<std::string> out;
  for (const auto& key : experiment_keys()) out.insert(key.name);
  return out;
}

}  // namespace

TEST_CASE("every key that an experiment reads is listed, and every listed key is read") {
  const test::TempDir dir;
  std::set<std::string> read;
  for (const auto& experiment : every_kind(dir)) read.merge(keys_in(experiment.resolved));
  CHECK(read.size() > 90);
  const auto known = listed();
  for (const auto& key : read) CHECK_MESSAGE(known.contains(key), key);
  for (const auto& key : known) {
    if (key == "fleet.classes") continue;  // a list of sections, shown where a file has one
    CHECK_MESSAGE(read.contains(key), key);
  }
}

TEST_CASE("simulations/README.md holds the table that `covey-sim keys` prints") {
  const auto readme = read_text_file(test::source_dir() + "/simulations/README.md");
  REQUIRE_OK(readme);
  CHECK(readme->find(experiment_keys_table()) != std::string::npos);
}

TEST_CASE("the methods that simulations/README.md adds are the files that are built, in 40 lines") {
  const auto readme = read_text_file(test::source_dir() + "/simulations/README.md");
  REQUIRE_OK(readme);
  const auto begin = readme->find("## Adding a method\n");
  REQUIRE(begin != std::string::npos);
  const std::string section = readme->substr(begin, readme->find("\n## ", begin) - begin);
  CHECK(std::ranges::count(section, '\n') <= 40);
  std::vector<std::string> shown;
  const std::string fence = "```cpp\n";
  for (auto at = section.find(fence); at != std::string::npos; at = section.find(fence, at)) {
    at += fence.size();
    shown.push_back(section.substr(at, section.find("```", at) - at));
  }
  REQUIRE(shown.size() == 2);
  // Blank lines aside.
  const auto dense = [](const std::string& path) {
    const auto text = read_text_file(test::source_dir() + path);
    REQUIRE_OK(text);
    std::string out;
    for (const char c : *text) {
      if (c != '\n' || (!out.empty() && out.back() != '\n')) out += c;
    }
    return out;
  };
  CHECK(dense("/core/train/methods/zeroth_order_sign.cpp").find(shown[0]) != std::string::npos);
  CHECK(dense("/aggregation/server_rules/lion.cpp").find(shown[1]) != std::string::npos);

  const auto experiment = tiny::World::shared().file("added.yaml");
  tiny::write(experiment, kBase + "local: {method: zeroth-order-sign}\nserver_optimizer: {name: lion}\n");
  REQUIRE_OK(load_experiment(experiment));
}

TEST_CASE("the listed defaults of numbers and words are those that a file without them has") {
  const test::TempDir dir;
  const auto experiments = every_kind(dir);
  // What the files above say themselves, and what is no plain value.
  const std::set<std::string> said = {"devices", "data.format", "privacy.mode"};
  int compared = 0;
  for (const auto& key : experiment_keys()) {
    const bool plain = !key.fallback.empty() && key.fallback.find(' ') == std::string::npos &&
                       key.fallback != "required" && key.fallback != "built-in" && !said.contains(key.name);
    if (!plain) continue;
    CAPTURE(key.name);
    const auto at =
        std::ranges::find_if(experiments, [&](const auto& e) { return keys_in(e.resolved).contains(key.name); });
    REQUIRE(at != experiments.end());
    // Set to what the list says, nothing changes.
    const bool duration = key.name == "round_pause";
    const auto same = load_experiment(at->file, {{key.name + (duration ? "_ms" : ""), key.fallback}});
    REQUIRE_OK(same);
    CHECK(same->resolved == at->resolved);
    ++compared;
  }
  CHECK(compared > 65);
}

TEST_CASE("a setting takes the place of the file's, makes its section, and is checked like it") {
  const test::TempDir dir;
  tiny::write(dir.file("e.yaml"), kBase);
  const auto load = [&](const std::string& text) {
    return load_experiment(dir.file("e.yaml"), {*KeyValue::parse(text)});
  };
  CHECK(load("devices=7")->devices == 7);
  CHECK(load("local.batch=3")->task.local.batch == 3);
  CHECK(load("adapter.targets=[q_proj, k_proj]")->resolved.find("k_proj") != std::string::npos);
  CHECK(load("fleet.dropout=0.5")->dropout == 0.5);
  CHECK(load("local.batch=none").error().message.find("local.batch") != std::string::npos);
  CHECK(load("local.bach=3").error().message.find("did you mean") != std::string::npos);
  CHECK(load("devices.more=3").error().message.find("no section") != std::string::npos);
  CHECK(load("local..batch=3").error().message.find("empty part") != std::string::npos);
  CHECK(!load("local.batch={").ok());
  for (const char* text : {"", "=", "a", "a=", "=b"}) CHECK(!KeyValue::parse(text).ok());
}

TEST_CASE("a grid meets every variant with every value and every seed, under names of their own") {
  const test::TempDir dir;
  tiny::write(dir.file("e.yaml"), kBase);
  tiny::write(
      dir.file("s.yaml"),
      "experiment: e.yaml\nseeds: [1, 2, 3]\nvariants:\n  - {name: plain}\n  - {name: prox, set: "
      "[local.prox_mu=0.1]}\naxes:\n  - {key: local.learning_rate, values: [0.001, 0.01]}\n  - {key: local.batch, "
      "values: [4, 8]}\n");
  const auto sweep = load_sweep(dir.file("s.yaml"));
  REQUIRE_OK(sweep);
  CHECK(sweep->points.size() == 2 * 2 * 2 * 3);
  std::set<std::string> names;
  for (const auto& point : sweep->points) names.insert(point.name);
  CHECK(names.size() == sweep->points.size());
  CHECK(sweep->points.front().name == "0001-plain-s1");
  CHECK(sweep->points.back().set.size() == 3);
}

TEST_CASE("a random search draws the same points for the same seed, inside the bounds, also on a logarithmic scale") {
  const test::TempDir dir;
  tiny::write(dir.file("e.yaml"), kBase);
  const std::string text =
      "experiment: e.yaml\nsearch: random\nsamples: 40\naxes:\n  - {key: local.learning_rate, low: 0.0001, high: 0.1, "
      "scale: log}\n  - {key: local.batch, low: 2, high: 9, whole: true}\n";
  tiny::write(dir.file("s.yaml"), text);
  tiny::write(dir.file("t.yaml"), text + "seed: 2\n");
  const auto first = load_sweep(dir.file("s.yaml"));
  REQUIRE_OK(first);
  const auto again = load_sweep(dir.file("s.yaml"));
  const auto other = load_sweep(dir.file("t.yaml"));
  int low = 0;
  bool differs = false;
  for (std::size_t i = 0; i < 40; ++i) {
    const double rate = std::stod(first->points[i].set[0].value);
    CHECK(rate >= 0.0001);
    CHECK(rate <= 0.1);
    low += rate < 0.00316 ? 1 : 0;
    CHECK(first->points[i].set[0].value == again->points[i].set[0].value);
    differs = differs || first->points[i].set[0].value != other->points[i].set[0].value;
    const double batch = std::stod(first->points[i].set[1].value);
    CHECK(batch == std::floor(batch));
  }
  CHECK(differs);
  CHECK(low > 8);  // half of a logarithmic scale; of a linear one 3%
  CHECK(low < 32);
}

TEST_CASE("a sweep's mistakes are one line before anything runs") {
  const test::TempDir dir;
  tiny::write(dir.file("e.yaml"), kBase);
  const auto says = [&](const std::string& yaml) {
    tiny::write(dir.file("s.yaml"), yaml);
    const auto sweep = load_sweep(dir.file("s.yaml"));
    return sweep.ok() ? std::string() : sweep.error().message;
  };
  CHECK(says("experiment: none.yaml\n").find("none.yaml") != std::string::npos);
  CHECK(says("experiment: e.yaml\naxes: [{key: local.batch, values: [0]}]\n").find("local.batch") != std::string::npos);
  CHECK(says("experiment: e.yaml\nsearch: random\n").find("axes") != std::string::npos);
  CHECK(says("experiment: e.yaml\nvariants: [{name: ../up}]\n").find("folder") != std::string::npos);
  CHECK(says("experiment: e.yaml\nvariants: [{name: a, set: [b]}]\n").find("key=value") != std::string::npos);
  CHECK(says("experiment: e.yaml\nsearch: random\naxes: [{key: local.batch, low: 3, high: 1}]\n").find("high") !=
        std::string::npos);
  std::string values;
  for (int i = 1; i <= 200; ++i) values += (i > 1 ? ", " : "") + std::to_string(i);
  CHECK(says("experiment: e.yaml\naxes:\n  - {key: local.batch, values: [" + values + "]}\n  - {key: goal, values: [" +
             values + "]}\n")
            .find("more than 10000") != std::string::npos);
}

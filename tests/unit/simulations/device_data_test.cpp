// How a dataset becomes devices: nothing held out is trained on, keys stay together, iid parts are even.
#include "simulations/device_data.h"

#include <map>
#include <set>

#include "adapters/workbench.h"
#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;

namespace {

const text::Tokenizer& tokenizer() {
  static const auto loaded = [] {
    auto made = adapters::open_tokenizer(tiny::World::shared().file("base"), "", 0);
    REQUIRE_OK(made);
    return *made;
  }();
  return *loaded;
}

using Ids = std::vector<std::int32_t>;
using RowSet = std::set<Ids>;

RowSet set_of(const std::vector<train::TokenRow>& rows) {
  RowSet out;
  for (const auto& row : rows) out.insert(row.ids);
  return out;
}

/// Four keys with 5, 30, 20 and 10 lines, all distinct, interleaved.
DataConfig keyed_file() {
  const std::map<std::string, int> sizes = {{"anna", 5}, {"bert", 30}, {"cleo", 20}, {"dora", 10}};
  std::string text;
  for (int i = 0; i < 30; ++i) {
    for (const auto& [key, size] : sizes) {
      if (i >= size) continue;
      text += R"({"text": "line )" + std::to_string(i) + " of " + key + R"(", "key": ")" + key + "\"}\n";
    }
  }
  DataConfig config;
  config.file = tiny::World::shared().file("keyed.jsonl");
  tiny::write(config.file, text);
  config.held_out_rows_max = 0;
  return config;
}

constexpr int kSeq = 64;

}  // namespace

TEST_CASE("by key: the largest keys become the devices, and what is held out is nobody's training row") {
  const auto config = keyed_file();
  const auto made = load_device_data(config, 3, kSeq, tokenizer(), 1);
  REQUIRE_OK(made);
  REQUIRE(made->devices.size() == 3);
  CHECK(made->devices[0].key == "bert");
  CHECK(made->devices[1].key == "cleo");
  CHECK(made->devices[2].key == "dora");
  CHECK(made->devices[0].rows.size() == 27);
  CHECK(made->devices[1].rows.size() == 18);
  CHECK(made->devices[2].rows.size() == 9);
  CHECK(made->held_out.size() == 6);

  RowSet all = set_of(made->held_out);
  for (const auto& device : made->devices) {
    for (const auto& ids : set_of(device.rows)) CHECK(all.insert(ids).second);  // seen once, over all
  }
  CHECK(all.size() == 60);
}

TEST_CASE("iid: even parts of everything, disjoint, another cut with another seed") {
  auto config = keyed_file();
  config.partition = "iid";
  config.held_out = 0;
  const auto made = load_device_data(config, 4, kSeq, tokenizer(), 1);
  REQUIRE_OK(made);
  RowSet all;
  for (const auto& device : made->devices) {
    CHECK(device.rows.size() >= 16);
    CHECK(device.rows.size() <= 17);
    for (const auto& ids : set_of(device.rows)) CHECK(all.insert(ids).second);
  }
  CHECK(all.size() == 65);
  CHECK(made->held_out.empty());

  const auto again = load_device_data(config, 4, kSeq, tokenizer(), 1);
  const auto other = load_device_data(config, 4, kSeq, tokenizer(), 2);
  CHECK(set_of(again->devices[0].rows) == set_of(made->devices[0].rows));
  CHECK(set_of(other->devices[0].rows) != set_of(made->devices[0].rows));
}

TEST_CASE("held-out rows are bounded, the same ones for the same seed") {
  auto config = keyed_file();
  config.held_out = 0.5;
  config.held_out_rows_max = 7;
  const auto made = load_device_data(config, 4, kSeq, tokenizer(), 1);
  REQUIRE_OK(made);
  CHECK(made->held_out.size() == 7);
  CHECK(set_of(load_device_data(config, 4, kSeq, tokenizer(), 1)->held_out) == set_of(made->held_out));
}

TEST_CASE("the generated households are unlike in amount and own lines of their own") {
  DataConfig config;
  config.format = "households";
  config.lines = 30;
  config.held_out_rows_max = 0;
  const auto made = load_device_data(config, 6, kSeq, tokenizer(), 1);
  REQUIRE_OK(made);
  std::set<std::size_t> amounts;
  for (const auto& device : made->devices) amounts.insert(device.rows.size());
  CHECK(amounts.size() >= 3);
  CHECK_FALSE(made->held_out.empty());
}

TEST_CASE("too few keys or examples for the devices are one clear line") {
  auto config = keyed_file();
  const auto keys = load_device_data(config, 5, kSeq, tokenizer(), 1);
  REQUIRE_FALSE(keys.ok());
  CHECK(keys.error().message.find("has 4 keys, fewer than the 5 devices") != std::string::npos);
  config.partition = "iid";
  CHECK_FALSE(load_device_data(config, 66, kSeq, tokenizer(), 1).ok());
  config.file += ".missing";
  CHECK(load_device_data(config, 2, kSeq, tokenizer(), 1).error().code == ErrorCode::not_found);
}

namespace {

/// 3 labels, 200 examples each.
DataConfig drifting_file(std::size_t phases) {
  std::string text;
  for (int i = 0; i < 600; ++i) {
    text += R"({"text": "row )" + std::to_string(i) + R"(", "label": "l)" + std::to_string(i % 3) + "\"}\n";
  }
  DataConfig config;
  config.file = tiny::World::shared().file("drift.jsonl");
  tiny::write(config.file, text);
  config.partition = "drift";
  config.alpha = 0.3;
  config.phases = phases;
  config.phase_ms = 1000;
  return config;
}

double share_of(const data::Part& part, const std::string& label) {
  const auto count = std::ranges::count_if(part.examples, [&](const auto& example) { return example.label == label; });
  return static_cast<double>(count) / static_cast<double>(part.examples.size());
}

}  // namespace

TEST_CASE("under drift every example is somebody's in one phase, and the first phase is unlike the last one") {
  const auto phases = partition_devices(drifting_file(5), 8, 3);
  REQUIRE_OK(phases);
  REQUIRE(phases->size() == 5);
  std::set<std::string> seen;
  for (const auto& parts : *phases) {
    REQUIRE(parts.size() == 8);
    for (const auto& part : parts) {
      CHECK(!part.examples.empty());
      for (const auto& example : part.examples) CHECK(seen.insert(example.text).second);
    }
  }
  CHECK(seen.size() == 600);
  const auto distance = [&](std::size_t from, std::size_t to) {
    double out = 0;
    for (std::size_t d = 0; d < 8; ++d) {
      for (const auto* label : {"l0", "l1", "l2"}) {
        out += std::abs(share_of(phases->at(from)[d], label) - share_of(phases->at(to)[d], label)) / 8;
      }
    }
    return out;
  };
  CHECK(distance(0, 4) > 0.5);
  CHECK(distance(0, 4) > 1.5 * distance(0, 1));  // step by step, not at once
}

TEST_CASE("a device trains on the rows of the phase that virtual time is in") {
  const DataConfig config = drifting_file(3);
  CHECK(phase_at(config, 0) == 0);
  CHECK(phase_at(config, 999) == 0);
  CHECK(phase_at(config, 1000) == 1);
  CHECK(phase_at(config, 1'000'000) == 2);  // the last one stays
  const auto data = load_device_data(config, 6, 32, tokenizer(), 5);
  REQUIRE_OK(data);
  for (const auto& device : data->devices) {
    std::size_t rows = 0;
    for (std::size_t k = 0; k < 3; ++k) rows += device.in_phase(k).size();
    CHECK(rows == device.rows.size());
    CHECK(device.in_phase(0).data() == device.rows.data());
    CHECK(!device.in_phase(2).empty());
  }
  CHECK(DeviceRows{"x", data->devices[0].rows, {}}.in_phase(0).size() == data->devices[0].rows.size());
}

TEST_CASE("drift without labels, or with fewer examples than devices in a phase, is refused") {
  DataConfig config = drifting_file(4);
  CHECK(!partition_devices(config, 200, 1).ok());
  tiny::write(config.file, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\"text\": \"c\"}\n{\"text\": \"d\"}\n");
  const auto unlabelled = partition_devices(config, 1, 1);
  REQUIRE(!unlabelled.ok());
  CHECK(unlabelled.error().message.find("label") != std::string::npos);
}

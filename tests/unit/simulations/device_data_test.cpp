// How a dataset becomes devices: nothing held out is trained on, keys stay together, iid parts are even.
#include "simulations/device_data.h"

#include <algorithm>
#include <map>
#include <set>

#include "adapters/workbench.h"
#include "core/formats/json.h"
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

/// What a device has, over all phases that the file has.
std::vector<train::TokenRow> rows_of(const Result<SimulatedData>& data, std::size_t device, std::size_t phase = 0) {
  auto rows = data->devices.read(device, phase);
  REQUIRE_OK(rows);
  return *std::move(rows);
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
  REQUIRE(made->devices.devices() == 3);
  CHECK(made->devices.key(0) == "bert");
  CHECK(made->devices.key(1) == "cleo");
  CHECK(made->devices.key(2) == "dora");
  CHECK(made->devices.count(0) == 27);
  CHECK(made->devices.count(1) == 18);
  CHECK(made->devices.count(2) == 9);
  CHECK(made->held_out.size() == 6);

  RowSet all = set_of(made->held_out);
  for (std::size_t i = 0; i < 3; ++i) {
    for (const auto& ids : set_of(rows_of(made, i))) CHECK(all.insert(ids).second);  // seen once, over all
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
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(made->devices.count(i) >= 16);
    CHECK(made->devices.count(i) <= 17);
    for (const auto& ids : set_of(rows_of(made, i))) CHECK(all.insert(ids).second);
  }
  CHECK(all.size() == 65);
  CHECK(made->held_out.empty());

  const auto again = load_device_data(config, 4, kSeq, tokenizer(), 1);
  const auto other = load_device_data(config, 4, kSeq, tokenizer(), 2);
  CHECK(set_of(rows_of(again, 0)) == set_of(rows_of(made, 0)));
  CHECK(set_of(rows_of(other, 0)) != set_of(rows_of(made, 0)));
}

TEST_CASE("without predict_end the end of a text is no target, and nothing else changes") {
  auto config = keyed_file();
  const auto with = load_device_data(config, 3, kSeq, tokenizer(), 1);
  config.predict_end = false;
  const auto without = load_device_data(config, 3, kSeq, tokenizer(), 1);
  REQUIRE_OK(with);
  REQUIRE_OK(without);
  REQUIRE(without->held_out.size() == with->held_out.size());
  for (std::size_t d = 0; d < 3; ++d) {
    const auto whole = with->devices.read(d, 0);
    const auto cut = without->devices.read(d, 0);
    REQUIRE_OK(whole);
    REQUIRE_OK(cut);
    REQUIRE(cut->size() == whole->size());
    for (std::size_t i = 0; i < whole->size(); ++i) {
      const auto& ids = (*whole)[i].ids;
      const auto& targets = (*whole)[i].targets;
      CHECK(targets.back() == tokenizer().eos_id());
      CHECK((*cut)[i].ids == Ids(ids.begin(), ids.end() - 1));
      CHECK((*cut)[i].targets == Ids(targets.begin(), targets.end() - 1));
    }
  }
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
  for (std::size_t i = 0; i < 6; ++i) amounts.insert(made->devices.count(i));
  CHECK(amounts.size() >= 3);
  CHECK_FALSE(made->held_out.empty());
}

TEST_CASE("households that are made one by one are those that are made together") {
  DataConfig config;
  config.format = "households";
  config.lines = 12;
  config.held_out_rows_max = 9;
  const auto one_by_one = load_device_data(config, 5, kSeq, tokenizer(), 3);
  REQUIRE_OK(one_by_one);
  const auto parts = partition_devices(config, 5, 3);
  REQUIRE_OK(parts);
  std::string text;
  for (const auto& part : parts->front()) {
    for (const auto& example : part.examples) {
      text += formats::Json::object({{"text", example.text}, {"key", part.key}}).dump() + "\n";
    }
  }
  DataConfig file = config;
  file.format = "lines";
  file.file = tiny::World::shared().file("households.jsonl");
  tiny::write(file.file, text);
  const auto together = load_device_data(file, 5, kSeq, tokenizer(), 3);
  REQUIRE_OK(together);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(one_by_one->devices.key(i) == together->devices.key(i));
    CHECK(set_of(rows_of(one_by_one, i)) == set_of(rows_of(together, i)));
  }
  CHECK(one_by_one->held_out_of == together->held_out_of);
  REQUIRE(one_by_one->held_out.size() == together->held_out.size());
  for (std::size_t i = 0; i < one_by_one->held_out.size(); ++i) {
    CHECK(one_by_one->held_out[i].ids == together->held_out[i].ids);
  }
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
  for (std::size_t i = 0; i < 6; ++i) {
    RowSet seen;
    for (std::size_t phase = 0; phase < 3; ++phase) {
      const auto rows = rows_of(data, i, phase);
      CHECK(!rows.empty());
      for (const auto& ids : set_of(rows)) CHECK(seen.insert(ids).second);  // of one phase only
    }
    CHECK(seen.size() == data->devices.count(i));
  }
  const auto all = all_on_one(data->devices);
  REQUIRE_OK(all);
  CHECK(all->devices() == 1);
  std::size_t rows = 0;
  for (std::size_t phase = 0; phase < 3; ++phase) {
    std::size_t in_phase = 0;
    for (std::size_t i = 0; i < 6; ++i) in_phase += rows_of(data, i, phase).size();
    CHECK(all->read(0, phase)->size() == in_phase);
    rows += in_phase;
  }
  CHECK(all->count(0) == rows);
}

TEST_CASE("rows come back from their file as they were, whatever they hold") {
  auto file = RowFile::create();
  REQUIRE_OK(file);
  std::vector<train::TokenRow> text = {{{5, 6, 7, 300'000}, {6, 7, 300'000, 2}}};
  text.push_back({{1, 2, 3}, {data::kNoTarget, 3, data::kNoTarget}});  // a prompt, and a row cut short
  text.push_back({{9}, {-1}});
  std::vector<train::TokenRow> others = {{{4, 4, 4}, {1}, {0, 0, 1}, {}, true}};
  others.push_back({{8, 9}, {7, 6, 2147483647}, {}, {0, 7, -2147483647}, false});
  const auto first = (*file)->append(text);
  const auto none = (*file)->append({});
  const auto second = (*file)->append(others);
  REQUIRE_OK(first);
  REQUIRE_OK(none);
  REQUIRE_OK(second);
  REQUIRE_OK((*file)->finish());
  const auto same = [](const std::vector<train::TokenRow>& a, const std::vector<train::TokenRow>& b) {
    return std::ranges::equal(a, b, [](const auto& x, const auto& y) {
      return x.ids == y.ids && x.targets == y.targets && x.types == y.types && x.second_ids == y.second_ids &&
             x.is_class == y.is_class;
    });
  };
  CHECK(same(*(*file)->read(*second), others));
  CHECK(same(*(*file)->read(*first), text));
  CHECK((*file)->read(*none)->empty());
  // A place that is not one of the file's: an error, not rows.
  CHECK((*file)->read({second->at, second->bytes + 1, second->rows}).error().code == ErrorCode::io_error);
  CHECK((*file)->read({first->at + 1, first->bytes - 1, first->rows}).error().code == ErrorCode::corrupt_data);
}

TEST_CASE("drift without labels, or with fewer examples than devices in a phase, is refused") {
  DataConfig config = drifting_file(4);
  CHECK(!partition_devices(config, 200, 1).ok());
  tiny::write(config.file, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\"text\": \"c\"}\n{\"text\": \"d\"}\n");
  const auto unlabelled = partition_devices(config, 1, 1);
  REQUIRE(!unlabelled.ok());
  CHECK(unlabelled.error().message.find("label") != std::string::npos);
}

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

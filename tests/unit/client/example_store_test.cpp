#include "client/example_store.h"

#include "core/store/memory_store.h"
#include "support/support.h"

using namespace covey;
using namespace covey::client;

TEST_CASE("examples come back in the order of import, also after a restart, until they are wiped") {
  store::MemoryStore disk;
  {
    auto store = ExampleStore::open(disk);
    REQUIRE_OK(store);
    const std::vector<adapters::TextExample> first = {{"", "turn on the light"}, {"what time?", "nine"}};
    REQUIRE_OK(store->add(first));
    const std::vector<adapters::TextExample> second = {{"", "bom dia"}};
    REQUIRE_OK(store->add(second));
  }
  auto store = ExampleStore::open(disk);
  REQUIRE_OK(store);
  CHECK(store->count() == 3);
  CHECK(store->rounded_count() == 2);
  const auto all = store->all();
  REQUIRE_OK(all);
  REQUIRE(all->size() == 3);
  CHECK((*all)[1].prompt == "what time?");
  CHECK((*all)[2].text == "bom dia");
  REQUIRE_OK(store->wipe());
  CHECK(store->all()->empty());
  CHECK(ExampleStore::open(disk)->count() == 0);
}

TEST_CASE("an import over a limit, or with an empty text, adds nothing") {
  store::MemoryStore disk;
  auto store = ExampleStore::open(disk, {2, 100, 50});
  REQUIRE_OK(store);
  const auto refused = [&](std::vector<adapters::TextExample> examples, ErrorCode code) {
    const auto added = store->add(examples);
    REQUIRE_FALSE(added.ok());
    CHECK(added.error().code == code);
    CHECK(store->count() == 0);
    CHECK(store->all()->empty());
  };
  refused({{"", "a"}, {"", "b"}, {"", "c"}}, ErrorCode::resource_exhausted);
  refused({{"", "a"}, {"", ""}}, ErrorCode::invalid_argument);
  refused({{"", std::string(60, 'x')}}, ErrorCode::invalid_argument);
  auto narrow = ExampleStore::open(disk, {10, 60, 50});
  const std::vector<adapters::TextExample> two = {{"", std::string(30, 'x')}, {"", std::string(30, 'y')}};
  CHECK(narrow->add(two).error().code == ErrorCode::resource_exhausted);
}

#include "core/store/store.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "core/base/file.h"
#include "core/store/memory_store.h"
#include "core/store/sqlite_store.h"
#include "support/support.h"

using namespace covey;
using namespace covey::store;

namespace {

Bytes bytes(std::string_view text) {
  return {text.begin(), text.end()};
}

std::unique_ptr<Store> open_at(const std::string& path) {
  auto opened = SqliteStore::open({.path = path, .vfs = ""});
  REQUIRE_OK(opened);
  return std::move(*opened);
}

std::string get_text(Store& store, std::string_view table, std::string_view key) {
  const auto found = store.get(table, as_byte_span(key));
  REQUIRE_OK(found);
  return found->has_value() ? std::string(as_text(**found)) : "(none)";
}

std::vector<std::pair<std::string, std::string>> rows(Store& store, std::string_view table, ByteSpan prefix = {}) {
  std::vector<std::pair<std::string, std::string>> out;
  REQUIRE_OK(store.scan(table, prefix, [&](ByteSpan key, ByteSpan value) -> Status {
    out.emplace_back(as_text(key), as_text(value));
    return {};
  }));
  return out;
}

/// Runs `body` over both implementations.
template <typename F>
void on_both(const F& body) {
  SUBCASE("in memory") {
    MemoryStore store;
    body(store);
  }
  SUBCASE("in SQLite") {
    const test::TempDir dir;
    const auto store = open_at(dir.file("state.db"));
    body(*store);
  }
}

DeviceId device(std::uint8_t first) {
  DeviceId id;
  id.key.fill(0x11);
  id.key[0] = first;
  return id;
}

}  // namespace

TEST_CASE("a commit is read back, replaced and erased") {
  on_both([](Store& store) {
    CHECK(get_text(store, "rounds", "a") == "(none)");
    CHECK(rows(store, "rounds").empty());
    REQUIRE_OK(store.put("rounds", bytes("a"), bytes("1")));
    CHECK(get_text(store, "rounds", "a") == "1");
    REQUIRE_OK(store.put("rounds", bytes("a"), bytes("2")));
    CHECK(get_text(store, "rounds", "a") == "2");
    CHECK(get_text(store, "devices", "a") == "(none)");
    REQUIRE_OK(store.erase("rounds", bytes("a")));
    REQUIRE_OK(store.erase("rounds", bytes("a")));
    REQUIRE_OK(store.erase("never_seen", bytes("a")));
    CHECK(get_text(store, "rounds", "a") == "(none)");
    REQUIRE_OK(store.verify());
  });
}

TEST_CASE("empty keys, empty values and bytes of zero are rows like others") {
  on_both([](Store& store) {
    REQUIRE_OK(store.put("t", Bytes(), bytes("empty key")));
    REQUIRE_OK(store.put("t", bytes("empty value"), Bytes()));
    REQUIRE_OK(store.put("t", Bytes{0, 0, 1}, Bytes{0, 255, 0}));
    CHECK(get_text(store, "t", "") == "empty key");
    CHECK(get_text(store, "t", "empty value").empty());
    const auto zeros = store.get("t", Bytes{0, 0, 1});
    REQUIRE_OK(zeros);
    CHECK(zeros->value() == Bytes{0, 255, 0});
    CHECK(rows(store, "t").size() == 3);
  });
}

TEST_CASE("writes of one commit apply in their order") {
  on_both([](Store& store) {
    const Write writes[] = {{"t", bytes("k"), bytes("1")},
                            {"t", bytes("k"), std::nullopt},
                            {"t", bytes("k"), bytes("2")},
                            {"u", bytes("k"), bytes("3")},
                            {"u", bytes("k"), std::nullopt}};
    REQUIRE_OK(store.commit(writes));
    CHECK(get_text(store, "t", "k") == "2");
    CHECK(get_text(store, "u", "k") == "(none)");
    REQUIRE_OK(store.commit({}));
  });
}

TEST_CASE("a refused write leaves nothing of its commit") {
  on_both([](Store& store) {
    const std::string bad[] = {
        "", "Rounds", "a-b", "sqlite_x", "covey_schema", "t; DROP TABLE t", std::string(65, 'a')};
    for (const std::string& name : bad) {
      const Write writes[] = {{"fresh", bytes("k"), bytes("1")}, {name, bytes("k"), bytes("1")}};
      const Status refused = store.commit(writes);
      REQUIRE_FALSE(refused.ok());
      CHECK(refused.error().code == ErrorCode::invalid_argument);
      CHECK_FALSE(store.get(name, as_byte_span("k")).ok());
    }
    CHECK_FALSE(store.put("t", Bytes(kMaxKeyBytes + 1), {}).ok());
    CHECK(get_text(store, "fresh", "k") == "(none)");
  });
}

TEST_CASE("a scan visits the rows of a prefix in the order of numbers") {
  on_both([](Store& store) {
    std::vector<Write> writes;
    for (const std::uint64_t round : {256U, 3U, 1U, 70000U, 255U, 2U}) {
      for (const std::uint8_t d : {9, 1, 200}) {
        writes.push_back({"updates", key_of(RoundId{round}, device(d)), bytes(std::to_string(round))});
      }
    }
    REQUIRE_OK(store.commit(writes));
    std::vector<std::uint64_t> seen;
    REQUIRE_OK(store.scan("updates", {}, [&](ByteSpan key, ByteSpan) -> Status {
      COVEY_ASSIGN(const std::uint64_t round, number_in_key(key));
      seen.push_back(round);
      return {};
    }));
    CHECK(seen ==
          std::vector<std::uint64_t>{1, 1, 1, 2, 2, 2, 3, 3, 3, 255, 255, 255, 256, 256, 256, 70000, 70000, 70000});

    std::vector<int> devices;
    REQUIRE_OK(store.scan("updates", key_of(RoundId{255}), [&](ByteSpan key, ByteSpan value) -> Status {
      CHECK(as_text(value) == "255");
      COVEY_ASSIGN(const DeviceId id, device_in_key(key, 8));
      devices.push_back(id.key[0]);
      return {};
    }));
    CHECK(devices == std::vector<int>{1, 9, 200});
  });
}

TEST_CASE("a scan ends at a prefix of 0xff bytes and does not run into other keys") {
  on_both([](Store& store) {
    for (const Bytes& key : {Bytes{0xfe}, Bytes{0xff}, Bytes{0xff, 0xff}, Bytes{0xff, 0xff, 1}, Bytes{0xff, 0xfe}}) {
      REQUIRE_OK(store.put("t", key, {}));
    }
    CHECK(rows(store, "t", Bytes{0xff, 0xff}).size() == 2);
    CHECK(rows(store, "t", Bytes{0xff}).size() == 4);
    CHECK(rows(store, "t", Bytes{0xfe}).size() == 1);
    CHECK(rows(store, "t", Bytes{0xfd}).empty());
  });
}

TEST_CASE("a visitor's error ends the scan and the store works on") {
  on_both([](Store& store) {
    for (const char* key : {"a", "b", "c"}) REQUIRE_OK(store.put("t", bytes(key), {}));
    int visited = 0;
    const Status ended = store.scan("t", {}, [&](ByteSpan, ByteSpan) -> Status {
      if (++visited == 2) return Error{ErrorCode::cancelled, "enough"};
      return {};
    });
    REQUIRE_FALSE(ended.ok());
    CHECK(ended.error().message == "enough");
    CHECK(visited == 2);
    REQUIRE_OK(store.put("t", bytes("d"), {}));
    CHECK(rows(store, "t").size() == 4);
  });
}

TEST_CASE("a backup is a database with the same rows and never replaces a file") {
  on_both([](Store& store) {
    const test::TempDir dir;
    REQUIRE_OK(store.put("rounds", bytes("a"), bytes("1")));
    REQUIRE_OK(store.backup(dir.file("copy.db")));
    REQUIRE_OK(store.put("rounds", bytes("a"), bytes("2")));
    const Status again = store.backup(dir.file("copy.db"));
    REQUIRE_FALSE(again.ok());
    CHECK(again.error().code == ErrorCode::already_exists);
    CHECK_FALSE(std::filesystem::exists(dir.file("copy.db.part")));
    const auto copy = open_at(dir.file("copy.db"));
    CHECK(get_text(*copy, "rounds", "a") == "1");
    REQUIRE_OK(copy->verify());
    CHECK_FALSE(store.backup(dir.file("no/such/folder.db")).ok());
  });
}

TEST_CASE("while a backup runs commits go on, and the copy holds none of them in part") {
  const test::TempDir dir;
  const test::TempDir elsewhere;  // a folder has one lock
  const auto store = open_at(dir.file("store.db"));
  for (std::uint64_t i = 0; i < 24; ++i) REQUIRE_OK(store->put("big", key_of(i), Bytes(std::size_t{1} << 20, 'x')));
  std::atomic<bool> done{false};
  Status copied;
  std::thread backup([&] {
    copied = store->backup(elsewhere.file("copy.db"));
    done = true;
  });
  std::uint64_t commits = 0;
  std::uint64_t at_end = 0;
  while (!done) {
    const std::uint64_t next = commits + 1;
    const std::vector<Write> both = {{"first", bytes("n"), key_of(next)},
                                     {"big", key_of(next % 24), Bytes(std::size_t{1} << 16, 'y')},
                                     {"second", bytes("n"), key_of(next)}};
    const bool before_end = !done;
    REQUIRE_OK(store->commit(both));
    commits = next;
    if (before_end) at_end = next;
  }
  backup.join();
  REQUIRE_OK(copied);
  CHECK(at_end >= 3);  // 25 turns of 1 MiB: were the store held throughout, there would be one at most
  const auto copy = open_at(elsewhere.file("copy.db"));
  REQUIRE_OK(copy->verify());
  const auto first = copy->get("first", bytes("n"));
  const auto second = copy->get("second", bytes("n"));
  REQUIRE_OK(first);
  REQUIRE_OK(second);
  CHECK(*first == *second);
  REQUIRE_OK(store->verify());
}

TEST_CASE("threads take turns on one store") {
  on_both([](Store& store) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&store, t] {
        for (std::uint64_t i = 0; i < 25; ++i) {
          (void)store.put("t", key_of(i * 4 + static_cast<std::uint64_t>(t)), bytes("x"));
          (void)store.get("t", key_of(i));
        }
      });
    }
    for (auto& thread : threads) thread.join();
    CHECK(rows(store, "t").size() == 100);
  });
}

TEST_CASE("keys know their ends and refuse to be read short") {
  CHECK(end_of_prefix(Bytes{1, 2}) == Bytes{1, 3});
  CHECK(end_of_prefix(Bytes{1, 0xff}) == Bytes{2});
  CHECK(end_of_prefix(Bytes{0xff}) == std::nullopt);
  CHECK(end_of_prefix({}) == std::nullopt);
  CHECK(key_of(std::uint64_t{258}) == Bytes{0, 0, 0, 0, 0, 0, 1, 2});
  CHECK_FALSE(number_in_key(Bytes(7)).ok());
  CHECK_FALSE(number_in_key(Bytes(12), 5).ok());
  CHECK_FALSE(number_in_key(Bytes(12), 13).ok());
  CHECK_FALSE(device_in_key(Bytes(39), 8).ok());
  CHECK(device_in_key(key_of(RoundId{7}, device(3)), 8).value() == device(3));
  CHECK(number_in_key(key_of(device(3), RoundId{7}), 32).value() == 7);
}

TEST_CASE("SQLite keeps rows over a close, privately, and a second opener is refused in one line") {
  const test::TempDir dir;
  const std::string path = dir.file("state.db");
  {
    const auto store = open_at(path);
    REQUIRE_OK(store->put("rounds", bytes("a"), bytes("1")));
    const auto second = SqliteStore::open({.path = path, .vfs = "", .lock_wait_ms = 0});
    REQUIRE_FALSE(second.ok());
    CHECK(second.error().code == ErrorCode::unavailable);
    CHECK(second.error().message == dir.path() + ": is in use by another process; stop that one first");
  }
  using std::filesystem::perms;
  CHECK((std::filesystem::status(path).permissions() & (perms::group_all | perms::others_all)) == perms::none);
  const auto store = open_at(path);
  CHECK(get_text(*store, "rounds", "a") == "1");
}

TEST_CASE("SQLite waits for another process that has the store for a moment only") {
  const test::TempDir dir;
  const std::string path = dir.file("state.db");
  auto first = SqliteStore::open({.path = path, .vfs = ""});
  REQUIRE_OK(first);
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    first->reset();
  });
  const auto second = SqliteStore::open({.path = path, .vfs = "", .lock_wait_ms = 60'000});
  other.join();
  CHECK_MESSAGE(second.ok(), (second.ok() ? "" : second.error().message));
}

TEST_CASE("SQLite refuses files that are damaged, foreign, newer or without a folder") {
  const test::TempDir dir;
  const auto refusal = [&](const std::string& path) {
    auto opened = SqliteStore::open({.path = path, .vfs = ""});
    REQUIRE_FALSE(opened.ok());
    CHECK(opened.error().message.find('\n') == std::string::npos);
    return opened.error();
  };
  REQUIRE_OK(write_file_durably(dir.file("text.db"), std::string_view("this is not a database, it is a line of text")));
  CHECK(refusal(dir.file("text.db")).code == ErrorCode::corrupt_data);
  CHECK(refusal(dir.file("none/state.db")).code == ErrorCode::not_found);

  CHECK(test::run_command("sqlite3 " + dir.file("foreign.db") + " 'CREATE TABLE t(a); INSERT INTO t VALUES(1)'")
            .exit_code == 0);
  CHECK(refusal(dir.file("foreign.db")).message ==
        dir.file("foreign.db") + ": is a database, but not one of Covey's; give another path");

  { const auto fresh = open_at(dir.file("newer.db")); }
  CHECK(test::run_command("sqlite3 " + dir.file("newer.db") + " 'UPDATE covey_schema SET version=99'").exit_code == 0);
  const Error newer = refusal(dir.file("newer.db"));
  CHECK(newer.code == ErrorCode::unsupported);
  CHECK(newer.message ==
        dir.file("newer.db") + ": has schema version 99, this program knows up to 1; use the newer program");

  {
    const auto store = open_at(dir.file("damaged.db"));
    for (std::uint64_t i = 0; i < 200; ++i) REQUIRE_OK(store->put("t", key_of(i), Bytes(100, 7)));
  }
  auto content = read_file(dir.file("damaged.db"));
  REQUIRE_OK(content);
  for (std::size_t i = 2 * 4096; i < content->size(); i += 512) (*content)[i] ^= 0x5a;
  REQUIRE_OK(write_file_durably(dir.file("damaged.db"), *content));
  CHECK(refusal(dir.file("damaged.db")).code == ErrorCode::corrupt_data);
}

TEST_CASE("20,000 small commits a second are possible in memory") {
  MemoryStore store;
  const auto start = std::chrono::steady_clock::now();
  for (std::uint64_t i = 0; i < 20000; ++i) REQUIRE_OK(store.put("t", key_of(i % 500), Bytes(64, 1)));
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  CHECK(store.commits() == 20000);
  CHECK(seconds.count() < 5.0);  // measured 0.01 to 0.05 s at a load of 16; wide, for sanitizers
}

/// Power cuts, I/O errors and full disks at every write and fsync of a workload (security.md section 9, "crash
/// points").
#include <map>

#include "core/base/rng.h"
#include "core/store/sqlite_store.h"
#include "simulations/faulty_disk.h"
#include "support/support.h"

using namespace covey;
using namespace covey::store;
using covey::simulations::Fault;
using covey::simulations::FaultyDisk;
using covey::simulations::Survival;

namespace {

constexpr Survival kSurvivals[] = {Survival::nothing, Survival::everything, Survival::random};
const std::vector<std::string> kTables = {"rounds", "updates", "sums"};

using Rows = std::map<std::string, Bytes>;  // keys as text
using Model = std::map<std::string, Rows>;

Model applied(Model model, const std::vector<Write>& commit) {
  for (const Write& write : commit) {
    if (write.value) {
      model[write.table][std::string(as_text(write.key))] = *write.value;
    } else {
      model[write.table].erase(std::string(as_text(write.key)));
    }
  }
  return model;
}

/// What a coordinator's rounds look like to the disk: small rows, a growing set of receipts, one large sum replaced.
std::vector<std::vector<Write>> workload(std::size_t commits) {
  std::vector<std::vector<Write>> out;
  Rng rng(42);
  for (std::uint64_t c = 0; c < commits; ++c) {
    std::vector<Write> writes;
    writes.push_back({"rounds", key_of(std::uint64_t{0}), Bytes(40, static_cast<std::uint8_t>(c))});
    for (std::uint64_t i = rng.below(4); i > 0; --i) {
      writes.push_back({"updates", key_of(rng.below(30)), Bytes(rng.below(300), static_cast<std::uint8_t>(c + i))});
    }
    if (c % 3 == 2) writes.push_back({"updates", key_of(rng.below(30)), std::nullopt});
    if (c % 5 == 4) writes.push_back({"sums", key_of(std::uint64_t{1}), Bytes(9000, static_cast<std::uint8_t>(c))});
    out.push_back(std::move(writes));
  }
  return out;
}

Result<std::unique_ptr<SqliteStore>> open_on(const FaultyDisk& disk) {
  // A small log, so that checkpoints happen within the workload.
  return SqliteStore::open({.path = "state.db", .vfs = disk.name(), .process_lock = false, .checkpoint_pages = 16});
}

Model contents(Store& store) {
  Model out;
  for (const std::string& table : kTables) {
    REQUIRE_OK(store.scan(table, {}, [&](ByteSpan key, ByteSpan value) -> Status {
      out[table][std::string(as_text(key))] = Bytes(value.begin(), value.end());
      return {};
    }));
  }
  return out;
}

bool same(const Model& a, const Model& b) {
  for (const std::string& table : kTables) {
    const auto in_a = a.find(table);
    const auto in_b = b.find(table);
    const Rows none;
    if ((in_a == a.end() ? none : in_a->second) != (in_b == b.end() ? none : in_b->second)) return false;
  }
  return true;
}

struct Run {
  Model acknowledged;           ///< the state that every commit() which returned ok must have left
  std::optional<Model> flight;  ///< with the commit that was under way when the power went
};

/// Two sessions of the workload (the close between them is a checkpoint), until it ends or a fault stops it.
Run run(FaultyDisk& disk, const std::vector<std::vector<Write>>& commits) {
  Run out;
  std::size_t next = 0;
  for (const std::size_t end : {commits.size() / 2, commits.size()}) {
    auto store = open_on(disk);
    if (!store.ok()) return out;
    for (; next < end; ++next) {
      const Model after = applied(out.acknowledged, commits[next]);
      if (!(*store)->commit(commits[next]).ok()) {
        out.flight = after;
        return out;
      }
      out.acknowledged = after;
    }
  }
  return out;
}

/// "" where the store holds what `run` says it must, else what is wrong.
std::string judged(FaultyDisk& disk, const Run& run) {
  auto store = open_on(disk);
  if (!store.ok()) return "cannot open: " + store.error().message;
  const Status sound = (*store)->verify();
  if (!sound.ok()) return "damaged: " + sound.error().message;
  const Model found = contents(**store);
  if (same(found, run.acknowledged) || (run.flight && same(found, *run.flight))) return "";
  return "holds neither the acknowledged state nor the one with the whole commit that was under way";
}

std::uint64_t operations_of(const std::vector<std::vector<Write>>& commits) {
  FaultyDisk disk("count");
  disk.arm(Fault::none, 0);
  (void)run(disk, commits);
  return disk.operations();
}

}  // namespace

TEST_CASE("power lost at any write or fsync leaves every acknowledged commit and no part of another") {
  const auto commits = workload(24);
  const std::uint64_t points = operations_of(commits);
  MESSAGE("crash points: " << points);
  REQUIRE(points > 100);
  std::uint64_t in_flight_kept = 0;
  std::uint64_t in_flight_lost = 0;
  for (std::uint64_t point = 1; point <= points; ++point) {
    for (const Survival survival : kSurvivals) {
      FaultyDisk disk("crash");
      disk.arm(Fault::crash, point);
      const Run before = run(disk, commits);
      REQUIRE(disk.crashed());
      disk.power_cycle(survival, point);
      CAPTURE(point);
      CAPTURE(static_cast<int>(survival));
      REQUIRE(judged(disk, before) == std::string());
      if (!before.flight) continue;
      auto store = open_on(disk);
      REQUIRE_OK(store);
      const bool kept = !same(before.acknowledged, *before.flight) && same(contents(**store), *before.flight);
      ++(kept ? in_flight_kept : in_flight_lost);
    }
  }
  // Both outcomes of an unacknowledged commit must have been seen, or the harness does not cut where it should.
  CHECK(in_flight_kept > 0);
  CHECK(in_flight_lost > 0);
}

TEST_CASE("power lost again during recovery changes nothing") {
  const auto commits = workload(12);
  const std::uint64_t points = operations_of(commits);
  std::uint64_t second_crashes = 0;
  for (std::uint64_t point = 1; point <= points; point += 3) {
    for (std::uint64_t second = 1; second <= 12; ++second) {
      FaultyDisk disk("twice");
      disk.arm(Fault::crash, point);
      const Run before = run(disk, commits);
      disk.power_cycle(Survival::random, point);
      disk.arm(Fault::crash, second);
      { const auto recovering = open_on(disk); }  // opens, recovers, checkpoints at close
      if (disk.crashed()) ++second_crashes;
      disk.power_cycle(Survival::random, second);
      CAPTURE(point);
      CAPTURE(second);
      REQUIRE(judged(disk, before) == std::string());
    }
  }
  CHECK(second_crashes > points / 3);
}

TEST_CASE("one failed write or fsync refuses one commit and the store goes on") {
  const auto commits = workload(24);
  const std::uint64_t points = operations_of(commits);
  std::uint64_t refused = 0;
  for (const Fault fault : {Fault::io_error, Fault::full}) {
    for (std::uint64_t point = 1; point <= points; ++point) {
      CAPTURE(point);
      CAPTURE(static_cast<int>(fault));
      FaultyDisk disk("error");
      auto store = open_on(disk);
      REQUIRE_OK(store);
      disk.arm(fault, point);
      Model acknowledged;
      for (const auto& commit : commits) {
        Status done = (*store)->commit(commit);
        if (!done.ok()) {
          ++refused;
          const ErrorCode expected = fault == Fault::full ? ErrorCode::resource_exhausted : ErrorCode::io_error;
          REQUIRE(done.error().code == expected);
          REQUIRE(same(contents(**store), acknowledged));
          disk.arm(Fault::none, 0);  // the disk is well again, or someone made room
          done = (*store)->commit(commit);
          REQUIRE_OK(done);
        }
        acknowledged = applied(acknowledged, commit);
      }
      REQUIRE(same(contents(**store), acknowledged));
      store->reset();
      disk.power_cycle(Survival::nothing, point);
      REQUIRE(judged(disk, {acknowledged, std::nullopt}) == std::string());
    }
  }
  CHECK(refused > points);  // not every operation belongs to a commit: a failed checkpoint is tried again later
}

TEST_CASE("a disk that lies about fsync is caught: these checks can fail") {
  const auto commits = workload(24);
  const std::uint64_t points = operations_of(commits);
  std::uint64_t violations = 0;
  for (std::uint64_t point = 20; point <= points; point += 7) {
    FaultyDisk disk("liar");
    disk.set_lying_sync(true);
    disk.arm(Fault::crash, point);
    const Run before = run(disk, commits);
    disk.power_cycle(Survival::nothing, point);
    if (!judged(disk, before).empty()) ++violations;
  }
  CHECK(violations > points / 14);
}

TEST_CASE("a flipped bit is an error or changes one value, never a crash") {
  const auto commits = workload(12);
  FaultyDisk whole("whole");
  const Run before = run(whole, commits);
  std::uint64_t noticed = 0;
  Rng rng(3);
  for (int trial = 0; trial < 300; ++trial) {
    FaultyDisk disk("flip");
    (void)run(disk, commits);
    REQUIRE(disk.flip_bit("state.db", rng.below(disk.file_bytes("state.db")), static_cast<int>(rng.below(8))));
    auto store = open_on(disk);
    if (!store.ok()) {
      ++noticed;
      CHECK(store.error().message.find('\n') == std::string::npos);
      continue;
    }
    (void)(*store)->verify();
    for (const std::string& table : kTables) {
      (void)(*store)->scan(table, {}, [](ByteSpan, ByteSpan) -> Status { return {}; });
    }
    (void)(*store)->put("rounds", key_of(std::uint64_t{9}), Bytes(10, 1));
  }
  MESSAGE("flipped bits noticed at open: " << noticed << " of 300");
  CHECK(noticed > 0);
}

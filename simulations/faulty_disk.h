/// A disk in memory behind SQLite's VFS seam, which can fail and lose power. What was written but not synced may be
/// lost, kept or torn when the power goes; nothing else may.
///
///   FaultyDisk disk("disk");
///   auto store = SqliteStore::open({.path = "state.db", .vfs = disk.name(), .process_lock = false});
///   disk.arm(Fault::crash, 17);              // the 17th operation from now does not come back
///   ... commits, until one fails ...
///   store.reset();
///   disk.power_cycle(Survival::random, seed);   // and open again
///
/// An operation is a write, truncate, sync, create or delete. Reads are not counted and do not fail before a crash.
/// Source of the model: LevelDB's fault_injection_test, SQLite's test_vfs.c and "How SQLite is tested", section 3.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/bytes.h"

namespace covey::simulations {

enum class Fault {
  none,
  crash,     ///< that operation and all after it fail; what it was doing counts as not synced
  io_error,  ///< that operation alone fails with SQLITE_IOERR; half of a write gets through
  full,      ///< that operation and all later writes fail with SQLITE_FULL until the next arm()
};

/// What becomes of unsynced operations when the power goes.
enum class Survival {
  nothing,     ///< all lost
  everything,  ///< all kept: what a kill -9 of the process leaves
  random,      ///< each write lost, kept or torn on its own; names and lengths change in their order up to some point
};

/// Registers itself with SQLite under its name while it lives. One thread at a time. Outlives its connections.
class FaultyDisk {
 public:
  explicit FaultyDisk(const std::string& name);
  ~FaultyDisk();
  FaultyDisk(const FaultyDisk&) = delete;
  FaultyDisk& operator=(const FaultyDisk&) = delete;

  [[nodiscard]] const std::string& name() const;
  /// The fault strikes at the `nth` operation from now (1 = the next); operations() begins at 0 again.
  void arm(Fault fault, std::uint64_t nth);
  [[nodiscard]] std::uint64_t operations() const;
  /// Operations that an armed fault has failed, over the disk's whole life.
  [[nodiscard]] std::uint64_t struck() const;
  [[nodiscard]] bool crashed() const;
  /// Ends what is open, applies the survival, and works again without a fault.
  void power_cycle(Survival survival, std::uint64_t seed);
  /// Empty again.
  void wipe();
  /// A disk that says "synced" and is not: the fault that no store survives, to show that the checks can fail.
  void set_lying_sync(bool lying);
  /// Flips one bit of a file; false where the file is not that long.
  bool flip_bit(const std::string& file, std::uint64_t byte, int bit);
  /// 0 where it does not exist.
  [[nodiscard]] std::uint64_t file_bytes(const std::string& file) const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace covey::simulations

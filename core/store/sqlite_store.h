/// The store on disk. Source: security.md section 7: one connection, WAL, synchronous=FULL, no memory maps, exclusive.
/// A file that damage or a newer Covey makes unreadable is refused at open, before anything is written to it.
#pragma once

#include <memory>

#include "core/store/store.h"

namespace covey::store {

struct SqliteOptions {
  std::string path;          ///< the database file, made (mode 0600) where missing; its folder must exist
  std::string vfs;           ///< SQLite VFS to use; empty: the system's (tests name a fault-injecting one)
  bool process_lock = true;  ///< hold flock on `lock` beside the file, so that a second process is refused
  int lock_wait_ms = 2'000;  ///< for a command that holds the lock for a moment while a daemon starts, or the other way
  int checkpoint_pages = 1000;  ///< the log goes into the database when it holds this many pages of 4 KiB
};

/// One connection behind one mutex. Its cost is the disk's fsync: about one per commit.
class SqliteStore final : public Store {
 public:
  /// Opens or creates, recovers what a crash left, runs quick_check.
  /// @errors unavailable: another process has it. corrupt_data: damaged, or not ours. unsupported: written by a newer
  /// Covey. io_error, permission_denied, not_found (the folder): the system's.
  static Result<std::unique_ptr<SqliteStore>> open(const SqliteOptions& options);
  ~SqliteStore() override;

  Status commit(std::span<const Write> writes) override;
  Result<std::optional<Bytes>> get(std::string_view table, ByteSpan key) override;
  Status scan(std::string_view table, ByteSpan key_prefix, const Visitor& visit) override;
  Status verify() override;
  Status backup(const std::string& path) override;

 private:
  class Connection;
  explicit SqliteStore(std::unique_ptr<Connection> connection);
  std::unique_ptr<Connection> connection_;
};

}  // namespace covey::store

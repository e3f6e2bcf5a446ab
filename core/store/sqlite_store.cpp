#include "core/store/sqlite_store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "core/base/file.h"

namespace covey::store {
namespace {

constexpr std::int64_t kSchemaVersion = 1;
constexpr int kBusyTimeoutMs = 5000;
constexpr int kBackupPages = 256;  ///< 1 MiB: how much of a backup is copied before others get their turn

std::string folder_of(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool ok() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

Status sync_folder(const std::string& folder) {
  const Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok() || ::fsync(fd.get()) != 0) return os_error(folder, "cannot fsync the folder");
  return {};
}

/// SQLite would make it readable to everyone; what lies in it is not for everyone.
Status create_private(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  if (fd.ok()) return sync_folder(folder_of(path));
  if (errno != EEXIST) return os_error(path, "cannot create the database");
  std::error_code ignored;
  if (!std::filesystem::is_directory(path, ignored)) return {};
  return Error{ErrorCode::invalid_argument, path + ": is a folder where the database belongs; move it away"};
}

Result<Fd> take_process_lock(const std::string& folder, int wait_ms) {
  const std::string path = folder + "/lock";
  Fd fd(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  if (!fd.ok()) return os_error(path, "cannot open the lock file");
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::milliseconds(wait_ms);
  for (;;) {
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) == 0) return fd;
    if (errno != EWOULDBLOCK) return os_error(path, "cannot lock");
    if (std::chrono::steady_clock::now() >= give_up) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return Error{ErrorCode::unavailable, folder + ": is in use by another process; stop that one first"};
}

struct StatementCloser {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, StatementCloser>;

struct DatabaseCloser {
  void operator()(sqlite3* db) const { sqlite3_close_v2(db); }
};
using Database = std::unique_ptr<sqlite3, DatabaseCloser>;

/// Resets a cached statement when its use ends, so that it holds no read lock and no borrowed memory.
class Use {
 public:
  explicit Use(sqlite3_stmt* statement) : statement_(statement) {}
  ~Use() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

  /// Borrows `bytes` until this object goes.
  void bind(int index, ByteSpan bytes) {
    const void* data = bytes.empty() ? static_cast<const void*>("") : bytes.data();  // nullptr would bind NULL
    sqlite3_bind_blob64(statement_, index, data, bytes.size(), SQLITE_STATIC);
  }
  int step() { return sqlite3_step(statement_); }
  [[nodiscard]] ByteSpan column(int index) const {
    const auto* data = static_cast<const std::uint8_t*>(sqlite3_column_blob(statement_, index));
    return {data, static_cast<std::size_t>(sqlite3_column_bytes(statement_, index))};
  }

 private:
  sqlite3_stmt* statement_;
};

}  // namespace

/// Everything that touches SQLite. Its callers hold `mutex`.
class SqliteStore::Connection {
 public:
  Status open(const SqliteOptions& options);
  Status commit(std::span<const Write> writes);
  Result<std::optional<Bytes>> get(std::string_view table, ByteSpan key);
  Status scan(std::string_view table, ByteSpan key_prefix, const Visitor& visit);
  Status check(const char* pragma);
  Status backup(const std::string& path);  ///< the one that its caller does not hold `mutex` for

  std::mutex mutex;

 private:
  int copy_pages(sqlite3* copy);
  struct Statements {
    Statement put, erase, get, scan_from, scan_range;
  };

  [[nodiscard]] Error failure(int code, const std::string& doing) const;
  Status execute(const std::string& sql, const std::string& doing);
  Status prepare(Statement& slot, const std::string& sql);
  Result<std::string> query_text(const std::string& sql, const std::string& doing);
  Status check_schema(bool& is_new);
  Status apply(std::span<const Write> writes, std::set<std::string, std::less<>>& created);
  Status apply_one(const Write& write);

  std::string path_;
  Fd lock_;  // outlives the database below: released last
  Database db_;
  std::set<std::string, std::less<>> tables_;
  std::map<std::string, Statements, std::less<>> statements_;
};

Error SqliteStore::Connection::failure(int code, const std::string& doing) const {
  const std::string detail = db_ ? sqlite3_errmsg(db_.get()) : sqlite3_errstr(code);
  const std::string where = path_ + ": " + doing + ": ";
  switch (code & 0xff) {
    case SQLITE_FULL:
      return {ErrorCode::resource_exhausted, where + "the disk is full; free some space"};
    case SQLITE_NOMEM:
      return {ErrorCode::resource_exhausted, where + detail};
    case SQLITE_IOERR:
      return {ErrorCode::io_error, where + detail + "; look at the disk and the system's log"};
    case SQLITE_CANTOPEN:
      return {ErrorCode::io_error, where + detail + "; look at the folder and its permissions"};
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
      return {ErrorCode::corrupt_data, where + detail + "; restore the last backup"};
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return {ErrorCode::unavailable, where + "another process holds the database; stop that one first"};
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return {ErrorCode::permission_denied, where + detail};
    default:
      return {ErrorCode::internal, where + detail + " (" + std::to_string(code) + ")"};
  }
}

Status SqliteStore::Connection::execute(const std::string& sql, const std::string& doing) {
  const int code = sqlite3_exec(db_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (code != SQLITE_OK) return failure(code, doing);
  return {};
}

Status SqliteStore::Connection::prepare(Statement& slot, const std::string& sql) {
  if (slot) return {};
  sqlite3_stmt* statement = nullptr;
  const int code = sqlite3_prepare_v3(db_.get(), sql.c_str(), -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
  slot.reset(statement);
  if (code != SQLITE_OK) return failure(code, "cannot prepare a statement");
  return {};
}

/// First column of the first row; "" where there is no row.
Result<std::string> SqliteStore::Connection::query_text(const std::string& sql, const std::string& doing) {
  Statement statement;
  COVEY_TRY(prepare(statement, sql));
  const int code = sqlite3_step(statement.get());
  if (code == SQLITE_DONE) return std::string();
  if (code != SQLITE_ROW) return failure(code, doing);
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement.get(), 0));
  return std::string(text == nullptr ? "" : text);
}

Status SqliteStore::Connection::open(const SqliteOptions& options) {
  path_ = options.path;
  const bool on_disk = options.vfs.empty() && options.path != ":memory:";
  if (options.process_lock) {
    COVEY_ASSIGN(lock_, take_process_lock(folder_of(path_), options.lock_wait_ms));
  }
  if (on_disk) COVEY_TRY(create_private(path_));
  sqlite3* raw = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
  const int code = sqlite3_open_v2(path_.c_str(), &raw, flags, options.vfs.empty() ? nullptr : options.vfs.c_str());
  db_.reset(raw);
  if (code != SQLITE_OK) return failure(code, "cannot open the database");
  sqlite3_busy_timeout(db_.get(), kBusyTimeoutMs);
  sqlite3_db_config(db_.get(), SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  // Exclusive before the first read: the WAL index then lives in our memory, and no other connection can come in.
  COVEY_TRY(execute(
      "PRAGMA locking_mode=EXCLUSIVE; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY;"
      "PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA secure_delete=ON; PRAGMA synchronous=EXTRA;",
      "cannot set up the connection"));
  bool is_new = false;
  COVEY_TRY(check_schema(is_new));
  COVEY_TRY(check("quick_check"));
  // The switch of an empty file to a write-ahead log is itself a commit with a rollback journal. With FULL that journal
  // is deleted without a sync of the folder: a power cut can bring it back, and it would undo the switch and with it
  // every commit since. EXTRA (above) syncs; from here on FULL is all that a write-ahead log can use.
  COVEY_ASSIGN(const std::string mode, query_text("PRAGMA journal_mode=WAL", "cannot switch to write-ahead logging"));
  if (mode != "wal" && path_ != ":memory:") {
    return Error{ErrorCode::unsupported, path_ + ": the file system gives no write-ahead log (mode " + mode + ")"};
  }
  COVEY_TRY(execute(
      "PRAGMA journal_size_limit=67108864; PRAGMA wal_autocheckpoint=" + std::to_string(options.checkpoint_pages),
      "cannot bound the log"));
  if (is_new) {
    COVEY_TRY(
        execute("BEGIN IMMEDIATE; CREATE TABLE covey_schema(version INTEGER NOT NULL);"
                "INSERT INTO covey_schema VALUES(" +
                    std::to_string(kSchemaVersion) + "); COMMIT",
                "cannot write the schema version"));
  }
  return {};
}

/// Fills tables_; decides whether the file is empty, ours, or not to be touched.
Status SqliteStore::Connection::check_schema(bool& is_new) {
  Statement statement;
  COVEY_TRY(prepare(statement, "SELECT name FROM sqlite_schema WHERE type='table'"));
  bool ours = false;
  int code = SQLITE_OK;
  while ((code = sqlite3_step(statement.get())) == SQLITE_ROW) {
    const std::string name = reinterpret_cast<const char*>(sqlite3_column_text(statement.get(), 0));
    if (name == "covey_schema") ours = true;
    if (check_table_name(name).ok()) tables_.insert(name);
  }
  if (code != SQLITE_DONE) return failure(code, "cannot read the database");
  is_new = !ours && tables_.empty();
  if (is_new) return {};
  if (!ours)
    return Error{ErrorCode::corrupt_data, path_ + ": is a database, but not one of Covey's; give another path"};
  COVEY_ASSIGN(const std::string version,
               query_text("SELECT max(version) FROM covey_schema", "cannot read its version"));
  const std::int64_t number = std::strtoll(version.c_str(), nullptr, 10);
  if (number >= 1 && number <= kSchemaVersion) return {};
  return Error{ErrorCode::unsupported, path_ + ": has schema version " + version + ", this program knows up to " +
                                           std::to_string(kSchemaVersion) + "; use the newer program"};
}

Status SqliteStore::Connection::check(const char* pragma) {
  COVEY_ASSIGN(const std::string answer,
               query_text(std::string("PRAGMA ") + pragma + "(1)", "cannot check the database"));
  if (answer == "ok") return {};
  const std::string finding = answer.substr(answer.rfind('\n') + 1);  // SQLite puts a title line before it
  return Error{ErrorCode::corrupt_data, path_ + ": is damaged (" + finding + "); restore the last backup"};
}

Status SqliteStore::Connection::commit(std::span<const Write> writes) {
  for (const Write& write : writes) COVEY_TRY(check_write(write));
  if (writes.empty()) return {};
  COVEY_TRY(execute("BEGIN IMMEDIATE", "cannot begin a commit"));
  std::set<std::string, std::less<>> created;
  Status outcome = apply(writes, created);
  if (outcome.ok()) outcome = execute("COMMIT", "cannot commit");
  if (!outcome.ok()) {
    // Some failures roll back by themselves; what stays open must not swallow the next commit.
    if (sqlite3_get_autocommit(db_.get()) == 0) sqlite3_exec(db_.get(), "ROLLBACK", nullptr, nullptr, nullptr);
    return outcome;
  }
  tables_.merge(created);
  return {};
}

Status SqliteStore::Connection::apply(std::span<const Write> writes, std::set<std::string, std::less<>>& created) {
  for (const Write& write : writes) {
    if (!tables_.contains(write.table) && !created.contains(write.table)) {
      // The name is safe in the statement: check_table_name let only a-z and _ through.
      COVEY_TRY(execute(
          "CREATE TABLE \"" + write.table + "\"(key BLOB NOT NULL PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
          "cannot create table " + write.table));
      created.insert(write.table);
    }
    COVEY_TRY(apply_one(write));
  }
  return {};
}

Status SqliteStore::Connection::apply_one(const Write& write) {
  Statements& cached = statements_[write.table];
  Statement& slot = write.value ? cached.put : cached.erase;
  COVEY_TRY(prepare(slot, write.value ? "INSERT INTO \"" + write.table +
                                            "\"(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value=?2"
                                      : "DELETE FROM \"" + write.table + "\" WHERE key=?1"));
  Use use(slot.get());
  use.bind(1, write.key);
  if (write.value) use.bind(2, *write.value);
  const int code = use.step();
  if (code != SQLITE_DONE) return failure(code, "cannot write to table " + write.table);
  return {};
}

Result<std::optional<Bytes>> SqliteStore::Connection::get(std::string_view table, ByteSpan key) {
  COVEY_TRY(check_table_name(table));
  if (!tables_.contains(table)) return std::optional<Bytes>();
  const std::string name(table);
  Statement& slot = statements_[name].get;
  COVEY_TRY(prepare(slot, "SELECT value FROM \"" + name + "\" WHERE key=?1"));
  Use use(slot.get());
  use.bind(1, key);
  const int code = use.step();
  if (code == SQLITE_DONE) return std::optional<Bytes>();
  if (code != SQLITE_ROW) return failure(code, "cannot read table " + name);
  const ByteSpan value = use.column(0);
  return std::optional<Bytes>(Bytes(value.begin(), value.end()));
}

Status SqliteStore::Connection::scan(std::string_view table, ByteSpan key_prefix, const Visitor& visit) {
  COVEY_TRY(check_table_name(table));
  if (!tables_.contains(table)) return {};
  const std::string name(table);
  const std::optional<Bytes> end = end_of_prefix(key_prefix);
  Statements& cached = statements_[name];
  Statement& slot = end ? cached.scan_range : cached.scan_from;
  COVEY_TRY(prepare(
      slot, "SELECT key, value FROM \"" + name + "\" WHERE key>=?1" + (end ? " AND key<?2" : "") + " ORDER BY key"));
  Use use(slot.get());
  use.bind(1, key_prefix);
  if (end) use.bind(2, *end);
  int code = SQLITE_OK;
  while ((code = use.step()) == SQLITE_ROW) COVEY_TRY(visit(use.column(0), use.column(1)));
  if (code != SQLITE_DONE) return failure(code, "cannot read table " + name);
  return {};
}

/// Copies all pages in turns of kBackupPages. Commits between two turns come through the same connection, and SQLite
/// carries them over into the pages that are copied already: the copy is the database as it is at the last turn.
int SqliteStore::Connection::copy_pages(sqlite3* copy) {
  sqlite3_backup* job = nullptr;
  {
    const std::scoped_lock lock(mutex);
    job = sqlite3_backup_init(copy, "main", db_.get(), "main");
  }
  if (job == nullptr) return sqlite3_errcode(copy);
  for (int code = SQLITE_OK; code == SQLITE_OK;) {
    {
      const std::scoped_lock lock(mutex);
      code = sqlite3_backup_step(job, kBackupPages);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // a mutex is not fair: who waits shall get it
  }
  const std::scoped_lock lock(mutex);
  return sqlite3_backup_finish(job);
}

Status SqliteStore::Connection::backup(const std::string& path) {
  if (std::filesystem::exists(path)) {
    return Error{ErrorCode::already_exists, path + ": exists already; give a path that is free"};
  }
  const std::string part = path + ".part";
  std::error_code ignored;
  std::filesystem::remove(part, ignored);
  COVEY_TRY(create_private(part));
  sqlite3* raw = nullptr;
  int code = sqlite3_open_v2(part.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  Database copy(raw);
  std::string detail = code == SQLITE_OK ? "" : sqlite3_errstr(code);
  if (code == SQLITE_OK) {
    code = copy_pages(copy.get());
    if (code != SQLITE_OK) detail = sqlite3_errmsg(copy.get());
  }
  copy.reset();
  if (code != SQLITE_OK) {
    std::filesystem::remove(part, ignored);
    return Error{(code & 0xff) == SQLITE_FULL ? ErrorCode::resource_exhausted : ErrorCode::io_error,
                 path + ": cannot write the backup: " + detail};
  }
  const Fd fd(::open(part.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.ok() || ::fsync(fd.get()) != 0) return os_error(part, "cannot fsync the backup");
  if (std::rename(part.c_str(), path.c_str()) != 0) return os_error(path, "cannot rename the backup");
  return sync_folder(folder_of(path));
}

SqliteStore::SqliteStore(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}
SqliteStore::~SqliteStore() = default;

Result<std::unique_ptr<SqliteStore>> SqliteStore::open(const SqliteOptions& options) {
  auto connection = std::make_unique<Connection>();
  COVEY_TRY(connection->open(options));
  return std::unique_ptr<SqliteStore>(new SqliteStore(std::move(connection)));
}

Status SqliteStore::commit(std::span<const Write> writes) {
  const std::scoped_lock lock(connection_->mutex);
  return connection_->commit(writes);
}

Result<std::optional<Bytes>> SqliteStore::get(std::string_view table, ByteSpan key) {
  const std::scoped_lock lock(connection_->mutex);
  return connection_->get(table, key);
}

Status SqliteStore::scan(std::string_view table, ByteSpan key_prefix, const Visitor& visit) {
  const std::scoped_lock lock(connection_->mutex);
  return connection_->scan(table, key_prefix, visit);
}

Status SqliteStore::verify() {
  const std::scoped_lock lock(connection_->mutex);
  return connection_->check("integrity_check");
}

Status SqliteStore::backup(const std::string& path) {
  return connection_->backup(path);
}

}  // namespace covey::store

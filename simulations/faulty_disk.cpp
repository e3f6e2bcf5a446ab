#include "simulations/faulty_disk.h"

#include <sqlite3.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <new>
#include <vector>

#include "core/base/rng.h"

namespace covey::simulations {
namespace {

constexpr std::size_t kTearBytes = 512;  ///< a torn write keeps whole sectors of this size

struct Operation {
  enum class Kind { write, truncate, create, remove } kind{};
  std::uint64_t offset = 0;  ///< write: where; truncate: the new length
  Bytes data;
};

struct File {
  bool exists = false;
  Bytes content;
  bool durable_exists = false;
  Bytes durable;
  std::vector<Operation> unsynced;

  void apply(const Operation& op) {
    switch (op.kind) {
      case Operation::Kind::write:
        if (!exists) return;
        if (content.size() < op.offset + op.data.size()) content.resize(op.offset + op.data.size());
        std::ranges::copy(op.data, content.begin() + static_cast<std::ptrdiff_t>(op.offset));
        return;
      case Operation::Kind::truncate:
        if (exists) content.resize(op.offset);
        return;
      case Operation::Kind::create:
        exists = true;
        return;
      case Operation::Kind::remove:
        exists = false;
        content.clear();
        return;
    }
  }
  void harden() {
    durable_exists = exists;
    durable = content;
    unsynced.clear();
  }
  /// harden(), at the cost of what is not synced instead of the whole file.
  void sync() {
    for (const Operation& op : unsynced) {
      if (op.kind != Operation::Kind::write) return harden();
    }
    for (const Operation& op : unsynced) {
      if (durable.size() < op.offset + op.data.size()) durable.resize(op.offset + op.data.size());
      std::ranges::copy(op.data, durable.begin() + static_cast<std::ptrdiff_t>(op.offset));
    }
    unsynced.clear();
  }
};

}  // namespace

struct FaultyDisk::State {
  std::string name;
  sqlite3_vfs vfs{};
  std::map<std::string, std::shared_ptr<File>> files;
  Fault fault = Fault::none;
  std::uint64_t strikes_at = 0;
  std::uint64_t operations = 0;
  std::uint64_t struck = 0;
  std::uint64_t power_cycles = 0;  ///< handles of an earlier life are dead
  bool crashed = false;
  bool lying_sync = false;
  Rng rng{1};

  /// Counts one operation. @return SQLITE_OK, or the code with which it must fail; sets `half` where it half happens.
  int count(bool is_write, bool& half) {
    half = false;
    if (crashed) return SQLITE_IOERR;
    ++operations;
    const bool now = operations == strikes_at;
    if (fault == Fault::crash && now) {
      ++struck;
      crashed = true;
      half = true;
      return SQLITE_IOERR;
    }
    if (fault == Fault::io_error && now) {
      ++struck;
      half = is_write;
      return SQLITE_IOERR;
    }
    if (fault == Fault::full && operations >= strikes_at && is_write) {
      ++struck;
      return SQLITE_FULL;
    }
    return SQLITE_OK;
  }

  std::shared_ptr<File>& file(const std::string& path) {
    auto& slot = files[path];
    if (!slot) slot = std::make_shared<File>();
    return slot;
  }
};

namespace {

using State = FaultyDisk::State;

/// SQLite allocates szOsFile bytes and we build this in them; xClose destroys it.
struct Handle {
  sqlite3_file base;
  State* disk;
  std::shared_ptr<File> file;
  std::uint64_t life;
  bool temporary;

  [[nodiscard]] bool dead() const { return disk->crashed || life != disk->power_cycles; }
};

Handle& handle_of(sqlite3_file* file) {
  return *reinterpret_cast<Handle*>(file);
}
State& disk_of(sqlite3_vfs* vfs) {
  return *static_cast<State*>(vfs->pAppData);
}

/// Does one operation on a file, with the fault that may strike it.
int perform(Handle& handle, Operation op) {
  if (handle.temporary) {
    handle.file->apply(op);
    return SQLITE_OK;
  }
  if (handle.dead()) return SQLITE_IOERR;
  bool half = false;
  const int code = handle.disk->count(op.kind == Operation::Kind::write, half);
  if (code != SQLITE_OK && !half) return code;
  if (code != SQLITE_OK && !handle.disk->crashed) op.data.resize(op.data.size() / 2);
  handle.file->apply(op);
  handle.file->unsynced.push_back(std::move(op));
  return code;
}

int close_file(sqlite3_file* file) {
  handle_of(file).~Handle();
  return SQLITE_OK;
}

int read_file(sqlite3_file* file, void* out, int amount, sqlite3_int64 offset) {
  const Handle& handle = handle_of(file);
  if (!handle.temporary && handle.dead()) return SQLITE_IOERR_READ;
  const Bytes& content = handle.file->content;
  const auto begin = std::min(static_cast<std::size_t>(offset), content.size());
  const auto there = std::min(static_cast<std::size_t>(amount), content.size() - begin);
  if (there > 0) std::memcpy(out, content.data() + begin, there);
  if (there == static_cast<std::size_t>(amount)) return SQLITE_OK;
  std::memset(static_cast<std::uint8_t*>(out) + there, 0, static_cast<std::size_t>(amount) - there);
  return SQLITE_IOERR_SHORT_READ;
}

int write_file(sqlite3_file* file, const void* data, int amount, sqlite3_int64 offset) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  const int code = perform(handle_of(file),
                           {Operation::Kind::write, static_cast<std::uint64_t>(offset), Bytes(bytes, bytes + amount)});
  return code == SQLITE_IOERR ? SQLITE_IOERR_WRITE : code;
}

int truncate_file(sqlite3_file* file, sqlite3_int64 size) {
  const int code = perform(handle_of(file), {Operation::Kind::truncate, static_cast<std::uint64_t>(size), {}});
  return code == SQLITE_IOERR ? SQLITE_IOERR_TRUNCATE : code;
}

int sync_file(sqlite3_file* file, int) {
  Handle& handle = handle_of(file);
  if (handle.temporary) return SQLITE_OK;
  if (handle.dead()) return SQLITE_IOERR_FSYNC;
  bool half = false;
  if (handle.disk->count(false, half) != SQLITE_OK) return SQLITE_IOERR_FSYNC;
  if (!handle.disk->lying_sync) handle.file->sync();
  return SQLITE_OK;
}

int file_size(sqlite3_file* file, sqlite3_int64* out) {
  const Handle& handle = handle_of(file);
  if (!handle.temporary && handle.dead()) return SQLITE_IOERR_FSTAT;
  *out = static_cast<sqlite3_int64>(handle.file->content.size());
  return SQLITE_OK;
}

int no_lock(sqlite3_file*, int) {
  return SQLITE_OK;
}
int check_reserved(sqlite3_file*, int* out) {
  *out = 0;
  return SQLITE_OK;
}
int file_control(sqlite3_file*, int, void*) {
  return SQLITE_NOTFOUND;
}
int sector_size(sqlite3_file*) {
  return 4096;
}
/// What SQLite's unix VFS says of Linux file systems.
int device_characteristics(sqlite3_file*) {
  return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

const sqlite3_io_methods kMethods = {
    .iVersion = 1,  // no shared memory: a store that asked for it would fail here
    .xClose = close_file,
    .xRead = read_file,
    .xWrite = write_file,
    .xTruncate = truncate_file,
    .xSync = sync_file,
    .xFileSize = file_size,
    .xLock = no_lock,
    .xUnlock = no_lock,
    .xCheckReservedLock = check_reserved,
    .xFileControl = file_control,
    .xSectorSize = sector_size,
    .xDeviceCharacteristics = device_characteristics,
    .xShmMap = nullptr,
    .xShmLock = nullptr,
    .xShmBarrier = nullptr,
    .xShmUnmap = nullptr,
    .xFetch = nullptr,
    .xUnfetch = nullptr,
};

int open_file(sqlite3_vfs* vfs, const char* path, sqlite3_file* out, int flags, int* out_flags) {
  State& disk = disk_of(vfs);
  out->pMethods = nullptr;
  if (disk.crashed) return SQLITE_CANTOPEN;
  const bool temporary = path == nullptr;
  std::shared_ptr<File> file = temporary ? std::make_shared<File>() : disk.file(path);
  if (!file->exists) {
    if ((flags & SQLITE_OPEN_CREATE) == 0 && !temporary) return SQLITE_CANTOPEN;
    bool half = false;
    const Operation create{Operation::Kind::create, 0, {}};
    const int code = temporary ? SQLITE_OK : disk.count(true, half);
    if (code != SQLITE_OK && !half) return SQLITE_CANTOPEN;
    file->apply(create);
    file->unsynced.push_back(create);
    if (code != SQLITE_OK) return SQLITE_CANTOPEN;
  }
  auto* handle =
      new (static_cast<void*>(out)) Handle{{&kMethods}, &disk, std::move(file), disk.power_cycles, temporary};
  (void)handle;
  if (out_flags != nullptr) *out_flags = flags;
  return SQLITE_OK;
}

int delete_file(sqlite3_vfs* vfs, const char* path, int sync_folder) {
  State& disk = disk_of(vfs);
  if (disk.crashed) return SQLITE_IOERR_DELETE;
  const auto& file = disk.file(path);
  if (!file->exists) return SQLITE_IOERR_DELETE_NOENT;
  bool half = false;
  const int code = disk.count(false, half);
  if (code != SQLITE_OK && !half) return SQLITE_IOERR_DELETE;
  const Operation remove{Operation::Kind::remove, 0, {}};
  file->apply(remove);
  file->unsynced.push_back(remove);
  if (code != SQLITE_OK) return SQLITE_IOERR_DELETE;
  if (sync_folder != 0 && !disk.lying_sync) file->harden();
  return SQLITE_OK;
}

int access_file(sqlite3_vfs* vfs, const char* path, int, int* out) {
  State& disk = disk_of(vfs);
  if (disk.crashed) return SQLITE_IOERR_ACCESS;
  *out = disk.file(path)->exists ? 1 : 0;
  return SQLITE_OK;
}

int full_path(sqlite3_vfs*, const char* path, int size, char* out) {
  sqlite3_snprintf(size, out, "%s", path);
  return SQLITE_OK;
}

int randomness(sqlite3_vfs* vfs, int size, char* out) {
  for (int i = 0; i < size; ++i) out[i] = static_cast<char>(disk_of(vfs).rng.next_u32());
  return size;
}

int sleep_not(sqlite3_vfs*, int microseconds) {
  return microseconds;
}
int current_time(sqlite3_vfs*, double* out) {
  *out = 2460000.5;  // a Julian day; nothing of the store depends on it
  return SQLITE_OK;
}
int last_error(sqlite3_vfs*, int, char*) {
  return 0;
}

/// Which unsynced operations reach the medium.
void survive(File& file, Survival survival, Rng& rng) {
  const std::vector<Operation> unsynced = std::move(file.unsynced);
  file.exists = file.durable_exists;
  file.content = file.durable;
  bool metadata_holds = true;
  for (Operation op : unsynced) {
    if (survival == Survival::nothing) break;
    if (survival == Survival::random) {
      if (op.kind != Operation::Kind::write) {
        metadata_holds = metadata_holds && rng.below(4) != 0;
        if (!metadata_holds) continue;
      } else {
        const std::uint64_t fate = rng.below(4);
        if (fate == 0) continue;
        if (fate == 1 && op.data.size() > kTearBytes)
          op.data.resize(rng.below(op.data.size() / kTearBytes) * kTearBytes);
      }
    }
    file.apply(op);
  }
  file.harden();
}

}  // namespace

FaultyDisk::FaultyDisk(const std::string& name) : state_(std::make_unique<State>()) {
  state_->name = name;
  sqlite3_vfs& vfs = state_->vfs;
  vfs.iVersion = 1;
  vfs.szOsFile = static_cast<int>(sizeof(Handle));
  vfs.mxPathname = 512;
  vfs.zName = state_->name.c_str();
  vfs.pAppData = state_.get();
  vfs.xOpen = open_file;
  vfs.xDelete = delete_file;
  vfs.xAccess = access_file;
  vfs.xFullPathname = full_path;
  vfs.xRandomness = randomness;
  vfs.xSleep = sleep_not;
  vfs.xCurrentTime = current_time;
  vfs.xGetLastError = last_error;
  sqlite3_vfs_register(&vfs, 0);
}

FaultyDisk::~FaultyDisk() {
  sqlite3_vfs_unregister(&state_->vfs);
}

const std::string& FaultyDisk::name() const {
  return state_->name;
}

void FaultyDisk::arm(Fault fault, std::uint64_t nth) {
  state_->fault = fault;
  state_->strikes_at = nth;
  state_->operations = 0;
}

std::uint64_t FaultyDisk::operations() const {
  return state_->operations;
}

std::uint64_t FaultyDisk::struck() const {
  return state_->struck;
}

bool FaultyDisk::crashed() const {
  return state_->crashed;
}

void FaultyDisk::power_cycle(Survival survival, std::uint64_t seed) {
  Rng rng(seed);
  for (auto& [path, file] : state_->files) {
    auto fresh = std::make_shared<File>(*file);  // handles of the old life keep the old object
    survive(*fresh, survival, rng);
    file = std::move(fresh);
  }
  state_->crashed = false;
  ++state_->power_cycles;
  arm(Fault::none, 0);
}

void FaultyDisk::wipe() {
  state_->files.clear();
  ++state_->power_cycles;
}

void FaultyDisk::set_lying_sync(bool lying) {
  state_->lying_sync = lying;
}

bool FaultyDisk::flip_bit(const std::string& file, std::uint64_t byte, int bit) {
  File& target = *state_->file(file);
  if (byte >= target.content.size()) return false;
  target.content[byte] ^= static_cast<std::uint8_t>(1U << bit);
  target.harden();
  return true;
}

std::uint64_t FaultyDisk::file_bytes(const std::string& file) const {
  const auto found = state_->files.find(file);
  return found == state_->files.end() ? 0 : found->second->content.size();
}

}  // namespace covey::simulations

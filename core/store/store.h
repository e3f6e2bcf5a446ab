/// Durable key-value tables with atomic commits: the seam behind which all state of the daemons and of the simulator
/// lies. Source: security.md section 7. Implementations: sqlite_store.h (disk), memory_store.h (simulator, tests).
///
///   Write writes[] = {{"rounds", key_of(round), encoded}, {"offers", key_of(round, device), std::nullopt}};
///   COVEY_TRY(store.commit(writes));   // now, and only now, may we acknowledge
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/ids.h"
#include "core/base/result.h"

namespace covey::store {

/// One change of one row.
struct Write {
  std::string table;  ///< 1 to 64 of [a-z_], not beginning with sqlite_ or covey_; exists from its first write on
  Bytes key;          ///< at most kMaxKeyBytes
  std::optional<Bytes> value;  ///< nullopt erases the row (which need not exist); at most kMaxValueBytes
};

inline constexpr std::size_t kMaxKeyBytes = 1024;
inline constexpr std::size_t kMaxValueBytes = std::size_t{512} << 20;

/// Thread-safe: calls take turns. Spans given to a visitor live until it returns.
class Store {
 public:
  /// Sees one row; an error ends the scan and becomes its result. Must not call the store.
  using Visitor = std::function<Status(ByteSpan key, ByteSpan value)>;

  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  virtual ~Store() = default;

  /// Applies all writes in their order, or none. Durable when it returns ok.
  /// @errors invalid_argument: a bad table name or an oversized row, nothing happens. resource_exhausted: the disk is
  /// full. io_error, corrupt_data: the disk failed. After any error this process sees the state before the call; after
  /// a crash that follows an io_error the next one sees the state before or after it, never a part.
  virtual Status commit(std::span<const Write> writes) = 0;
  /// The row's value; nullopt where the row or the table does not exist.
  virtual Result<std::optional<Bytes>> get(std::string_view table, ByteSpan key) = 0;
  /// Visits every row whose key begins with `key_prefix` (empty: all), in the order of key bytes.
  virtual Status scan(std::string_view table, ByteSpan key_prefix, const Visitor& visit) = 0;
  /// Reads everything and checks it against its own structure. @errors corrupt_data names the first damage.
  virtual Status verify() = 0;
  /// Writes a consistent copy as a SQLite database while the store stays open and in use: other calls get their turn
  /// between small parts of it. The copy holds what was committed when the call returns, or a little before. @errors
  /// already_exists: `path` is taken. The copy appears under its name only when it is complete and on disk.
  virtual Status backup(const std::string& path) = 0;

  /// A commit of one write.
  Status put(std::string_view table, Bytes key, Bytes value);
  Status erase(std::string_view table, Bytes key);
};

/// Checks names and sizes; both implementations refuse the same writes.
Status check_table_name(std::string_view table);
Status check_write(const Write& write);

// --- keys: big-endian, so that the order of bytes is the order of numbers ---

Bytes key_of(std::uint64_t number);
Bytes key_of(std::string_view text);
Bytes key_of(const DeviceId& device);
template <typename Tag>
Bytes key_of(StrongId<Tag> id) {
  return key_of(id.value);
}
/// Round first, so that scan(table, key_of(round)) gives the devices of one round.
Bytes key_of(RoundId round, const DeviceId& device);
/// Device first, so that scan(table, key_of(device)) gives the rounds of one device.
Bytes key_of(const DeviceId& device, RoundId round);

/// The number whose 8 big-endian bytes lie at `at`. @errors corrupt_data: the key is too short.
Result<std::uint64_t> number_in_key(ByteSpan key, std::size_t at = 0);
/// The device id whose 32 bytes lie at `at`. @errors corrupt_data: the key is too short.
Result<DeviceId> device_in_key(ByteSpan key, std::size_t at = 0);

/// The smallest key above every key that begins with `prefix`; nullopt where there is none (empty, or all 0xff).
std::optional<Bytes> end_of_prefix(ByteSpan prefix);

}  // namespace covey::store

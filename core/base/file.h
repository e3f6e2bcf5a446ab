/// Whole files: read, map, and replace so that a crash leaves either the old content or the new.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey {

/// What errno says of a call on `path`; `what` failed ("cannot open").
Error os_error(const std::string& path, std::string_view what);

/// @errors not_found, permission_denied, io_error; invalid_argument where the file is larger than `max_bytes`.
Result<Bytes> read_file(const std::string& path, std::uint64_t max_bytes = std::uint64_t{1} << 40);
Result<std::string> read_text_file(const std::string& path, std::uint64_t max_bytes = std::uint64_t{1} << 32);

/// Temporary file beside it, fsync, rename, fsync of the directory. `mode` are the permission bits (0600 for keys).
/// @errors io_error, permission_denied: the old content stands.
Status write_file_durably(const std::string& path, ByteSpan content, unsigned mode = 0644);
Status write_file_durably(const std::string& path, std::string_view content, unsigned mode = 0644);
/// The parts one after another.
Status write_file_durably(const std::string& path, std::span<const ByteSpan> parts, unsigned mode = 0644);

/// Read-only memory map of a whole file; pages come in on first touch. Movable; unmaps when it goes.
class MappedFile {
 public:
  /// @errors not_found, permission_denied, io_error. An empty file maps to an empty span.
  static Result<MappedFile> open(const std::string& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();
  /// Valid while this object lives.
  [[nodiscard]] ByteSpan bytes() const { return {static_cast<const std::uint8_t*>(data_), size_}; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace covey

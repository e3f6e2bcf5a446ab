/// Token rows in a temporary file that has no name: what the devices of a world have to train on, of which memory holds
/// what is being trained on now. Numbers are written as varints, a target as its difference from the token after it, so
/// that a token of plain text takes two or three bytes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/train/rows.h"

namespace covey::simulations {

/// Appended by one thread, then read by any.
class RowFile {
 public:
  /// Where some rows lie.
  struct Place {
    std::uint64_t at = 0;
    std::uint32_t bytes = 0;
    std::uint32_t rows = 0;
  };

  /// In TMPDIR, or /tmp. The system frees it with the process. @errors what the system reports.
  static Result<std::unique_ptr<RowFile>> create();
  ~RowFile();
  RowFile(const RowFile&) = delete;
  RowFile& operator=(const RowFile&) = delete;

  /// @errors invalid_argument: 4 GiB of rows in one call; io_error, resource_exhausted: the disk.
  Result<Place> append(std::span<const train::TokenRow> rows);
  /// Writes what append() still holds: before what was appended last is read.
  Status finish();
  /// The rows as they were appended. @errors io_error; corrupt_data: somebody else wrote to the file.
  [[nodiscard]] Result<std::vector<train::TokenRow>> read(const Place& place) const;

 private:
  explicit RowFile(int file) : file_(file) {}

  int file_;
  std::uint64_t written_ = 0;
  Bytes waiting_;
};

}  // namespace covey::simulations

/// A folder of blobs named by their content, and of ones still coming in. A blob appears under its name only when every
/// chunk has been checked and synced; an interrupted one goes on where it was, its chunks checked again (so no write
/// needs to be synced on the way). One process at a time; not thread-safe.
///
///   <hex>        complete          <hex>.part   chunks so far          <hex>.have   manifest and bitmap of <hex>.part
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/wire/messages.h"

namespace covey::net {

/// What is left to fetch of a blob whose manifest is known.
struct PartialBlob {
  wire::Manifest manifest;
  std::vector<std::uint8_t> have;  ///< per chunk: 1 = stored and checked
};

class BlobStore {
 public:
  /// Creates the folder where it is missing. `bytes_max` bounds all blobs together, unfinished ones at full size.
  static Result<BlobStore> open(const std::string& directory, std::uint64_t bytes_max);
  BlobStore(BlobStore&& other) noexcept;
  BlobStore& operator=(BlobStore&& other) noexcept;
  ~BlobStore();

  [[nodiscard]] bool has(const wire::Hash& blob) const { return complete_.contains(blob); }
  /// Where the complete blob lies. @errors not_found.
  [[nodiscard]] Result<std::string> path(const wire::Hash& blob) const;
  /// Reads a complete blob again and checks it. @errors corrupt_data: it is removed and must be fetched anew.
  Status verify(const wire::Hash& blob, const wire::Manifest& manifest);

  /// Starts or resumes: the answer says what is there. @errors corrupt_data: the manifest is not the blob's;
  /// resource_exhausted: it does not fit bytes_max; io_error.
  Result<PartialBlob> begin(const wire::Hash& blob, const wire::Manifest& manifest);
  /// As begin(), for a blob begun before; not_found where it was not. Broken chunks are fetched again, and so is the
  /// whole blob where the note about it is broken.
  Result<PartialBlob> resume(const wire::Hash& blob);
  /// Stores a chunk of a blob that was begun. Checked against the manifest. @errors corrupt_data: another hash or size.
  Status put(const wire::Hash& blob, std::uint32_t chunk, ByteSpan bytes);
  /// Syncs and gives the blob its name. @errors unavailable: chunks are missing; io_error: it can be tried again.
  Result<std::string> finish(const wire::Hash& blob);

  /// Forgets a blob, complete or not.
  Status remove(const wire::Hash& blob);
  /// Removes every blob that is not listed.
  Status keep_only(const std::vector<wire::Hash>& blobs);
  [[nodiscard]] std::uint64_t bytes_used() const;

 private:
  struct Incoming {
    wire::Manifest manifest;
    std::vector<std::uint8_t> have;
    std::uint64_t note_offset = 0;  ///< of the bitmap in <hex>.have
    int part_fd = -1;
    int note_fd = -1;
  };
  BlobStore(std::string directory, std::uint64_t bytes_max);
  [[nodiscard]] std::string file(const wire::Hash& blob, const char* suffix = "") const;
  Status scan();
  Result<PartialBlob> resume_from(const wire::Hash& blob, wire::Manifest manifest, std::vector<std::uint8_t> claimed,
                                  std::uint64_t note_offset);
  void close_files(Incoming& incoming);

  std::string directory_;
  std::uint64_t bytes_max_ = 0;
  std::map<wire::Hash, std::uint64_t> complete_;  ///< name -> bytes
  std::map<wire::Hash, std::uint64_t> partial_;   ///< name -> bytes when complete
  std::map<wire::Hash, Incoming> incoming_;       ///< begun or resumed in this process
};

}  // namespace covey::net

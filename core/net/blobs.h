/// Blobs: models and adapters, cut into chunks of wire::kChunkBytes and named by the hash of their encoded manifest
/// (security.md section 3). Whoever trusts the name can check every byte. The other half is blob_fetch.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/wire/messages.h"

namespace covey::net {

/// @errors resource_exhausted: more chunks than a manifest may have (2 GiB). An empty blob has no chunks.
Result<wire::Manifest> make_manifest(ByteSpan content);
/// Reads the file once, chunk by chunk. @errors those above, and the file's.
Result<wire::Manifest> make_manifest_of_file(const std::string& path);
/// The blob's name.
wire::Hash blob_id(const wire::Manifest& manifest);

/// How many bytes chunk `index` of a blob of `bytes` has; 0 past the end.
std::uint32_t chunk_size(std::uint64_t bytes, std::uint64_t index);
/// @errors corrupt_data: the number of hashes does not belong to the size, or the manifest has another name.
Status check_manifest(const wire::Hash& blob, const wire::Manifest& manifest);

/// Answers requests for blobs that lie in memory or in files. A file must keep its content: readers check every chunk,
/// so a changed one only costs them time. Not thread-safe. Requests never fail: what cannot be served is an ErrorReply.
class BlobServer {
 public:
  BlobServer();
  ~BlobServer();
  BlobServer(const BlobServer&) = delete;
  BlobServer& operator=(const BlobServer&) = delete;

  /// Serving the same content twice is fine. @return the blob's name.
  Result<wire::Hash> add(Bytes content);
  Result<wire::Hash> add_file(const std::string& path);
  /// A file whose manifest is known already, e.g. from the store.
  Result<wire::Hash> add_file(const std::string& path, wire::Manifest manifest);
  void remove(const wire::Hash& blob);
  [[nodiscard]] bool has(const wire::Hash& blob) const;

  /// ManifestReply or ErrorReply.
  [[nodiscard]] wire::Message answer(const wire::ManifestRequest& request) const;
  /// ChunkReply or ErrorReply. @cost one read of 256 KiB.
  [[nodiscard]] wire::Message answer(const wire::ChunkRequest& request) const;

 private:
  struct Blob;
  struct ByPrefix {  // names are hashes already
    std::size_t operator()(const wire::Hash& hash) const noexcept;
  };
  std::unordered_map<wire::Hash, std::unique_ptr<Blob>, ByPrefix> blobs_;
};

}  // namespace covey::net

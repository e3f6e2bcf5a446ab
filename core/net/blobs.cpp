#include "core/net/blobs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/base/file.h"
#include "core/crypto/hash.h"
#include "core/wire/codec.h"
#include "core/wire/limits.h"

namespace covey::net {
namespace {

/// Owns a descriptor opened for reading.
class ReadFile {
 public:
  static Result<std::unique_ptr<ReadFile>> open(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return os_error(path, "cannot open");
    auto file = std::unique_ptr<ReadFile>(new ReadFile(fd));
    struct stat info {};
    if (::fstat(fd, &info) != 0) return os_error(path, "cannot stat");
    if (!S_ISREG(info.st_mode)) return Error{ErrorCode::invalid_argument, path + ": is not a regular file"};
    file->size_ = static_cast<std::uint64_t>(info.st_size);
    return file;
  }
  ~ReadFile() { ::close(fd_); }
  ReadFile(const ReadFile&) = delete;
  ReadFile& operator=(const ReadFile&) = delete;

  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// False: fewer bytes than asked for, or an error.
  bool read(std::uint64_t offset, std::span<std::uint8_t> out) const {
    while (!out.empty()) {
      const ssize_t n = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return false;
      offset += static_cast<std::uint64_t>(n);
      out = out.subspan(static_cast<std::size_t>(n));
    }
    return true;
  }

 private:
  explicit ReadFile(int fd) : fd_(fd) {}
  int fd_;
  std::uint64_t size_ = 0;
};

std::uint64_t chunks_of(std::uint64_t bytes) {
  return bytes / wire::kChunkBytes + (bytes % wire::kChunkBytes != 0);
}

Status check_count(std::uint64_t bytes) {
  if (chunks_of(bytes) <= wire::kManifestChunksMax) return {};
  return Error{ErrorCode::resource_exhausted, "a blob of " + std::to_string(bytes) + " bytes; at most " +
                                                  std::to_string(wire::kManifestChunksMax) + " chunks of " +
                                                  std::to_string(wire::kChunkBytes) + " bytes; split the file"};
}

wire::ErrorReply not_found(const char* what) {
  return {.complaint = wire::Complaint::not_found, .message = what, .versions = {}};
}

}  // namespace

std::uint32_t chunk_size(std::uint64_t bytes, std::uint64_t index) {
  const std::uint64_t begin = index * wire::kChunkBytes;
  if (index > bytes || begin >= bytes) return 0;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(wire::kChunkBytes, bytes - begin));
}

Result<wire::Manifest> make_manifest(ByteSpan content) {
  COVEY_TRY(check_count(content.size()));
  wire::Manifest out;
  out.bytes = content.size();
  for (std::uint64_t n = 0; n < chunks_of(out.bytes); ++n) {
    out.chunks.push_back(crypto::hash(content.subspan(n * wire::kChunkBytes, chunk_size(out.bytes, n))).bytes);
  }
  return out;
}

Result<wire::Manifest> make_manifest_of_file(const std::string& path) {
  COVEY_ASSIGN(const auto file, ReadFile::open(path));
  if (auto fits = check_count(file->size()); !fits.ok()) return std::move(fits).error().in(path);
  wire::Manifest out;
  out.bytes = file->size();
  Bytes chunk;
  for (std::uint64_t n = 0; n < chunks_of(out.bytes); ++n) {
    chunk.resize(chunk_size(out.bytes, n));
    if (!file->read(n * wire::kChunkBytes, chunk)) return os_error(path, "cannot read");
    out.chunks.push_back(crypto::hash(chunk).bytes);
  }
  return out;
}

wire::Hash blob_id(const wire::Manifest& manifest) {
  return crypto::hash(wire::encode(manifest)).bytes;
}

Status check_manifest(const wire::Hash& blob, const wire::Manifest& manifest) {
  if (chunks_of(manifest.bytes) != manifest.chunks.size() || manifest.chunks.size() > wire::kManifestChunksMax) {
    return Error{ErrorCode::corrupt_data, "manifest: " + std::to_string(manifest.chunks.size()) + " chunks for " +
                                              std::to_string(manifest.bytes) + " bytes"};
  }
  if (blob_id(manifest) != blob) {
    return Error{ErrorCode::corrupt_data, "manifest: its hash is not the name of the blob that was asked for"};
  }
  return {};
}

struct BlobServer::Blob {
  wire::Manifest manifest;
  Bytes content;                   ///< where no file is set
  std::unique_ptr<ReadFile> file;  ///< stays open, so that a replaced path changes nothing
};

std::size_t BlobServer::ByPrefix::operator()(const wire::Hash& hash) const noexcept {
  std::size_t out = 0;
  std::memcpy(&out, hash.data(), sizeof out);
  return out;
}

BlobServer::BlobServer() = default;
BlobServer::~BlobServer() = default;

Result<wire::Hash> BlobServer::add(Bytes content) {
  auto blob = std::make_unique<Blob>();
  COVEY_ASSIGN(blob->manifest, make_manifest(content));
  blob->content = std::move(content);
  const wire::Hash id = blob_id(blob->manifest);
  blobs_.try_emplace(id, std::move(blob));
  return id;
}

Result<wire::Hash> BlobServer::add_file(const std::string& path) {
  COVEY_ASSIGN(auto manifest, make_manifest_of_file(path));
  return add_file(path, std::move(manifest));
}

Result<wire::Hash> BlobServer::add_file(const std::string& path, wire::Manifest manifest) {
  auto blob = std::make_unique<Blob>();
  COVEY_ASSIGN(blob->file, ReadFile::open(path));
  if (blob->file->size() != manifest.bytes) {
    return Error{ErrorCode::corrupt_data, path + ": has " + std::to_string(blob->file->size()) +
                                              " bytes, its manifest says " + std::to_string(manifest.bytes)};
  }
  const wire::Hash id = blob_id(manifest);
  COVEY_TRY(check_manifest(id, manifest));
  blob->manifest = std::move(manifest);
  blobs_.try_emplace(id, std::move(blob));
  return id;
}

void BlobServer::remove(const wire::Hash& blob) {
  blobs_.erase(blob);
}

bool BlobServer::has(const wire::Hash& blob) const {
  return blobs_.contains(blob);
}

wire::Message BlobServer::answer(const wire::ManifestRequest& request) const {
  const auto it = blobs_.find(request.blob);
  if (it == blobs_.end()) return not_found("no such blob");
  return wire::ManifestReply{request.blob, it->second->manifest};
}

wire::Message BlobServer::answer(const wire::ChunkRequest& request) const {
  const auto it = blobs_.find(request.blob);
  if (it == blobs_.end()) return not_found("no such blob");
  const Blob& blob = *it->second;
  const std::uint32_t size = chunk_size(blob.manifest.bytes, request.chunk);
  if (size == 0) return not_found("no such chunk");
  const std::uint64_t offset = std::uint64_t{request.chunk} * wire::kChunkBytes;
  wire::ChunkReply reply{request.blob, request.chunk, Bytes(size)};
  if (blob.file) {
    if (!blob.file->read(offset, reply.bytes)) return not_found("the blob's file cannot be read");
  } else {
    std::copy_n(blob.content.begin() + static_cast<std::ptrdiff_t>(offset), size, reply.bytes.begin());
  }
  return reply;
}

}  // namespace covey::net

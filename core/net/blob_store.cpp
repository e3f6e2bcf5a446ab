#include "core/net/blob_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <span>
#include <system_error>
#include <utility>

#include "core/base/file.h"
#include "core/crypto/hash.h"
#include "core/net/blobs.h"
#include "core/wire/codec.h"

namespace covey::net {
namespace {

constexpr std::string_view kNoteMagic = "CVHAVE1\n";
constexpr std::uint64_t kNoteBytesMax = 1 << 20;

Status write_at(int fd, const std::string& path, std::uint64_t offset, ByteSpan bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return os_error(path, "cannot write");
    offset += static_cast<std::uint64_t>(n);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

bool read_at(int fd, std::uint64_t offset, std::span<std::uint8_t> out) {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    offset += static_cast<std::uint64_t>(n);
    out = out.subspan(static_cast<std::size_t>(n));
  }
  return true;
}

Status sync_directory(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return os_error(path, "cannot open");
  const int rc = ::fsync(fd);
  const int number = errno;
  ::close(fd);
  errno = number;
  if (rc != 0) return os_error(path, "cannot sync");
  return {};
}

struct Note {
  wire::Manifest manifest;
  std::vector<std::uint8_t> have;
  std::uint64_t have_offset = 0;
};

Bytes write_note(const wire::Manifest& manifest) {
  const Bytes encoded = wire::encode(manifest);
  Bytes out(kNoteMagic.begin(), kNoteMagic.end());
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<std::uint8_t>(encoded.size() >> shift));
  out.insert(out.end(), encoded.begin(), encoded.end());
  out.resize(out.size() + manifest.chunks.size());
  return out;
}

Result<Note> read_note(const std::string& path, const wire::Hash& blob) {
  COVEY_ASSIGN(const Bytes raw, read_file(path, kNoteBytesMax));
  const std::size_t head = kNoteMagic.size() + 4;
  const Error broken{ErrorCode::corrupt_data, path + ": is not a note of a started download"};
  if (raw.size() < head || as_text(ByteSpan(raw).first(kNoteMagic.size())) != kNoteMagic) return broken;
  std::size_t size = 0;
  for (std::size_t n = 0; n < 4; ++n) size |= std::size_t{raw[kNoteMagic.size() + n]} << (8 * n);
  if (size > raw.size() - head) return broken;
  Note note;
  COVEY_ASSIGN(note.manifest, wire::decode<wire::Manifest>(ByteSpan(raw).subspan(head, size)));
  COVEY_TRY(check_manifest(blob, note.manifest));
  note.have_offset = head + size;
  if (raw.size() - note.have_offset != note.manifest.chunks.size()) return broken;
  note.have.assign(raw.begin() + static_cast<std::ptrdiff_t>(note.have_offset), raw.end());
  return note;
}

std::optional<wire::Hash> hash_of_name(const std::string& name) {
  const auto raw = from_hex(name);
  wire::Hash out{};
  if (!raw || raw->size() != out.size() || to_hex(*raw) != name) return std::nullopt;
  std::copy(raw->begin(), raw->end(), out.begin());
  return out;
}

}  // namespace

BlobStore::BlobStore(std::string directory, std::uint64_t bytes_max)
    : directory_(std::move(directory)), bytes_max_(bytes_max) {}
BlobStore::BlobStore(BlobStore&& other) noexcept = default;
BlobStore& BlobStore::operator=(BlobStore&& other) noexcept {
  std::swap(directory_, other.directory_);
  std::swap(bytes_max_, other.bytes_max_);
  std::swap(complete_, other.complete_);
  std::swap(partial_, other.partial_);
  std::swap(incoming_, other.incoming_);
  return *this;
}
BlobStore::~BlobStore() {
  for (auto& [blob, incoming] : incoming_) close_files(incoming);
}

std::string BlobStore::file(const wire::Hash& blob, const char* suffix) const {
  return directory_ + "/" + to_hex(blob) + suffix;
}

void BlobStore::close_files(Incoming& incoming) {
  for (int* fd : {&incoming.part_fd, &incoming.note_fd}) {
    if (*fd >= 0) ::close(std::exchange(*fd, -1));
  }
}

Result<BlobStore> BlobStore::open(const std::string& directory, std::uint64_t bytes_max) {
  std::error_code error;
  std::filesystem::create_directories(directory, error);
  if (error) return Error{ErrorCode::io_error, directory + ": cannot create: " + error.message()};
  BlobStore store(directory, bytes_max);
  COVEY_TRY(store.scan());
  return store;
}

/// Learns what is there, and removes what no blob needs: halves without their other half, broken notes, temporaries.
Status BlobStore::scan() {
  std::error_code error;
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory_, error)) {
    names.push_back(entry.path().filename().string());
  }
  if (error) return Error{ErrorCode::io_error, directory_ + ": cannot list: " + error.message()};
  for (const std::string& name : names) {
    const std::string path = directory_ + "/" + name;
    const auto dot = name.find('.');
    const auto blob = hash_of_name(name.substr(0, dot));
    if (!blob) continue;  // not ours
    const std::string suffix = dot == std::string::npos ? "" : name.substr(dot);
    if (suffix.empty()) {
      const auto size = std::filesystem::file_size(path, error);
      if (error) return Error{ErrorCode::io_error, path + ": cannot stat: " + error.message()};
      complete_[*blob] = size;
    } else if (suffix == ".have") {
      const auto note = read_note(path, *blob);
      const bool whole = note.ok() && std::filesystem::exists(file(*blob, ".part"));
      if (whole) partial_[*blob] = note->manifest.bytes;
      if (!whole) std::filesystem::remove(path, error);
    } else if (suffix == ".part") {
      if (!read_note(file(*blob, ".have"), *blob).ok()) std::filesystem::remove(path, error);
    } else {
      std::filesystem::remove(path, error);
    }
  }
  return {};
}

std::uint64_t BlobStore::bytes_used() const {
  std::uint64_t out = 0;
  for (const auto& [blob, bytes] : complete_) out += bytes;
  for (const auto& [blob, bytes] : partial_) out += bytes;
  return out;
}

Result<std::string> BlobStore::path(const wire::Hash& blob) const {
  if (!has(blob)) return Error{ErrorCode::not_found, directory_ + ": no blob " + to_hex(blob)};
  return file(blob);
}

Status BlobStore::verify(const wire::Hash& blob, const wire::Manifest& manifest) {
  COVEY_ASSIGN(const std::string where, path(blob));
  COVEY_TRY(check_manifest(blob, manifest));
  COVEY_ASSIGN(const wire::Manifest now, make_manifest_of_file(where));
  if (blob_id(now) == blob) return {};
  COVEY_TRY(remove(blob));
  return Error{ErrorCode::corrupt_data, where + ": no longer has the content of its name; it was removed"};
}

Result<PartialBlob> BlobStore::begin(const wire::Hash& blob, const wire::Manifest& manifest) {
  COVEY_TRY(check_manifest(blob, manifest));
  if (auto earlier = resume(blob); earlier.ok() || earlier.error().code != ErrorCode::not_found) return earlier;
  const std::uint64_t used = bytes_used();
  if (manifest.bytes > bytes_max_ || used > bytes_max_ - manifest.bytes) {
    return Error{ErrorCode::resource_exhausted, directory_ + ": a blob of " + std::to_string(manifest.bytes) +
                                                    " bytes does not fit beside " + std::to_string(used) + " of " +
                                                    std::to_string(bytes_max_) + "; raise the limit or remove models"};
  }
  const std::string part = file(blob, ".part");
  const int fd = ::open(part.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return os_error(part, "cannot create");
  const int rc = ::ftruncate(fd, static_cast<off_t>(manifest.bytes));
  const int number = errno;
  ::close(fd);
  errno = number;
  if (rc != 0) return os_error(part, "cannot size");
  COVEY_TRY(write_file_durably(file(blob, ".have"), write_note(manifest), 0600));
  partial_[blob] = manifest.bytes;
  return resume(blob);
}

Result<PartialBlob> BlobStore::resume(const wire::Hash& blob) {
  if (const auto it = incoming_.find(blob); it != incoming_.end()) {
    return PartialBlob{it->second.manifest, it->second.have};
  }
  if (!partial_.contains(blob)) return Error{ErrorCode::not_found, directory_ + ": nothing of " + to_hex(blob)};
  auto note = read_note(file(blob, ".have"), blob);
  if (!note.ok()) {
    COVEY_TRY(remove(blob));
    return Error{ErrorCode::not_found, directory_ + ": nothing usable of " + to_hex(blob)};
  }
  return resume_from(blob, std::move(note->manifest), std::move(note->have), note->have_offset);
}

/// Opens both files and believes no claim: every chunk said to be there is read and hashed.
Result<PartialBlob> BlobStore::resume_from(const wire::Hash& blob, wire::Manifest manifest,
                                           std::vector<std::uint8_t> claimed, std::uint64_t note_offset) {
  Incoming incoming{.manifest = std::move(manifest), .have = std::move(claimed), .note_offset = note_offset};
  incoming.part_fd = ::open(file(blob, ".part").c_str(), O_RDWR | O_CLOEXEC);
  incoming.note_fd = ::open(file(blob, ".have").c_str(), O_RDWR | O_CLOEXEC);
  if (incoming.part_fd < 0 || incoming.note_fd < 0 ||
      ::ftruncate(incoming.part_fd, static_cast<off_t>(incoming.manifest.bytes)) != 0) {
    const Error error = os_error(file(blob, ".part"), "cannot open again");
    close_files(incoming);
    return error;
  }
  Bytes chunk;
  for (std::size_t n = 0; n < incoming.have.size(); ++n) {
    if (incoming.have[n] == 0) continue;
    chunk.resize(chunk_size(incoming.manifest.bytes, n));
    const bool good = read_at(incoming.part_fd, n * wire::kChunkBytes, chunk) &&
                      crypto::hash(chunk).bytes == incoming.manifest.chunks[n];
    incoming.have[n] = good ? 1 : 0;
  }
  PartialBlob out{incoming.manifest, incoming.have};
  incoming_.emplace(blob, std::move(incoming));
  return out;
}

Status BlobStore::put(const wire::Hash& blob, std::uint32_t chunk, ByteSpan bytes) {
  const auto it = incoming_.find(blob);
  if (it == incoming_.end()) return Error{ErrorCode::not_found, directory_ + ": " + to_hex(blob) + " was not begun"};
  Incoming& incoming = it->second;
  if (chunk >= incoming.have.size() || bytes.size() != chunk_size(incoming.manifest.bytes, chunk) ||
      crypto::hash(bytes).bytes != incoming.manifest.chunks[chunk]) {
    return Error{ErrorCode::corrupt_data, "chunk " + std::to_string(chunk) + ": not the manifest's bytes"};
  }
  COVEY_TRY(write_at(incoming.part_fd, file(blob, ".part"), std::uint64_t{chunk} * wire::kChunkBytes, bytes));
  const std::uint8_t one = 1;
  COVEY_TRY(write_at(incoming.note_fd, file(blob, ".have"), incoming.note_offset + chunk, {&one, 1}));
  incoming.have[chunk] = 1;
  return {};
}

Result<std::string> BlobStore::finish(const wire::Hash& blob) {
  if (has(blob)) return file(blob);
  const auto it = incoming_.find(blob);
  if (it == incoming_.end()) return Error{ErrorCode::not_found, directory_ + ": " + to_hex(blob) + " was not begun"};
  Incoming& incoming = it->second;
  const auto missing = std::count(incoming.have.begin(), incoming.have.end(), 0);
  if (missing > 0) return Error{ErrorCode::unavailable, std::to_string(missing) + " chunks are missing"};
  if (::fsync(incoming.part_fd) != 0) return os_error(file(blob, ".part"), "cannot sync");
  if (::rename(file(blob, ".part").c_str(), file(blob).c_str()) != 0) {
    return os_error(file(blob, ".part"), "cannot rename");
  }
  complete_[blob] = incoming.manifest.bytes;
  close_files(incoming);
  incoming_.erase(it);
  partial_.erase(blob);
  ::unlink(file(blob, ".have").c_str());  // a note without its part is swept at the next start
  COVEY_TRY(sync_directory(directory_));
  return file(blob);
}

Status BlobStore::remove(const wire::Hash& blob) {
  if (const auto it = incoming_.find(blob); it != incoming_.end()) {
    close_files(it->second);
    incoming_.erase(it);
  }
  for (const char* suffix : {"", ".have", ".part"}) {
    const std::string path = file(blob, suffix);
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return os_error(path, "cannot remove");
  }
  complete_.erase(blob);
  partial_.erase(blob);
  return {};
}

Status BlobStore::keep_only(const std::vector<wire::Hash>& blobs) {
  std::vector<wire::Hash> gone;
  for (const auto* names : {&complete_, &partial_}) {
    for (const auto& [blob, bytes] : *names) {
      if (std::find(blobs.begin(), blobs.end(), blob) == blobs.end()) gone.push_back(blob);
    }
  }
  for (const auto& blob : gone) COVEY_TRY(remove(blob));
  return {};
}

}  // namespace covey::net

#include "core/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

namespace covey {

Error os_error(const std::string& path, std::string_view what) {
  const int number = errno;
  const ErrorCode code = number == ENOENT || number == ENOTDIR                    ? ErrorCode::not_found
                         : number == ENAMETOOLONG || number == EISDIR             ? ErrorCode::invalid_argument
                         : number == EACCES || number == EPERM || number == EROFS ? ErrorCode::permission_denied
                         : number == ENOSPC                                       ? ErrorCode::resource_exhausted
                                                                                  : ErrorCode::io_error;
  return {code, path + ": " + std::string(what) + ": " + std::strerror(number)};
}

namespace {

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  [[nodiscard]] int get() const { return fd_; }
  int close_now() { return ::close(std::exchange(fd_, -1)); }

 private:
  int fd_;
};

Result<std::size_t> regular_size(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return os_error(path, "cannot stat");
  if (!S_ISREG(info.st_mode)) return Error{ErrorCode::invalid_argument, path + ": is not a regular file"};
  return static_cast<std::size_t>(info.st_size);
}

template <typename Buffer>
Result<Buffer> read_into(const std::string& path, std::uint64_t max_bytes) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return os_error(path, "cannot open");
  COVEY_ASSIGN(const std::size_t size, regular_size(fd.get(), path));
  if (size > max_bytes) {
    return Error{ErrorCode::invalid_argument, path + ": has " + std::to_string(size) + " bytes, more than the " +
                                                  std::to_string(max_bytes) + " allowed here; give a smaller one"};
  }
  Buffer out;
  out.resize(size);
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n = ::read(fd.get(), out.data() + done, size - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return os_error(path, "cannot read");
    if (n == 0) break;  // it shrank while we read
    done += static_cast<std::size_t>(n);
  }
  out.resize(done);
  return out;
}

}  // namespace

Result<Bytes> read_file(const std::string& path, std::uint64_t max_bytes) {
  return read_into<Bytes>(path, max_bytes);
}

Result<std::string> read_text_file(const std::string& path, std::uint64_t max_bytes) {
  return read_into<std::string>(path, max_bytes);
}

Status write_file_durably(const std::string& path, ByteSpan content, unsigned mode) {
  return write_file_durably(path, std::span(&content, 1), mode);
}

Status write_file_durably(const std::string& path, std::span<const ByteSpan> parts, unsigned mode) {
  const std::string temporary = path + ".tmp." + std::to_string(::getpid());
  {
    Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
    if (fd.get() < 0) return os_error(temporary, "cannot create");
    const auto fail = [&](const char* what) {
      Error error = os_error(temporary, what);
      ::unlink(temporary.c_str());
      return error;
    };
    for (const ByteSpan part : parts) {
      std::size_t done = 0;
      while (done < part.size()) {
        const ssize_t n = ::write(fd.get(), part.data() + done, part.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail("cannot write");
        done += static_cast<std::size_t>(n);
      }
    }
    if (::fsync(fd.get()) != 0) return fail("cannot fsync");
    if (fd.close_now() != 0) return fail("cannot close");
    if (::rename(temporary.c_str(), path.c_str()) != 0) return fail("cannot rename into place");
  }
  const std::string folder = std::filesystem::path(path).parent_path().string();
  const Fd directory(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.get() < 0 || ::fsync(directory.get()) != 0) return os_error(path, "cannot fsync its directory");
  return {};
}

Status write_file_durably(const std::string& path, std::string_view content, unsigned mode) {
  return write_file_durably(path, as_byte_span(content), mode);
}

Result<MappedFile> MappedFile::open(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return os_error(path, "cannot open");
  COVEY_ASSIGN(const std::size_t size, regular_size(fd.get(), path));
  MappedFile out;
  if (size == 0) return out;
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) return os_error(path, "cannot map");
  out.data_ = data;
  out.size_ = size;
  return out;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace covey

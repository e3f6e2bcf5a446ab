#include "core/crypto/key_file.h"

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/base/file.h"
#include "core/crypto/random.h"
#include "core/crypto/sodium.h"

namespace covey::crypto {
namespace {

constexpr std::string_view kPrefix = "covey-key 1 ";
constexpr std::size_t kFileBytesMax = 512;

bool is_word(std::string_view kind) {
  return !kind.empty() && kind.size() <= 32 &&
         std::all_of(kind.begin(), kind.end(), [](char c) { return (c >= 'a' && c <= 'z') || c == '-'; });
}

struct FdGuard {
  int fd;
  ~FdGuard() { ::close(fd); }
};

/// The whole file, after its permissions were found good on the open descriptor (not on the name, which may be moved).
Result<SecretBytes> read_private_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const ErrorCode code = errno == ENOENT   ? ErrorCode::not_found
                           : errno == EACCES ? ErrorCode::permission_denied
                                             : ErrorCode::io_error;
    return Error{code, path + ": cannot open key file: " + std::strerror(errno)};
  }
  const FdGuard guard{fd};
  struct stat info {};
  if (::fstat(fd, &info) != 0) return Error{ErrorCode::io_error, path + ": cannot stat: " + std::strerror(errno)};
  if (!S_ISREG(info.st_mode)) return Error{ErrorCode::invalid_argument, path + ": is not a regular file"};
  if ((info.st_mode & 077) != 0) {
    return Error{ErrorCode::permission_denied,
                 path + ": others may read or write this key; if they have not, run: chmod 600 " + path};
  }
  if (info.st_uid != ::geteuid() && ::geteuid() != 0) {
    return Error{ErrorCode::permission_denied, path + ": belongs to another user; run: chown $(id -u) " + path};
  }
  if (info.st_size < 0 || static_cast<std::size_t>(info.st_size) > kFileBytesMax) {
    return Error{ErrorCode::corrupt_data, path + ": is too large for a key file"};
  }
  SecretBytes out(static_cast<std::size_t>(info.st_size));
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::read(fd, out.data() + done, out.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Error{ErrorCode::io_error, path + ": cannot read key file"};
    done += static_cast<std::size_t>(n);
  }
  return out;
}

}  // namespace

Status write_key_file(const std::string& path, std::string_view kind, const SecretBytes& key) {
  internal::ready();
  if (!is_word(kind) || key.empty() || key.size() > 128) {
    return Error{ErrorCode::invalid_argument, path + ": a key file needs a lower-case kind and 1 to 128 bytes of key"};
  }
  std::error_code ignored;
  if (std::filesystem::exists(std::filesystem::symlink_status(path, ignored))) {
    return Error{ErrorCode::already_exists, path + ": exists; a key is never overwritten: move it away first"};
  }
  const std::string head = std::string(kPrefix) + std::string(kind) + "\n";
  SecretBytes content(head.size() + 2 * key.size() + 1);
  std::memcpy(content.data(), head.data(), head.size());
  // bin2hex ends its text with a zero; the newline goes there.
  sodium_bin2hex(reinterpret_cast<char*>(content.data()) + head.size(), 2 * key.size() + 1, key.data(), key.size());
  content.data()[content.size() - 1] = '\n';
  return write_file_durably(path, content.span(), 0600);
}

Result<SecretBytes> read_key_file(const std::string& path, std::string_view kind, std::size_t key_bytes) {
  internal::ready();
  COVEY_ASSIGN(const SecretBytes content, read_private_file(path));
  std::string_view text = as_text(content.span());
  if (!text.starts_with(kPrefix) || text.find('\n') == std::string_view::npos) {
    return Error{ErrorCode::corrupt_data, path + ": is no key file of Covey (its first line differs)"};
  }
  const std::size_t line_end = text.find('\n');
  const std::string_view found = text.substr(kPrefix.size(), line_end - kPrefix.size());
  if (found != kind) {
    const std::string shown = is_word(found) ? std::string(found) : "unknown";
    return Error{ErrorCode::corrupt_data,
                 path + ": holds a key of kind '" + shown + "' where '" + std::string(kind) + "' is needed"};
  }
  text.remove_prefix(line_end + 1);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.remove_suffix(1);
  SecretBytes key(key_bytes);
  std::size_t written = 0;
  if (text.size() != 2 * key_bytes ||
      sodium_hex2bin(key.data(), key.size(), text.data(), text.size(), nullptr, &written, nullptr) != 0 ||
      written != key_bytes) {
    return Error{ErrorCode::corrupt_data,
                 path + ": its key is not " + std::to_string(2 * key_bytes) + " hexadecimal digits; restore a backup"};
  }
  return key;
}

Status save_identity(const std::string& path, const IdentityKey& key, std::string_view kind) {
  return write_key_file(path, kind, key.seed());
}

Result<IdentityKey> load_identity(const std::string& path, std::string_view kind) {
  COVEY_ASSIGN(const SecretBytes seed, read_key_file(path, kind));
  return IdentityKey::from_seed(seed.span());
}

Status save_curve(const std::string& path, const CurveKeyPair& pair) {
  return write_key_file(path, "curve", pair.secret_copy());
}

Result<CurveKeyPair> load_curve(const std::string& path) {
  COVEY_ASSIGN(const SecretBytes secret, read_key_file(path, "curve"));
  return CurveKeyPair::from_secret(secret.span());
}

Result<SecretBytes> load_or_create_key(const std::string& path, std::string_view kind) {
  auto existing = read_key_file(path, kind);
  if (existing.ok() || existing.error().code != ErrorCode::not_found) return existing;
  SecretBytes fresh = random_secret(32);
  COVEY_TRY(write_key_file(path, kind, fresh));
  return fresh;
}

}  // namespace covey::crypto

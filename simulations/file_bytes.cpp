#include "simulations/file_bytes.h"

#include <unistd.h>

#include <cerrno>

#include "core/base/file.h"

namespace covey::simulations {

bool read_at(int file, std::uint64_t at, std::span<std::uint8_t> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    const auto got = ::pread(file, out.data() + done, out.size() - done, static_cast<off_t>(at + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += static_cast<std::size_t>(got);
  }
  return true;
}

Status write_at(int file, std::uint64_t at, ByteSpan bytes, const std::string& path) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const auto put = ::pwrite(file, bytes.data() + done, bytes.size() - done, static_cast<off_t>(at + done));
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return os_error(path, "cannot write");
    done += static_cast<std::size_t>(put);
  }
  return {};
}

}  // namespace covey::simulations

#include "core/base/folder.h"

#include <filesystem>

namespace covey {

Status make_folders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  std::error_code ignored;
  if (!error && (path.empty() || std::filesystem::is_directory(path, ignored))) return {};
  if (!error || error == std::errc::not_a_directory || error == std::errc::file_exists) {
    return Error{ErrorCode::invalid_argument,
                 path + ": is not a folder or lies below a file; choose another place or remove the file"};
  }
  if (error == std::errc::filename_too_long) return Error{ErrorCode::invalid_argument, path + ": " + error.message()};
  const bool denied = error == std::errc::permission_denied || error == std::errc::read_only_file_system;
  return Error{denied ? ErrorCode::permission_denied : ErrorCode::io_error,
               path + ": cannot be made: " + error.message()};
}

}  // namespace covey

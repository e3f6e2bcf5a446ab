/// Making folders, with the errors of file.h. Thread-safe.
#pragma once

#include <string>

#include "core/base/result.h"

namespace covey {

/// The folder and those above it, where they are not there yet.
/// @errors invalid_argument: a file stands in the way; permission_denied; io_error.
[[nodiscard]] Status make_folders(const std::string& path);

}  // namespace covey

#include "core/base/result.h"

#include <cstdio>
#include <cstdlib>

namespace covey {

const char* to_string(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
      return "invalid_argument";
    case ErrorCode::not_found:
      return "not_found";
    case ErrorCode::already_exists:
      return "already_exists";
    case ErrorCode::corrupt_data:
      return "corrupt_data";
    case ErrorCode::unsupported:
      return "unsupported";
    case ErrorCode::permission_denied:
      return "permission_denied";
    case ErrorCode::resource_exhausted:
      return "resource_exhausted";
    case ErrorCode::unavailable:
      return "unavailable";
    case ErrorCode::cancelled:
      return "cancelled";
    case ErrorCode::io_error:
      return "io_error";
    case ErrorCode::internal:
      return "internal";
  }
  return "internal";
}

int exit_code(const Error& error) {
  switch (error.code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::not_found:
    case ErrorCode::already_exists:
    case ErrorCode::corrupt_data:
    case ErrorCode::unsupported:
      return 2;
    default:
      return 1;
  }
}

void assertion_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: assertion failed: %s (a mistake in Covey, please report it)\n", file, line, condition);
  std::abort();
}

std::string shown(std::string_view text, std::size_t most) {
  std::string out(text.substr(0, most));
  for (char& c : out) c = c < 0x20 || c > 0x7e ? '?' : c;
  if (text.size() > most) out += "...";
  return out;
}

}  // namespace covey

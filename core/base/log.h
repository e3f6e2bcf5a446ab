/// Log lines to stderr: time, level, component, one line. Thread-safe. Never pass a secret.
#pragma once

#include <string_view>

namespace covey {

enum class LogLevel { debug, info, warning, error, off };

void set_log_level(LogLevel level);
void log(LogLevel level, std::string_view component, std::string_view message);

inline void log_debug(std::string_view component, std::string_view message) {
  log(LogLevel::debug, component, message);
}
inline void log_info(std::string_view component, std::string_view message) {
  log(LogLevel::info, component, message);
}
inline void log_warning(std::string_view component, std::string_view message) {
  log(LogLevel::warning, component, message);
}
inline void log_error(std::string_view component, std::string_view message) {
  log(LogLevel::error, component, message);
}

}  // namespace covey

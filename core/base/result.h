/// Errors as values. Every fallible function of Covey returns Result<T> (or Status, which is Result<void>).
///
///   Result<Config> load(const std::string& path) {
///     COVEY_ASSIGN(auto text, read_file(path));           // returns the error to our caller
///     if (text.empty()) return Error{ErrorCode::invalid_argument, path + ": is empty; write at least `model:`"};
///     return parse(text);
///   }
///
/// A message is one line: what went wrong, where, how to mend it. It never holds a secret.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "core/base/assert.h"

namespace covey {

enum class ErrorCode {
  invalid_argument,    ///< the caller's input is wrong (usage, configuration)
  not_found,           ///< a named thing does not exist
  already_exists,      ///< creating it would overwrite something
  corrupt_data,        ///< a file, frame or message breaks its format
  unsupported,         ///< understood, but not something we do; the message names it
  permission_denied,   ///< identity, signature, roster or policy says no
  resource_exhausted,  ///< a stated bound would be passed (memory, bytes, connections, budget)
  unavailable,         ///< may work later (network, peer, busy)
  cancelled,           ///< ended on request
  io_error,            ///< the operating system failed a read, write or fsync
  internal,            ///< our own mistake, reported instead of crashing
};

/// The field's name as a lower-case word, e.g. "corrupt_data".
const char* to_string(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::internal;
  std::string message;

  /// The same error with `where + ": "` in front of its message.
  [[nodiscard]] Error in(const std::string& where) const { return {code, where + ": " + message}; }
};

/// A piece of somebody's input for a message: at most `most` bytes of it, '?' for what is not printable ASCII.
std::string shown(std::string_view text, std::size_t most = 80);

/// A file, frame or message at `where` breaks its format.
inline Error corrupt(const std::string& where, const std::string& what) {
  return {ErrorCode::corrupt_data, where + ": " + what};
}

/// Exit status of a command that ends with this error: 2 for bad usage or input, 1 for "ran and failed".
int exit_code(const Error& error);

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT: implicit by design
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit by design

  [[nodiscard]] bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { return std::get<0>(state_); }
  const T& value() const& { return std::get<0>(state_); }
  T&& value() && { return std::get<0>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& { return std::get<1>(state_); }
  Error&& error() && { return std::get<1>(std::move(state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT: implicit by design

  [[nodiscard]] bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Error& error() const& { return *error_; }
  Error&& error() && { return *std::move(error_); }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace covey

#define COVEY_CONCAT_INNER(a, b) a##b
#define COVEY_CONCAT(a, b) COVEY_CONCAT_INNER(a, b)

/// Returns the error of `expression` (a Status or Result) to the caller; goes on otherwise.
#define COVEY_TRY(expression)                                                                         \
  do {                                                                                                \
    if (auto covey_status = (expression); !covey_status.ok()) return std::move(covey_status).error(); \
  } while (false)

#define COVEY_ASSIGN_IMPL(result, declaration, expression) \
  auto result = (expression);                              \
  if (!result.ok()) return std::move(result).error();      \
  declaration = *std::move(result)

/// `COVEY_ASSIGN(auto x, f());` declares x with f()'s value, or returns f()'s error to the caller.
#define COVEY_ASSIGN(declaration, expression) \
  COVEY_ASSIGN_IMPL(COVEY_CONCAT(covey_result_, __LINE__), declaration, expression)

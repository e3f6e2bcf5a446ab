/// Base64 as RFC 4648 writes it (with padding), read only.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace covey::formats {

/// The bytes, or nothing where `text` is not whole base64.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace covey::formats

/// Bytes at a place of an open file, whole or not at all: the journal and the rows of a world are read and written so.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace covey::simulations {

/// False at the file's end or on an error.
bool read_at(int file, std::uint64_t at, std::span<std::uint8_t> out);
/// @param path  for the error's text. @errors what the system reports.
Status write_at(int file, std::uint64_t at, ByteSpan bytes, const std::string& path);

}  // namespace covey::simulations

/// Builds torch files byte by byte, right ones and wrong ones.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"

namespace covey::test {

inline std::string little(std::uint64_t value, int width) {
  std::string out;
  for (int i = 0; i < width; ++i) out += i < 8 ? static_cast<char>(value >> (8 * i) & 0xff) : '\0';
  return out;
}

inline std::uint32_t crc_bit_by_bit(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0xedb88320U : 0U);
  }
  return ~crc;
}

struct ZipRecord {
  std::string name;
  std::string bytes;
  std::uint16_t flags = 0x808;
  std::uint16_t method = 0;
};

/// As torch lays it out: data behind an extra field that aligns it to 64, and a 64-bit end record where asked for.
inline std::string zip_of(const std::vector<ZipRecord>& records, bool end64 = true) {
  std::string out, directory;
  for (const ZipRecord& record : records) {
    const std::size_t at = out.size();
    const std::size_t pad = 64 - (at + 30 + record.name.size() + 4) % 64;
    const std::string sizes = little(crc_bit_by_bit(record.bytes), 4) + little(record.bytes.size(), 4) +
                              little(record.bytes.size(), 4) + little(record.name.size(), 2);
    out += "PK\3\4" + little(0, 2) + little(record.flags, 2) + little(record.method, 2) + little(0, 4) + sizes +
           little(4 + pad, 2) + record.name + "FB" + little(pad, 2) + std::string(pad, 'Z') + record.bytes;
    directory += "PK\1\2" + little(0, 4) + little(record.flags, 2) + little(record.method, 2) + little(0, 4) + sizes +
                 little(0, 2) + little(0, 10) + little(at, 4) + record.name;
  }
  const std::size_t start = out.size();
  out += directory;
  if (end64) {
    const std::size_t at = out.size();
    out += "PK\6\6" + little(44, 8) + little(0x2d, 2) + little(0x2d, 2) + little(0, 8) + little(records.size(), 8) +
           little(records.size(), 8) + little(directory.size(), 8) + little(start, 8);
    out += "PK\6\7" + little(0, 4) + little(at, 8) + little(1, 4);
  }
  out += "PK\5\6" + little(0, 4) + little(records.size(), 2) + little(records.size(), 2) + little(directory.size(), 4) +
         little(start, 4) + little(0, 2);
  return out;
}

inline std::string text(std::string_view value) {
  return "X" + little(value.size(), 4) + std::string(value);
}
inline std::string integer(std::int64_t value) {
  return "J" + little(static_cast<std::uint64_t>(value), 4);
}
inline std::string tuple(const std::vector<std::int64_t>& values) {
  std::string out = "(";
  for (const std::int64_t value : values) out += integer(value);
  return out + "t";
}
/// The call that rebuilds a tensor.
inline std::string tensor(std::string_view storage_type, std::string_view key, std::int64_t storage_count,
                          std::int64_t offset, const std::vector<std::int64_t>& shape,
                          const std::vector<std::int64_t>& stride) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\n" + std::string(storage_type) + "\n" +
         text(key) + text("cuda:0") + integer(storage_count) + "tQ" + integer(offset) + tuple(shape) + tuple(stride) +
         "\x89" + "ccollections\nOrderedDict\n)RtR";
}
/// A state dict: names and the code that makes their values.
inline std::string state_dict(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string out =
      "\x80\x02"
      "ccollections\nOrderedDict\n)Rq\1(";
  for (const auto& [name, value] : entries) out += text(name) + value;
  return out + "u.";
}

}  // namespace covey::test

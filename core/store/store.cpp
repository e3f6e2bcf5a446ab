#include "core/store/store.h"

#include <algorithm>

namespace covey::store {

Status Store::put(std::string_view table, Bytes key, Bytes value) {
  const Write write{std::string(table), std::move(key), std::move(value)};
  return commit({&write, 1});
}

Status Store::erase(std::string_view table, Bytes key) {
  const Write write{std::string(table), std::move(key), std::nullopt};
  return commit({&write, 1});
}

Status check_table_name(std::string_view table) {
  const bool good = !table.empty() && table.size() <= 64 && !table.starts_with("sqlite_") &&
                    !table.starts_with("covey_") &&
                    std::ranges::all_of(table, [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
  if (good) return {};
  return Error{ErrorCode::invalid_argument, "store: `" + std::string(table.substr(0, 64)) +
                                                "` is no table name; use 1 to 64 of a-z and _, without the prefixes "
                                                "sqlite_ and covey_"};
}

Status check_write(const Write& write) {
  COVEY_TRY(check_table_name(write.table));
  const std::size_t value_bytes = write.value ? write.value->size() : 0;
  if (write.key.size() > kMaxKeyBytes || value_bytes > kMaxValueBytes) {
    return Error{ErrorCode::invalid_argument,
                 "store: table " + write.table + ": a row of " + std::to_string(write.key.size()) + " + " +
                     std::to_string(value_bytes) + " bytes is too large; keys may have " +
                     std::to_string(kMaxKeyBytes) + " bytes and values " + std::to_string(kMaxValueBytes)};
  }
  return {};
}

namespace {
void append(Bytes& out, std::uint64_t number) {
  for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<std::uint8_t>(number >> shift));
}
void append(Bytes& out, const DeviceId& device) {
  out.insert(out.end(), device.key.begin(), device.key.end());
}
Error short_key(ByteSpan key) {
  return {ErrorCode::corrupt_data, "store: a key of " + std::to_string(key.size()) + " bytes is too short"};
}
}  // namespace

Bytes key_of(std::uint64_t number) {
  Bytes out;
  append(out, number);
  return out;
}

Bytes key_of(std::string_view text) {
  return {text.begin(), text.end()};
}

Bytes key_of(const DeviceId& device) {
  return {device.key.begin(), device.key.end()};
}

Bytes key_of(RoundId round, const DeviceId& device) {
  Bytes out;
  append(out, round.value);
  append(out, device);
  return out;
}

Bytes key_of(const DeviceId& device, RoundId round) {
  Bytes out;
  append(out, device);
  append(out, round.value);
  return out;
}

Result<std::uint64_t> number_in_key(ByteSpan key, std::size_t at) {
  if (key.size() < at || key.size() - at < 8) return short_key(key);
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < 8; ++i) number = number << 8 | key[at + i];
  return number;
}

Result<DeviceId> device_in_key(ByteSpan key, std::size_t at) {
  DeviceId device;
  if (key.size() < at || key.size() - at < device.key.size()) return short_key(key);
  std::ranges::copy(key.subspan(at, device.key.size()), device.key.begin());
  return device;
}

std::optional<Bytes> end_of_prefix(ByteSpan prefix) {
  Bytes end(prefix.begin(), prefix.end());
  while (!end.empty() && end.back() == 0xff) end.pop_back();
  if (end.empty()) return std::nullopt;
  ++end.back();
  return end;
}

}  // namespace covey::store

// What GGUF's metadata means: numbers out of unaligned bytes, and the getters with their messages.
#include <cstring>
#include <limits>

#include "core/formats/gguf.h"

namespace covey::formats {
namespace {

template <typename T>
T load(ByteSpan bytes, std::size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

const char* name_of(GgufType type) {
  constexpr const char* kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                    "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<std::size_t>(type)];
}

}  // namespace

Result<std::int64_t> GgufValue::int_at(std::size_t index) const {
  switch (type) {
    case GgufType::u8:
      return std::int64_t{load<std::uint8_t>(bytes, index)};
    case GgufType::i8:
      return std::int64_t{load<std::int8_t>(bytes, index)};
    case GgufType::u16:
      return std::int64_t{load<std::uint16_t>(bytes, index)};
    case GgufType::i16:
      return std::int64_t{load<std::int16_t>(bytes, index)};
    case GgufType::u32:
      return std::int64_t{load<std::uint32_t>(bytes, index)};
    case GgufType::i32:
      return std::int64_t{load<std::int32_t>(bytes, index)};
    case GgufType::i64:
      return load<std::int64_t>(bytes, index);
    case GgufType::u64: {
      const auto wide = load<std::uint64_t>(bytes, index);
      if (wide > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
        return Error{ErrorCode::corrupt_data, "is an integer out of range"};
      }
      return static_cast<std::int64_t>(wide);
    }
    default:
      return Error{ErrorCode::corrupt_data, "is " + kind_name() + ", must be an integer"};
  }
}

Result<double> GgufValue::double_at(std::size_t index) const {
  if (type == GgufType::f32) return double{load<float>(bytes, index)};
  if (type == GgufType::f64) return load<double>(bytes, index);
  if (type == GgufType::u64) return static_cast<double>(load<std::uint64_t>(bytes, index));
  auto integer = int_at(index);
  if (!integer.ok()) return Error{ErrorCode::corrupt_data, "is " + kind_name() + ", must be a number"};
  return static_cast<double>(*integer);
}

std::string GgufValue::kind_name() const {
  return (is_array ? "an array of " : "a value of type ") + std::string(name_of(type));
}

Error GgufFile::error_at(std::string_view key, const std::string& what) const {
  return {ErrorCode::corrupt_data, path_ + ": " + std::string(key) + " " + what};
}

const GgufValue* GgufFile::value(std::string_view key) const {
  const auto it = entry_index_.find(key);
  return it == entry_index_.end() ? nullptr : &entries_[it->second].value;
}

Result<const GgufValue*> GgufFile::require(std::string_view key, bool array, const char* wanted) const {
  const GgufValue* found = value(key);
  if (found == nullptr) return error_at(key, "is missing from its metadata");
  if (found->is_array != array) return error_at(key, "is " + found->kind_name() + ", must be " + wanted);
  return found;
}

Result<std::string> GgufFile::get_string(std::string_view key) const {
  COVEY_ASSIGN(const GgufValue* found, require(key, false, "a string"));
  if (found->type != GgufType::string) return error_at(key, "is " + found->kind_name() + ", must be a string");
  return std::string(found->strings.front());
}

Result<std::string> GgufFile::get_string(std::string_view key, std::string_view fallback) const {
  if (!contains(key)) return std::string(fallback);
  return get_string(key);
}

Result<std::int64_t> GgufFile::get_int(std::string_view key) const {
  COVEY_ASSIGN(const GgufValue* found, require(key, false, "an integer"));
  auto integer = found->int_at(0);
  if (!integer.ok()) return error_at(key, integer.error().message);
  return *integer;
}

Result<std::int64_t> GgufFile::get_int(std::string_view key, std::int64_t fallback) const {
  if (!contains(key)) return fallback;
  return get_int(key);
}

Result<std::int64_t> GgufFile::get_int_between(std::string_view key, std::int64_t lo, std::int64_t hi) const {
  COVEY_ASSIGN(const std::int64_t integer, get_int(key));
  if (integer < lo || integer > hi) {
    return error_at(
        key, "is " + std::to_string(integer) + ", must lie in " + std::to_string(lo) + ".." + std::to_string(hi));
  }
  return integer;
}

Result<double> GgufFile::get_double(std::string_view key) const {
  COVEY_ASSIGN(const GgufValue* found, require(key, false, "a number"));
  auto number = found->double_at(0);
  if (!number.ok()) return error_at(key, number.error().message);
  return *number;
}

Result<double> GgufFile::get_double(std::string_view key, double fallback) const {
  if (!contains(key)) return fallback;
  return get_double(key);
}

Result<bool> GgufFile::get_bool(std::string_view key) const {
  COVEY_ASSIGN(const GgufValue* found, require(key, false, "a bool"));
  if (found->type != GgufType::boolean) return error_at(key, "is " + found->kind_name() + ", must be a bool");
  return found->bytes[0] != 0;
}

Result<bool> GgufFile::get_bool(std::string_view key, bool fallback) const {
  if (!contains(key)) return fallback;
  return get_bool(key);
}

Result<std::span<const std::string_view>> GgufFile::get_strings(std::string_view key) const {
  COVEY_ASSIGN(const GgufValue* found, require(key, true, "an array of strings"));
  if (found->type != GgufType::string) {
    return error_at(key, "is " + found->kind_name() + ", must be an array of strings");
  }
  return std::span<const std::string_view>(found->strings);
}

Result<std::vector<std::int64_t>> GgufFile::get_ints(std::string_view key) const {
  COVEY_ASSIGN(const GgufValue* found, require(key, true, "an array of integers"));
  std::vector<std::int64_t> out(found->count);
  for (std::size_t i = 0; i < out.size(); ++i) {
    auto integer = found->int_at(i);
    if (!integer.ok()) return error_at(key, integer.error().message);
    out[i] = *integer;
  }
  return out;
}

Result<std::vector<double>> GgufFile::get_doubles(std::string_view key) const {
  COVEY_ASSIGN(const GgufValue* found, require(key, true, "an array of numbers"));
  std::vector<double> out(found->count);
  for (std::size_t i = 0; i < out.size(); ++i) {
    auto number = found->double_at(i);
    if (!number.ok()) return error_at(key, number.error().message);
    out[i] = *number;
  }
  return out;
}

}  // namespace covey::formats

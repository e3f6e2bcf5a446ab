/// GGUF files, versions 2 and 3, little-endian: typed metadata and tensors in one file. Source: ggml's docs/gguf.md and
/// gguf.h.
///
///   COVEY_ASSIGN(const auto file, formats::GgufFile::open("model.gguf"));
///   COVEY_ASSIGN(const auto layers, file.get_int_between("llama.block_count", 1, 1024));
///   COVEY_ASSIGN(const auto tokens, file.get_strings("tokenizer.ggml.tokens"));
///   COVEY_ASSIGN(const formats::GgufTensor* embedding, file.get("token_embd.weight"));
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/file.h"
#include "core/base/result.h"
#include "core/formats/ggml_types.h"

namespace covey::formats {

/// The numbers in the file.
enum class GgufType : std::uint32_t {
  u8 = 0,
  i8 = 1,
  u16 = 2,
  i16 = 3,
  u32 = 4,
  i32 = 5,
  f32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  u64 = 10,
  i64 = 11,
  f64 = 12
};

/// One value of the metadata, or an array of values of one type. Borrows from the file.
struct GgufValue {
  GgufType type = GgufType::u8;  ///< of the value, or of an array's items; never `array`
  bool is_array = false;
  std::size_t count = 1;                  ///< items of an array
  ByteSpan bytes;                         ///< numbers and bools as they lie in the file, not aligned
  std::vector<std::string_view> strings;  ///< one where this is a string, `count` where an array of them; any bytes

  /// Item `index` < count. Integers of every width; @errors corrupt_data: not an integer, or above INT64_MAX.
  [[nodiscard]] Result<std::int64_t> int_at(std::size_t index) const;
  /// Any number, widened exactly but for 64-bit integers. @errors corrupt_data: not a number.
  [[nodiscard]] Result<double> double_at(std::size_t index) const;
  /// "a string", "an array of f32", ...: for messages.
  [[nodiscard]] std::string kind_name() const;
};

struct GgufEntry {
  std::string_view key;  ///< printable ASCII
  GgufValue value;
};

struct GgufTensor {
  std::string_view name;  ///< printable ASCII, at most 64 bytes
  const GgmlTypeInfo* type = nullptr;
  std::vector<std::int64_t> shape;  ///< outermost first, as in safetensors: the reverse of the file's ne[]; all >= 1
  ByteSpan bytes;                   ///< aligned to the file's alignment relative to its start

  [[nodiscard]] std::int64_t elements() const;
  [[nodiscard]] bool is(GgmlType wanted) const { return type->number == static_cast<std::uint32_t>(wanted); }
  /// "[2, 3]"
  [[nodiscard]] std::string shape_text() const;
};

/// A mapped file whose whole structure was checked: known types, unique names, sizes and offsets that follow each
/// other as the format says and cover the file. Immutable, movable, thread-safe for reading; entries, tensors and
/// everything they point to stay valid while this object lives, moves included.
class GgufFile {
 public:
  /// @errors not_found, permission_denied, io_error; corrupt_data: a rule of the format is broken, the message says
  /// which and where; unsupported: version 1, big-endian, a tensor type we do not know.
  static Result<GgufFile> open(const std::string& path);
  /// The same over bytes in memory, which must outlive the result. `where` opens every message.
  static Result<GgufFile> parse(ByteSpan file, const std::string& where);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::uint32_t version() const { return version_; }
  [[nodiscard]] std::uint64_t alignment() const { return alignment_; }
  /// In the order of the file.
  [[nodiscard]] const std::vector<GgufEntry>& entries() const { return entries_; }
  [[nodiscard]] const std::vector<GgufTensor>& tensors() const { return tensors_; }

  /// nullptr where there is none.
  [[nodiscard]] const GgufTensor* find(std::string_view tensor) const;
  /// @errors not_found, with the file's name.
  [[nodiscard]] Result<const GgufTensor*> get(std::string_view tensor) const;

  /// nullptr where there is none.
  [[nodiscard]] const GgufValue* value(std::string_view key) const;
  [[nodiscard]] bool contains(std::string_view key) const { return value(key) != nullptr; }
  /// @errors corrupt_data, with file and key: missing, or of another kind. Integers of every width count as integers,
  /// and integers count as doubles. With a fallback, a missing key is no error.
  [[nodiscard]] Result<std::string> get_string(std::string_view key) const;
  [[nodiscard]] Result<std::string> get_string(std::string_view key, std::string_view fallback) const;
  [[nodiscard]] Result<std::int64_t> get_int(std::string_view key) const;
  [[nodiscard]] Result<std::int64_t> get_int(std::string_view key, std::int64_t fallback) const;
  /// lo <= value <= hi. @errors also corrupt_data: outside.
  [[nodiscard]] Result<std::int64_t> get_int_between(std::string_view key, std::int64_t lo, std::int64_t hi) const;
  [[nodiscard]] Result<double> get_double(std::string_view key) const;
  [[nodiscard]] Result<double> get_double(std::string_view key, double fallback) const;
  [[nodiscard]] Result<bool> get_bool(std::string_view key) const;
  [[nodiscard]] Result<bool> get_bool(std::string_view key, bool fallback) const;
  /// Arrays. The strings borrow from the file.
  [[nodiscard]] Result<std::span<const std::string_view>> get_strings(std::string_view key) const;
  [[nodiscard]] Result<std::vector<std::int64_t>> get_ints(std::string_view key) const;
  [[nodiscard]] Result<std::vector<double>> get_doubles(std::string_view key) const;

  /// An error about a key of this file, as the getters make them.
  [[nodiscard]] Error error_at(std::string_view key, const std::string& what) const;

 private:
  [[nodiscard]] Status read(ByteSpan file);
  [[nodiscard]] Result<const GgufValue*> require(std::string_view key, bool array, const char* wanted) const;

  std::string path_;
  MappedFile file_;
  std::uint32_t version_ = 0;
  std::uint64_t alignment_ = 32;
  std::vector<GgufEntry> entries_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string_view, std::size_t> entry_index_;
  std::map<std::string_view, std::size_t> tensor_index_;
};

}  // namespace covey::formats

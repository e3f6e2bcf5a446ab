/// JSON as a value. Source: RFC 8259. The only place where a JSON library is seen is json.cpp.
///
///   COVEY_ASSIGN(const Json config, Json::load(dir + "/config.json"));
///   COVEY_ASSIGN(const auto layers, config.get_int_between("num_hidden_layers", 1, 1024));
///   COVEY_ASSIGN(const double theta, config.get_double("rope_theta", 10000.0));   // default where missing or null
///   Json out = Json::object({{"round", 3}, {"loss", 1.25f}, {"layers", Json::array({1, 2})}});
///   out.set("note", "done");
///   std::cout << out.dump() << "\n";
///
/// Values copy deeply; not thread-safe for writing. Objects keep the order in which members came.
/// Integers and real numbers stay apart: `1` is an integer, `1.0` is not.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.h"

namespace covey::formats {

struct JsonMember;

/// Bounds on what a parse may read.
struct JsonLimits {
  std::size_t bytes_max = std::size_t{256} << 20;
  std::size_t depth_max = 64;
  bool where_has_line = false;  ///< `where` is "file:line" of a JSONL file: messages add the column only
};

class Json {
 public:
  using Limits = JsonLimits;
  enum class Kind : std::uint8_t { null, boolean, integer, real, string, array, object };

  Json() = default;        ///< null
  Json(std::nullptr_t) {}  // NOLINT: implicit by design, like all that follow
  Json(bool value) : kind_(Kind::boolean) { number_.integer = value ? 1 : 0; }  // NOLINT
  template <std::integral T>
  requires(!std::same_as<T, bool>) Json(T value) : kind_(Kind::integer) {  // NOLINT
    number_.integer = static_cast<std::int64_t>(value);
    large_ = std::unsigned_integral<T> && number_.integer < 0;
  }
  Json(double value) : kind_(Kind::real) { number_.real = value; }           // NOLINT
  Json(float value);                                                         // NOLINT: 0.1f prints as 0.1
  Json(std::string value) : kind_(Kind::string), text_(std::move(value)) {}  // NOLINT
  Json(std::string_view value) : kind_(Kind::string), text_(value) {}        // NOLINT
  Json(const char* value) : kind_(Kind::string), text_(value) {}             // NOLINT
  template <typename T>
  Json(const std::vector<T>& values) : Json(array({})) {  // NOLINT
    for (const auto& value : values) push_back(Json(static_cast<T>(value)));
  }
  Json(const Json& other);
  Json(Json&& other) noexcept;
  Json& operator=(const Json& other);
  Json& operator=(Json&& other) noexcept;
  ~Json();

  static Json object(std::initializer_list<std::pair<std::string_view, Json>> members = {});
  static Json array(std::initializer_list<Json> items = {});

  /// `where` opens every message ("config.json:3:14: ..."), and those of later getters on the result.
  /// @errors corrupt_data: not JSON, invalid UTF-8, a key twice in one object, nested too deep; resource_exhausted:
  /// more than bytes_max.
  static Result<Json> parse(std::string_view text, const std::string& where = "json", Limits limits = {});
  /// @errors also those of read_text_file.
  static Result<Json> load(const std::string& path, Limits limits = {});

  /// One line without spaces. Real numbers: fewest digits that read back to the same double; NaN and infinities become
  /// null. Bytes that are not UTF-8 become U+FFFD.
  [[nodiscard]] std::string dump() const;
  /// Indented by 2, keys sorted by bytes, with a newline at the end: for files that people and diffs read.
  [[nodiscard]] std::string dump_pretty() const;
  /// dump_pretty() into a file, durably.
  [[nodiscard]] Status save(const std::string& path) const;

  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] bool is_null() const { return kind_ == Kind::null; }
  [[nodiscard]] bool is_bool() const { return kind_ == Kind::boolean; }
  [[nodiscard]] bool is_int() const { return kind_ == Kind::integer; }
  [[nodiscard]] bool is_number() const { return kind_ == Kind::integer || kind_ == Kind::real; }
  [[nodiscard]] bool is_string() const { return kind_ == Kind::string; }
  [[nodiscard]] bool is_array() const { return kind_ == Kind::array; }
  [[nodiscard]] bool is_object() const { return kind_ == Kind::object; }
  /// "an integer", "a string", ...: for messages.
  [[nodiscard]] const char* kind_name() const;

  /// Members or items; 0 for everything else.
  [[nodiscard]] std::size_t size() const;
  [[nodiscard]] bool empty() const { return size() == 0; }
  /// Items of an array, members of an object; empty for everything else. Borrowed until this value changes or goes.
  [[nodiscard]] std::span<const Json> items() const;
  [[nodiscard]] std::span<const JsonMember> members() const;

  /// The member, or nullptr where it is missing or this is no object. O(1) in large objects.
  [[nodiscard]] const Json* find(std::string_view key) const;
  [[nodiscard]] bool contains(std::string_view key) const { return find(key) != nullptr; }

  /// This value itself. @errors invalid_argument: another kind; integers must fit.
  [[nodiscard]] Result<std::int64_t> as_int() const;
  [[nodiscard]] Result<std::uint64_t> as_uint() const;
  [[nodiscard]] Result<double> as_double() const;  ///< integers too
  [[nodiscard]] Result<bool> as_bool() const;
  [[nodiscard]] Result<std::string> as_string() const;

  /// Members of this object. @errors invalid_argument, with file and key path: missing, or of another kind.
  [[nodiscard]] Result<std::int64_t> get_int(std::string_view key) const;
  [[nodiscard]] Result<std::uint64_t> get_uint(std::string_view key) const;
  [[nodiscard]] Result<double> get_double(std::string_view key) const;
  [[nodiscard]] Result<bool> get_bool(std::string_view key) const;
  [[nodiscard]] Result<std::string> get_string(std::string_view key) const;
  /// Borrowed until this value changes or goes.
  [[nodiscard]] Result<const Json*> get_object(std::string_view key) const;
  [[nodiscard]] Result<const Json*> get_array(std::string_view key) const;
  [[nodiscard]] Result<std::vector<std::string>> get_strings(std::string_view key) const;
  [[nodiscard]] Result<std::vector<std::int64_t>> get_ints(std::string_view key) const;
  [[nodiscard]] Result<std::vector<double>> get_doubles(std::string_view key) const;
  /// lo <= value <= hi. @errors also invalid_argument: outside.
  [[nodiscard]] Result<std::int64_t> get_int_between(std::string_view key, std::int64_t lo, std::int64_t hi) const;

  /// With a default for a missing or null member; a member of another kind is still an error.
  [[nodiscard]] Result<std::int64_t> get_int(std::string_view key, std::int64_t fallback) const;
  [[nodiscard]] Result<std::uint64_t> get_uint(std::string_view key, std::uint64_t fallback) const;
  [[nodiscard]] Result<double> get_double(std::string_view key, double fallback) const;
  [[nodiscard]] Result<bool> get_bool(std::string_view key, bool fallback) const;
  [[nodiscard]] Result<std::string> get_string(std::string_view key, std::string_view fallback) const;
  [[nodiscard]] Result<std::int64_t> get_int_between(std::string_view key, std::int64_t lo, std::int64_t hi,
                                                     std::int64_t fallback) const;

  /// An error about member `key` (or about this value, with an empty key), naming file and path like the getters do.
  [[nodiscard]] Error error_at(std::string_view key, const std::string& what) const;

  /// Adds or replaces a member; null turns into an object first. Returns this value, for chaining.
  Json& set(std::string_view key, Json value);
  /// Appends an item; null turns into an array first.
  Json& push_back(Json value);

  /// Same kinds and values; the order of an object's members does not matter.
  bool operator==(const Json& other) const;

 private:
  struct Children;
  struct Builder;
  struct Release {
    void operator()(Children* children) const;
  };
  Children& children(Kind kind);
  [[nodiscard]] Result<const Json*> require(std::string_view key) const;
  [[nodiscard]] const Json* present(std::string_view key) const;
  void write(std::string& out, bool pretty, int depth) const;

  Kind kind_ = Kind::null;
  bool large_ = false;  ///< an integer above INT64_MAX, kept as its unsigned bits
  union {
    std::int64_t integer = 0;
    double real;
  } number_;
  std::string text_;
  std::unique_ptr<Children, Release> children_;
};

struct JsonMember {
  std::string key;
  Json value;
};

}  // namespace covey::formats

#include "core/formats/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/base/file.h"

namespace covey::formats {
namespace {

constexpr std::size_t kIndexFrom = 16;  // smaller objects are searched from end to end

std::string shown_key(std::string_view key) {
  std::string shown;
  for (const char c : key.substr(0, 64)) shown += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  if (key.size() > 64) shown += "...";
  return shown;
}

/// Length of the valid UTF-8 sequence at text[i], 0 where there is none.
std::size_t utf8_length(std::string_view text, std::size_t i) {
  const auto byte = [&](std::size_t k) { return static_cast<unsigned char>(k < text.size() ? text[k] : 0); };
  const auto follows = [&](std::size_t k) { return (byte(k) & 0xC0) == 0x80; };
  const unsigned char a = byte(i);
  const unsigned char b = byte(i + 1);
  if (a < 0x80) return 1;
  if (a >= 0xC2 && a <= 0xDF) return follows(i + 1) ? 2 : 0;
  if (a >= 0xE0 && a <= 0xEF) {
    if (!follows(i + 1) || !follows(i + 2) || (a == 0xE0 && b < 0xA0) || (a == 0xED && b > 0x9F)) return 0;
    return 3;
  }
  if (a >= 0xF0 && a <= 0xF4) {
    if (!follows(i + 1) || !follows(i + 2) || !follows(i + 3)) return 0;
    return (a == 0xF0 && b < 0x90) || (a == 0xF4 && b > 0x8F) ? 0 : 4;
  }
  return 0;
}

void write_string(std::string& out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  out += '"';
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    const auto u = static_cast<unsigned char>(c);
    if (u >= 0x80) {
      const std::size_t length = utf8_length(text, i);
      out += length == 0 ? std::string_view("\xEF\xBF\xBD") : text.substr(i, length);
      i += std::max<std::size_t>(length, 1);
      continue;
    }
    ++i;
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (u < 0x20) {
          out += "\\u00";
          out += kHex[u >> 4];
          out += kHex[u & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

void write_real(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  // Plain notation where Python's json uses it, so that a file of other programs comes out as it went in.
  const double size = std::abs(value);
  const auto format =
      size == 0 || (size >= 1e-4 && size < 1e16) ? std::chars_format::fixed : std::chars_format::scientific;
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, format).ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  out += text;
  if (text.find_first_of(".e") == std::string_view::npos) out += ".0";  // stays a real number when read back
}

std::string line_and_column(std::string_view text, std::size_t position, bool column_only) {
  position = std::min(position, text.size());
  std::size_t line = 1;
  std::size_t column = 1;
  for (std::size_t i = 0; i + 1 < position; ++i) {
    if (text[i] == '\n') {
      ++line;
      column = 1;
    } else {
      ++column;
    }
  }
  return (column_only ? "" : std::to_string(line) + ":") + std::to_string(column);
}

}  // namespace

struct Json::Children {
  std::vector<Json> items;
  std::vector<JsonMember> members;
  std::unordered_map<std::string, std::size_t> index;  // of members, from kIndexFrom on
  std::string path;                                    // "config.json: rope_scaling", for messages

  std::size_t find(std::string_view key) const {
    if (!index.empty()) {
      const auto it = index.find(std::string(key));
      return it == index.end() ? members.size() : it->second;
    }
    std::size_t i = 0;
    while (i < members.size() && members[i].key != key) ++i;
    return i;
  }

  void append(std::string key, Json value) {
    members.push_back({std::move(key), std::move(value)});
    if (members.size() == kIndexFrom) {
      for (std::size_t i = 0; i < members.size(); ++i) index.emplace(members[i].key, i);
    } else if (members.size() > kIndexFrom) {
      index.emplace(members.back().key, members.size() - 1);
    }
  }
};

Json::Json(float value) : kind_(Kind::real) {
  number_.real = value;
  if (!std::isfinite(value)) return;
  char buffer[40];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  std::from_chars(buffer, end, number_.real);
}

Json::Json(const Json& other)
    : kind_(other.kind_),
      large_(other.large_),
      number_(other.number_),
      text_(other.text_),
      children_(other.children_ ? new Children(*other.children_) : nullptr) {}
Json::Json(Json&& other) noexcept = default;
Json& Json::operator=(const Json& other) {
  if (this != &other) *this = Json(other);
  return *this;
}
Json& Json::operator=(Json&& other) noexcept = default;
Json::~Json() = default;
void Json::Release::operator()(Children* children) const {
  delete children;
}

Json::Children& Json::children(Kind kind) {
  if (kind_ == Kind::null) kind_ = kind;
  COVEY_ASSERT(kind_ == kind);  // set() on an array or push_back() on an object
  if (!children_) children_.reset(new Children);
  return *children_;
}

Json Json::object(std::initializer_list<std::pair<std::string_view, Json>> members) {
  Json json;
  json.children(Kind::object);
  for (const auto& [key, value] : members) json.set(key, value);
  return json;
}

Json Json::array(std::initializer_list<Json> items) {
  Json json;
  json.children(Kind::array).items.assign(items.begin(), items.end());
  return json;
}

/// Receives the parser's events; keeps a stack of open containers.
struct Json::Builder : nlohmann::json_sax<nlohmann::json> {
  Builder(std::string_view text_, std::string where_, Limits limits_)
      : text(text_), where(std::move(where_)), limits(limits_) {}

  bool add(Json value) {
    if (stack.empty()) {
      root = std::move(value);
    } else if (stack.back().kind_ == Kind::array) {
      stack.back().children_->items.push_back(std::move(value));
    } else {
      stack.back().children_->append(std::move(keys.back()), std::move(value));
      keys.pop_back();
    }
    return true;
  }
  bool open(Kind kind) {
    if (stack.size() >= limits.depth_max) {
      error = {ErrorCode::corrupt_data, where + ": is nested deeper than " + std::to_string(limits.depth_max)};
      return false;
    }
    Json json;
    Children& children = json.children(kind);
    if (stack.empty()) {
      children.path = where + ":";
    } else {
      const Json& parent = stack.back();
      children.path = parent.children_->path;
      if (parent.kind_ == Kind::array) {
        children.path += "[" + std::to_string(parent.children_->items.size()) + "]";
      } else {
        children.path += (stack.size() == 1 ? " " : ".") + shown_key(keys.back());
      }
    }
    stack.push_back(std::move(json));
    return true;
  }
  bool close() {
    Json json = std::move(stack.back());
    stack.pop_back();
    return add(std::move(json));
  }

  bool null() override { return add({}); }
  bool boolean(bool value) override { return add(value); }
  bool number_integer(std::int64_t value) override { return add(value); }
  bool number_unsigned(std::uint64_t value) override { return add(value); }
  bool number_float(double value, const std::string&) override { return add(value); }
  bool string(std::string& value) override { return add(std::move(value)); }
  bool binary(nlohmann::json::binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Kind::object); }
  bool start_array(std::size_t) override { return open(Kind::array); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(std::string& value) override {
    const Children& object = *stack.back().children_;
    if (object.find(value) != object.members.size()) {
      error = {ErrorCode::corrupt_data,
               object.path + " holds the key \"" + shown_key(value) + "\" twice; keep one of them"};
      return false;
    }
    keys.push_back(std::move(value));
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& exception) override {
    std::string what = exception.what();
    for (const std::string_view lead : {"] ", "column ", ": ", "while parsing "}) {  // its own prefix and position
      const auto at = what.find(lead);
      if (at != std::string::npos) what.erase(0, at + lead.size());
    }
    if (const auto quoted = what.find("; last read: "); quoted != std::string::npos) {  // the file may be private
      const auto after = what.rfind("'; expected ");
      what = what.substr(0, quoted) + (after == std::string::npos ? "" : what.substr(after + 1));
    }
    for (char& c : what) {
      if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
    }
    if (what.size() > 160) what = what.substr(0, 160) + "...";
    error = {ErrorCode::corrupt_data,
             where + ":" + line_and_column(text, position, limits.where_has_line) + ": is not valid JSON: " + what};
    return false;
  }

  std::string_view text;
  std::string where;
  Limits limits;
  std::vector<Json> stack;
  std::vector<std::string> keys;
  Json root;
  Error error{ErrorCode::corrupt_data, "is not valid JSON"};
};

Result<Json> Json::parse(std::string_view text, const std::string& where, Limits limits) {
  if (text.size() > limits.bytes_max) {
    return Error{ErrorCode::resource_exhausted, where + ": has " + std::to_string(text.size()) +
                                                    " bytes of JSON, more than the limit of " +
                                                    std::to_string(limits.bytes_max)};
  }
  Builder builder(text, where, limits);
  try {
    if (nlohmann::json::sax_parse(text.begin(), text.end(), &builder)) return std::move(builder.root);
    return builder.error;
  } catch (const std::exception&) {
    return Error{ErrorCode::corrupt_data, where + ": is not valid JSON"};
  }
}

Result<Json> Json::load(const std::string& path, Limits limits) {
  COVEY_ASSIGN(const std::string text, read_text_file(path, limits.bytes_max));
  return parse(text, path, limits);
}

const char* Json::kind_name() const {
  switch (kind_) {
    case Kind::null:
      return "null";
    case Kind::boolean:
      return "a boolean";
    case Kind::integer:
      return "an integer";
    case Kind::real:
      return "a real number";
    case Kind::string:
      return "a string";
    case Kind::array:
      return "an array";
    case Kind::object:
      return "an object";
  }
  return "?";
}

std::size_t Json::size() const {
  return children_ ? children_->items.size() + children_->members.size() : 0;
}
std::span<const Json> Json::items() const {
  return children_ ? std::span<const Json>(children_->items) : std::span<const Json>();
}
std::span<const JsonMember> Json::members() const {
  return children_ ? std::span<const JsonMember>(children_->members) : std::span<const JsonMember>();
}

const Json* Json::find(std::string_view key) const {
  if (kind_ != Kind::object || !children_) return nullptr;
  const std::size_t i = children_->find(key);
  return i < children_->members.size() ? &children_->members[i].value : nullptr;
}

Json& Json::set(std::string_view key, Json value) {
  Children& object = children(Kind::object);
  const std::size_t i = object.find(key);
  if (i < object.members.size()) {
    object.members[i].value = std::move(value);
  } else {
    object.append(std::string(key), std::move(value));
  }
  return *this;
}

Json& Json::push_back(Json value) {
  children(Kind::array).items.push_back(std::move(value));
  return *this;
}

bool Json::operator==(const Json& other) const {
  if (kind_ != other.kind_ || large_ != other.large_ || size() != other.size()) return false;
  switch (kind_) {
    case Kind::null:
      return true;
    case Kind::boolean:
    case Kind::integer:
      return number_.integer == other.number_.integer;
    case Kind::real:
      return number_.real == other.number_.real;
    case Kind::string:
      return text_ == other.text_;
    case Kind::array:
      return std::ranges::equal(items(), other.items());
    case Kind::object:
      return std::ranges::all_of(members(), [&](const JsonMember& member) {
        const Json* theirs = other.find(member.key);
        return theirs != nullptr && *theirs == member.value;
      });
  }
  return false;
}

// ---- reading

Error Json::error_at(std::string_view key, const std::string& what) const {
  std::string path = children_ ? children_->path : "";
  if (!key.empty()) path += (path.empty() ? "" : path.ends_with(':') ? " " : ".") + shown_key(key) + ":";
  if (!path.empty() && !path.ends_with(':')) path += ":";
  return {ErrorCode::invalid_argument, path.empty() ? what : path + " " + what};
}

Result<const Json*> Json::require(std::string_view key) const {
  if (kind_ != Kind::object) {
    return error_at("", std::string("expected an object that holds \"") + shown_key(key) + "\", found " + kind_name());
  }
  const Json* member = find(key);
  if (member == nullptr) return error_at(key, "is missing");
  return member;
}

const Json* Json::present(std::string_view key) const {
  const Json* member = find(key);
  return member == nullptr || member->is_null() ? nullptr : member;
}

Result<std::int64_t> Json::as_int() const {
  if (kind_ != Kind::integer) {
    return Error{ErrorCode::invalid_argument, std::string("expected an integer, found ") + kind_name()};
  }
  if (large_) return Error{ErrorCode::invalid_argument, "the integer is too large"};
  return number_.integer;
}
Result<std::uint64_t> Json::as_uint() const {
  if (kind_ != Kind::integer) {
    return Error{ErrorCode::invalid_argument, std::string("expected an integer, found ") + kind_name()};
  }
  if (!large_ && number_.integer < 0) {
    return Error{ErrorCode::invalid_argument, "must not be negative, found " + std::to_string(number_.integer)};
  }
  return static_cast<std::uint64_t>(number_.integer);
}
Result<double> Json::as_double() const {
  if (kind_ == Kind::real) return number_.real;
  if (kind_ == Kind::integer) {
    return large_ ? static_cast<double>(static_cast<std::uint64_t>(number_.integer))
                  : static_cast<double>(number_.integer);
  }
  return Error{ErrorCode::invalid_argument, std::string("expected a number, found ") + kind_name()};
}
Result<bool> Json::as_bool() const {
  if (kind_ == Kind::boolean) return number_.integer != 0;
  return Error{ErrorCode::invalid_argument, std::string("expected true or false, found ") + kind_name()};
}
Result<std::string> Json::as_string() const {
  if (kind_ == Kind::string) return text_;
  return Error{ErrorCode::invalid_argument, std::string("expected a string, found ") + kind_name()};
}

// Each pair: required, and with a default for a missing or null member.
#define COVEY_JSON_GETTERS(TYPE, NAME, FALLBACK)                                 \
  Result<TYPE> Json::get_##NAME(std::string_view key) const {                    \
    COVEY_ASSIGN(const Json* member, require(key));                              \
    auto value = member->as_##NAME();                                            \
    if (!value.ok()) return error_at(key, value.error().message);                \
    return value;                                                                \
  }                                                                              \
  Result<TYPE> Json::get_##NAME(std::string_view key, FALLBACK fallback) const { \
    if (kind_ == Kind::object && present(key) == nullptr) return TYPE(fallback); \
    return get_##NAME(key);                                                      \
  }
COVEY_JSON_GETTERS(std::int64_t, int, std::int64_t)
COVEY_JSON_GETTERS(std::uint64_t, uint, std::uint64_t)
COVEY_JSON_GETTERS(double, double, double)
COVEY_JSON_GETTERS(bool, bool, bool)
COVEY_JSON_GETTERS(std::string, string, std::string_view)
#undef COVEY_JSON_GETTERS

Result<const Json*> Json::get_object(std::string_view key) const {
  COVEY_ASSIGN(const Json* member, require(key));
  if (!member->is_object()) return error_at(key, std::string("expected an object, found ") + member->kind_name());
  return member;
}
Result<const Json*> Json::get_array(std::string_view key) const {
  COVEY_ASSIGN(const Json* member, require(key));
  if (!member->is_array()) return error_at(key, std::string("expected an array, found ") + member->kind_name());
  return member;
}

namespace {
template <typename T, typename Convert>
Result<std::vector<T>> elements(const Json& object, std::string_view key, Convert convert) {
  COVEY_ASSIGN(const Json* list, object.get_array(key));
  std::vector<T> values;
  values.reserve(list->size());
  for (const Json& item : list->items()) {
    auto value = convert(item);
    if (!value.ok()) {
      return object.error_at(std::string(key) + "[" + std::to_string(values.size()) + "]", value.error().message);
    }
    values.push_back(*std::move(value));
  }
  return values;
}
}  // namespace

Result<std::vector<std::string>> Json::get_strings(std::string_view key) const {
  return elements<std::string>(*this, key, [](const Json& item) { return item.as_string(); });
}
Result<std::vector<std::int64_t>> Json::get_ints(std::string_view key) const {
  return elements<std::int64_t>(*this, key, [](const Json& item) { return item.as_int(); });
}
Result<std::vector<double>> Json::get_doubles(std::string_view key) const {
  return elements<double>(*this, key, [](const Json& item) { return item.as_double(); });
}

Result<std::int64_t> Json::get_int_between(std::string_view key, std::int64_t lo, std::int64_t hi) const {
  COVEY_ASSIGN(const std::int64_t value, get_int(key));
  if (value < lo || value > hi) {
    return error_at(key, "must lie between " + std::to_string(lo) + " and " + std::to_string(hi) + ", found " +
                             std::to_string(value));
  }
  return value;
}
Result<std::int64_t> Json::get_int_between(std::string_view key, std::int64_t lo, std::int64_t hi,
                                           std::int64_t fallback) const {
  if (kind_ == Kind::object && present(key) == nullptr) return fallback;
  return get_int_between(key, lo, hi);
}

// ---- writing

void Json::write(std::string& out, bool pretty, int depth) const {
  const auto line = [&](int level) {
    if (!pretty) return;
    out += '\n';
    out.append(static_cast<std::size_t>(level) * 2, ' ');
  };
  switch (kind_) {
    case Kind::null:
      out += "null";
      return;
    case Kind::boolean:
      out += number_.integer != 0 ? "true" : "false";
      return;
    case Kind::integer:
      out += large_ ? std::to_string(static_cast<std::uint64_t>(number_.integer)) : std::to_string(number_.integer);
      return;
    case Kind::real:
      write_real(out, number_.real);
      return;
    case Kind::string:
      write_string(out, text_);
      return;
    case Kind::array: {
      out += '[';
      for (std::size_t i = 0; i < items().size(); ++i) {
        if (i > 0) out += ',';
        line(depth + 1);
        items()[i].write(out, pretty, depth + 1);
      }
      if (!items().empty()) line(depth);
      out += ']';
      return;
    }
    case Kind::object: {
      std::vector<const JsonMember*> order;
      for (const JsonMember& member : members()) order.push_back(&member);
      if (pretty) std::ranges::sort(order, {}, [](const JsonMember* member) { return std::string_view(member->key); });
      out += '{';
      for (std::size_t i = 0; i < order.size(); ++i) {
        if (i > 0) out += ',';
        line(depth + 1);
        write_string(out, order[i]->key);
        out += pretty ? ": " : ":";
        order[i]->value.write(out, pretty, depth + 1);
      }
      if (!order.empty()) line(depth);
      out += '}';
      return;
    }
  }
}

std::string Json::dump() const {
  std::string out;
  write(out, false, 0);
  return out;
}

std::string Json::dump_pretty() const {
  std::string out;
  write(out, true, 0);
  return out + "\n";
}

Status Json::save(const std::string& path) const {
  return write_file_durably(path, std::string_view(dump_pretty()));
}

}  // namespace covey::formats

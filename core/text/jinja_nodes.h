/// What jinja_parse.cpp makes of a template and jinja_run.cpp runs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.h"
#include "core/text/jinja.h"

namespace covey::text::jinja {

enum class NodeKind : std::uint8_t {
  // statements
  body,     ///< kids in order
  text,     ///< text
  print,    ///< kids: expression
  set,      ///< kids: target (name or attribute of a namespace), then an expression or a body
  branch,   ///< kids: condition, body, condition, body, ... and perhaps a last body
  loop,     ///< names: variables; kids: iterable, condition or nothing, body, else body or nothing
  stop,     ///< break
  skip,     ///< continue
  nothing,  ///< also a bound of a slice that is not written
  // expressions
  string,
  integer,
  real,
  boolean,
  none,
  name,
  list,       ///< kids: items
  map,        ///< kids: key, value, key, value, ...
  attribute,  ///< kids: object; text: name
  item,       ///< kids: object, index
  slice,      ///< kids: object, first, last, step
  call,       ///< kids: callee, arguments
  filter,     ///< text: name; kids: object, arguments
  test,       ///< text: name; kids: object, arguments
  keyword,    ///< an argument by name. text: name; kids: value
  binary,     ///< text: operator; kids: left, right
  negative,
  inverse,
  choice,  ///< kids: value, condition, other value or nothing
};

struct Node {
  NodeKind kind = NodeKind::nothing;
  std::string text;
  std::int64_t integer = 0;
  double real = 0;
  std::vector<std::string> names;
  std::vector<std::unique_ptr<Node>> kids;
  int depth = 1;
};
using NodePtr = std::unique_ptr<Node>;

Result<NodePtr> parse(std::string_view source);

struct Value;
using List = std::vector<Value>;
using Map = std::vector<std::pair<std::string, Value>>;

/// A value type; lists and maps are shared and do not change, but for a namespace, which no list or map may hold: so
/// nothing can hold itself.
struct Value {
  enum class Type : std::uint8_t { undefined, none, boolean, integer, real, string, list, map, space };
  Type type = Type::undefined;
  std::int64_t integer = 0;  ///< also of a boolean
  double real = 0;
  std::shared_ptr<const MarkedText> text;
  std::shared_ptr<const List> list;
  std::shared_ptr<Map> map;  ///< of map and space
  int nesting = 0;           ///< how deep lists and maps lie in this one

  static Value of_bool(bool value);
  static Value of_int(std::int64_t value);
  static Value of_text(MarkedText value);
  static Value of_list(List values);
  static Value of_map(Map values);

  [[nodiscard]] bool is(Type t) const { return type == t; }
  [[nodiscard]] const MarkedText& str() const { return *text; }
  [[nodiscard]] bool truth() const;
  /// Undefined where it is missing.
  [[nodiscard]] Value member(std::string_view key) const;
};
/// "a string", "undefined", ...: for messages.
const char* type_name(const Value& value);

/// What one rendering may spend.
struct Budget {
  std::int64_t steps = 1'000'000;
  std::int64_t bytes = std::int64_t{64} << 20;
  Status spend(std::int64_t count);  ///< bytes
  Status step();
};

Result<bool> equal(const Value& a, const Value& b, Budget& budget);

struct Arguments {
  std::vector<Value> plain;
  Map named;
};

Result<Value> call_method(const Value& object, const std::string& name, const Arguments& arguments, Budget& budget);
Result<Value> call_filter(const Value& object, const std::string& name, const Arguments& arguments, Budget& budget);
Result<bool> call_test(const Value& object, const std::string& name, const Arguments& arguments, Budget& budget);
/// What {{ }} prints. @errors unsupported: a list or a map.
Result<MarkedText> printed(const Value& value);

/// Where each character of a text starts, and its end.
std::vector<std::size_t> character_starts(std::string_view text);

}  // namespace covey::text::jinja

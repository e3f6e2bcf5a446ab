// Values, and the methods, filters and tests that chat templates use. What is not here is refused by name.
#include <algorithm>

#include "core/text/jinja_nodes.h"
#include "core/text/unicode.h"

namespace covey::text::jinja {
namespace {

using Type = Value::Type;

Error refused(ErrorCode code, const std::string& what) {
  return {code, what};
}
Error unknown(const char* what, const std::string& name) {
  return refused(ErrorCode::unsupported, std::string("uses the ") + what + " \"" + shown(name, 40) +
                                             "\", which is not run here; name a template");
}
Error ill_used(const std::string& name) {
  return refused(ErrorCode::invalid_argument, "\"" + shown(name, 40) + "\" is used on something it does not fit");
}

/// As Python's str.strip without arguments, which Jinja's trim is.
bool is_strip_space(const Character& c) {
  return c.valid && (c.kind == CharClass::space || (c.code >= 0x1c && c.code <= 0x1f));
}

/// The text without what `goes` takes at its ends.
template <typename Goes>
MarkedText stripped(const MarkedText& in, bool left, bool right, Goes goes) {
  const std::string_view text = in.text;
  std::size_t begin = 0;
  std::size_t end = text.size();
  while (left && begin < end) {
    const Character c = character_at(text, begin);
    if (!goes(c)) break;
    begin += c.length;
  }
  while (right && end > begin) {
    std::size_t start = end - 1;
    while (start > begin && end - start < 4 && (static_cast<unsigned char>(text[start]) & 0xc0U) == 0x80) --start;
    const Character c = character_at(text.substr(0, end), start);
    if (start + c.length != end || !goes(c)) break;
    end = start;
  }
  return in.substr(begin, end - begin);
}

Result<Value> strip(const MarkedText& in, const std::string& name, const Arguments& arguments) {
  const bool left = name != "rstrip";
  const bool right = name != "lstrip";
  if (arguments.plain.empty()) return Value::of_text(stripped(in, left, right, is_strip_space));
  const Value& set = arguments.plain[0];
  if (!set.is(Type::string)) return ill_used(name);
  const std::string& bytes = set.str().text;
  if (std::ranges::any_of(bytes, [](char c) { return static_cast<unsigned char>(c) >= 0x80; })) {
    return refused(ErrorCode::unsupported, name + "() of characters beyond ASCII is not run here");
  }
  return Value::of_text(stripped(in, left, right, [&](const Character& c) {
    return c.valid && c.code < 0x80 && bytes.find(static_cast<char>(c.code)) != std::string::npos;
  }));
}

Result<Value> split(const MarkedText& in, const Arguments& arguments, Budget& budget) {
  if (arguments.plain.size() != 1 || !arguments.plain[0].is(Type::string) || arguments.plain[0].str().text.empty()) {
    return refused(ErrorCode::unsupported, "split() without one separator is not run here");
  }
  const std::string& by = arguments.plain[0].str().text;
  List out;
  std::size_t at = 0;
  for (std::size_t found = in.text.find(by); found != std::string::npos; found = in.text.find(by, at)) {
    COVEY_TRY(budget.spend(static_cast<std::int64_t>(sizeof(Value) + 8 * in.marks.size())));
    out.push_back(Value::of_text(in.substr(at, found - at)));
    at = found + by.size();
  }
  out.push_back(Value::of_text(in.substr(at)));
  return Value::of_list(std::move(out));
}

Result<Value> replace(const MarkedText& in, const Arguments& arguments, Budget& budget) {
  const auto& plain = arguments.plain;
  if (plain.size() != 2 || !plain[0].is(Type::string) || !plain[1].is(Type::string) || plain[0].str().text.empty()) {
    return ill_used("replace");
  }
  const std::string& from = plain[0].str().text;
  MarkedText out;
  std::size_t at = 0;
  for (std::size_t found = in.text.find(from); found != std::string::npos; found = in.text.find(from, at)) {
    COVEY_TRY(budget.spend(static_cast<std::int64_t>(plain[1].str().text.size())));
    out.append(in.substr(at, found - at));
    out.append(plain[1].str());
    at = found + from.size();
  }
  out.append(in.substr(at));
  return Value::of_text(std::move(out));
}

/// lower, upper, capitalize, title of ASCII, whose marks stay where they are.
Result<Value> with_case(MarkedText in, const std::string& name) {
  bool starts = true;
  for (char& c : in.text) {
    if (static_cast<unsigned char>(c) >= 0x80) {
      return refused(ErrorCode::unsupported, name + " of characters beyond ASCII is not run here");
    }
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool upper = name == "upper" || (name != "lower" && starts);
    if (letter) c = static_cast<char>(upper ? c & ~0x20 : c | 0x20);
    starts = name == "title" && !letter;
  }
  return Value::of_text(std::move(in));
}

bool is_case(const std::string& name) {
  return name == "lower" || name == "upper" || name == "capitalize" || name == "title";
}

Result<Value> string_method(const MarkedText& in, const std::string& name, const Arguments& arguments, Budget& budget) {
  if (name == "strip" || name == "lstrip" || name == "rstrip") return strip(in, name, arguments);
  if (name == "split") return split(in, arguments, budget);
  if (name == "replace") return replace(in, arguments, budget);
  if (is_case(name)) return with_case(in, name);
  if (name == "startswith" || name == "endswith") {
    if (arguments.plain.size() != 1 || !arguments.plain[0].is(Type::string)) return ill_used(name);
    const std::string& part = arguments.plain[0].str().text;
    return Value::of_bool(name == "endswith" ? in.text.ends_with(part) : in.text.starts_with(part));
  }
  return unknown("method", name);
}

Value items_of(const Map& map) {
  List out;
  for (const auto& [key, value] : map) {
    Value name = Value::of_text({key, {}});
    out.push_back(Value::of_list({std::move(name), value}));
  }
  return Value::of_list(std::move(out));
}

Result<Value> join(const List& list, const Arguments& arguments, Budget& budget) {
  MarkedText out;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (i > 0 && !arguments.plain.empty()) {
      if (!arguments.plain[0].is(Type::string)) return ill_used("join");
      COVEY_TRY(budget.spend(static_cast<std::int64_t>(arguments.plain[0].str().text.size())));
      out.append(arguments.plain[0].str());
    }
    COVEY_ASSIGN(const MarkedText text, printed(list[i]));
    COVEY_TRY(budget.spend(static_cast<std::int64_t>(text.text.size() + 64)));
    out.append(text);
  }
  return Value::of_text(std::move(out));
}

/// selectattr and rejectattr: by an attribute's truth, or by a test of it.
Result<Value> select(const List& list, const std::string& name, const Arguments& arguments, Budget& budget) {
  if (arguments.plain.empty() || !arguments.plain[0].is(Type::string)) return ill_used(name);
  List out;
  for (const Value& item : list) {
    const Value attribute = item.member(arguments.plain[0].str().text);
    bool chosen = attribute.truth();
    if (arguments.plain.size() > 1) {
      if (!arguments.plain[1].is(Type::string)) return ill_used(name);
      COVEY_TRY(budget.step());
      Arguments rest;
      rest.plain.assign(arguments.plain.begin() + 2, arguments.plain.end());
      COVEY_ASSIGN(chosen, call_test(attribute, arguments.plain[1].str().text, rest, budget));
    }
    if (chosen == (name == "selectattr")) out.push_back(item);
  }
  return Value::of_list(std::move(out));
}

Result<Value> list_filter(const List& list, const std::string& name, const Arguments& arguments, Budget& budget) {
  if (name == "list") return Value::of_list(list);
  if (name == "first") return list.empty() ? Value() : list.front();
  if (name == "last") return list.empty() ? Value() : list.back();
  if (name == "join") return join(list, arguments, budget);
  if (name == "selectattr" || name == "rejectattr") return select(list, name, arguments, budget);
  if (name == "reverse") return Value::of_list(List(list.rbegin(), list.rend()));
  return unknown("filter", name);
}

}  // namespace

Status Budget::spend(std::int64_t count) {
  bytes -= count;
  if (bytes >= 0) return {};
  return Error{ErrorCode::resource_exhausted, "puts together more text than a conversation needs"};
}

Status Budget::step() {
  if (--steps >= 0) return {};
  return Error{ErrorCode::resource_exhausted, "takes more than a million steps"};
}

Value Value::of_bool(bool value) {
  Value out;
  out.type = Type::boolean;
  out.integer = value ? 1 : 0;
  return out;
}
Value Value::of_int(std::int64_t value) {
  Value out;
  out.type = Type::integer;
  out.integer = value;
  return out;
}
Value Value::of_text(MarkedText value) {
  Value out;
  out.type = Type::string;
  out.text = std::make_shared<const MarkedText>(std::move(value));
  return out;
}
Value Value::of_list(List values) {
  Value out;
  out.type = Type::list;
  for (const Value& value : values) out.nesting = std::max(out.nesting, 1 + value.nesting);
  out.list = std::make_shared<const List>(std::move(values));
  return out;
}
Value Value::of_map(Map values) {
  Value out;
  out.type = Type::map;
  for (const auto& [key, value] : values) out.nesting = std::max(out.nesting, 1 + value.nesting);
  out.map = std::make_shared<Map>(std::move(values));
  return out;
}

bool Value::truth() const {
  switch (type) {
    case Type::undefined:
    case Type::none:
      return false;
    case Type::boolean:
    case Type::integer:
      return integer != 0;
    case Type::real:
      return real != 0;
    case Type::string:
      return !str().text.empty();
    case Type::list:
      return !list->empty();
    case Type::map:
      return !map->empty();
    case Type::space:
      return true;
  }
  return false;
}

Value Value::member(std::string_view key) const {
  if (!is(Type::map) && !is(Type::space)) return {};
  for (const auto& [name, value] : *map) {
    if (name == key) return value;
  }
  return {};
}

Result<bool> equal(const Value& a, const Value& b, Budget& budget) {
  COVEY_TRY(budget.step());
  const auto number = [](const Value& v) { return v.is(Type::real) ? v.real : static_cast<double>(v.integer); };
  const auto is_number = [](const Value& v) { return v.is(Type::boolean) || v.is(Type::integer) || v.is(Type::real); };
  if (is_number(a) && is_number(b)) {
    return a.is(Type::real) || b.is(Type::real) ? number(a) == number(b) : a.integer == b.integer;
  }
  if (a.type != b.type) return false;
  if (a.is(Type::string)) {
    COVEY_TRY(budget.spend(static_cast<std::int64_t>(std::min(a.str().text.size(), b.str().text.size()))));
    return a.str().text == b.str().text;
  }
  if (a.is(Type::list) && a.list != b.list) {
    if (a.list->size() != b.list->size()) return false;
    for (std::size_t i = 0; i < a.list->size(); ++i) {
      COVEY_ASSIGN(const bool same, equal((*a.list)[i], (*b.list)[i], budget));
      if (!same) return false;
    }
  }
  if (a.is(Type::map) && a.map != b.map) {
    if (a.map->size() != b.map->size()) return false;
    for (const auto& [key, value] : *a.map) {
      COVEY_ASSIGN(const bool same, equal(value, b.member(key), budget));
      if (!same) return false;
    }
  }
  return !a.is(Type::space) || a.map == b.map;
}

const char* type_name(const Value& value) {
  constexpr const char* kNames[] = {"undefined", "none",   "a truth value", "a number",   "a number",
                                    "a string",  "a list", "a map",         "a namespace"};
  return kNames[static_cast<std::size_t>(value.type)];
}

std::vector<std::size_t> character_starts(std::string_view text) {
  std::vector<std::size_t> out;
  for (std::size_t at = 0; at < text.size(); at += character_at(text, at).length) out.push_back(at);
  out.push_back(text.size());
  return out;
}

Result<MarkedText> printed(const Value& value) {
  switch (value.type) {
    case Type::undefined:
      return MarkedText();
    case Type::none:
      return MarkedText{"None", {}};
    case Type::boolean:
      return MarkedText{value.integer != 0 ? "True" : "False", {}};
    case Type::integer:
      return MarkedText{std::to_string(value.integer), {}};
    case Type::string:
      return value.str();
    default:
      return refused(ErrorCode::unsupported, std::string("prints ") + type_name(value) + ", which is not done here");
  }
}

Result<Value> call_method(const Value& object, const std::string& name, const Arguments& arguments, Budget& budget) {
  if (!arguments.named.empty()) return ill_used(name);
  if (object.is(Type::string)) {
    COVEY_TRY(budget.spend(static_cast<std::int64_t>(object.str().text.size())));
    return string_method(object.str(), name, arguments, budget);
  }
  if (object.is(Type::map)) {
    if (name == "get" && !arguments.plain.empty() && arguments.plain[0].is(Type::string)) {
      Value found = object.member(arguments.plain[0].str().text);
      if (!found.is(Type::undefined)) return found;
      if (arguments.plain.size() > 1) return arguments.plain[1];
      found.type = Type::none;
      return found;
    }
    if (name == "items") return items_of(*object.map);
  }
  return unknown("method", name);
}

Result<Value> call_filter(const Value& object, const std::string& name, const Arguments& arguments, Budget& budget) {
  if (name == "default" || name == "d") {
    const bool falsy = arguments.plain.size() > 1 && arguments.plain[1].truth();
    if (!object.is(Type::undefined) && (!falsy || object.truth())) return object;
    return arguments.plain.empty() ? Value::of_text({}) : arguments.plain[0];
  }
  if (name == "string") {
    COVEY_ASSIGN(MarkedText text, printed(object));
    return Value::of_text(std::move(text));
  }
  if (name == "length" || name == "count") {
    if (object.is(Type::list)) return Value::of_int(static_cast<std::int64_t>(object.list->size()));
    if (object.is(Type::map)) return Value::of_int(static_cast<std::int64_t>(object.map->size()));
    if (!object.is(Type::string)) return ill_used(name);
    COVEY_TRY(budget.spend(static_cast<std::int64_t>(8 * object.str().text.size())));
    return Value::of_int(static_cast<std::int64_t>(character_starts(object.str().text).size() - 1));
  }
  if (name == "items" && object.is(Type::map)) return items_of(*object.map);
  if (object.is(Type::list)) {
    COVEY_TRY(budget.spend(static_cast<std::int64_t>(64 * object.list->size())));
    return list_filter(*object.list, name, arguments, budget);
  }
  if (!object.is(Type::string)) return name == "tojson" ? unknown("filter", name) : ill_used(name);
  COVEY_TRY(budget.spend(static_cast<std::int64_t>(object.str().text.size())));
  if (name == "trim") return strip(object.str(), "strip", arguments);
  if (name == "replace") return replace(object.str(), arguments, budget);
  if (is_case(name)) return with_case(object.str(), name);
  return unknown("filter", name);
}

Result<bool> call_test(const Value& object, const std::string& name, const Arguments& arguments, Budget& budget) {
  const bool truth_value = object.is(Type::boolean);
  if (name == "defined") return !object.is(Type::undefined);
  if (name == "undefined") return object.is(Type::undefined);
  if (name == "none") return object.is(Type::none);
  if (name == "string") return object.is(Type::string);
  if (name == "mapping") return object.is(Type::map);
  if (name == "iterable" || name == "sequence") {
    return object.is(Type::string) || object.is(Type::list) || object.is(Type::map);
  }
  if (name == "boolean") return truth_value;
  if (name == "integer") return object.is(Type::integer);
  if (name == "number") return truth_value || object.is(Type::integer) || object.is(Type::real);
  if (name == "true") return truth_value && object.integer != 0;
  if (name == "false") return truth_value && object.integer == 0;
  if ((name == "equalto" || name == "eq" || name == "ne") && arguments.plain.size() == 1) {
    COVEY_ASSIGN(const bool same, equal(object, arguments.plain[0], budget));
    return same == (name != "ne");
  }
  return unknown("test", name);
}

}  // namespace covey::text::jinja

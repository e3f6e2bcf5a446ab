// Runs a template's tree. Everything that takes time or memory is paid for out of a Budget, so that no template and no
// conversation can hold the caller up.
#include <algorithm>
#include <limits>
#include <map>

#include "core/text/jinja.h"
#include "core/text/jinja_nodes.h"

namespace covey::text {

MarkedText MarkedText::substr(std::size_t at, std::size_t count) const {
  MarkedText out{text.substr(at, count), {}};
  const std::size_t end = at + out.text.size();
  for (const Mark& mark : marks) {
    const std::size_t first = std::max(mark.begin, at);
    const std::size_t last = std::min(mark.end, end);
    if (first < last) out.marks.push_back({first - at, last - at, mark.message});
  }
  return out;
}

void MarkedText::append(const MarkedText& other) {
  for (const Mark& mark : other.marks) {
    marks.push_back({mark.begin + text.size(), mark.end + text.size(), mark.message});
  }
  text += other.text;
}

namespace jinja {
namespace {

using Type = Value::Type;

enum class Flow : std::uint8_t { on, stop, skip };

Error undefined_value(const std::string& what) {
  return {ErrorCode::invalid_argument, what};
}

/// Values are released from the outside in, so what is kept must not lie in itself without end.
Status storable(const Value& value) {
  if (value.nesting <= 16) return {};
  return Error{ErrorCode::resource_exhausted, "puts lists into lists without end"};
}

std::int64_t cost_of(const MarkedText& text) {
  return static_cast<std::int64_t>(text.text.size() + text.marks.size() * sizeof(MarkedText::Mark));
}

class Run {
 public:
  Run(std::map<std::string, Value> globals, Budget budget) : budget_(budget) { scopes_.push_back(std::move(globals)); }
  Result<Flow> execute(const Node& node, MarkedText& out);

 private:
  using Scope = std::map<std::string, Value>;

  Result<Flow> body(const Node& node, MarkedText& out);
  Status set(const Node& node);
  Result<Flow> loop(const Node& node, MarkedText& out);
  Result<List> items_of(const Node& node);
  Status bind(const Node& node, const Value& item);

  Result<Value> value(const Node& node);
  Result<Value> computed(const Node& node);
  Result<Value> name(const Node& node);
  Result<Value> item(const Node& node);
  Result<Value> slice(const Node& node);
  Result<Value> call(const Node& node);
  Result<Value> binary(const Node& node);
  Result<Value> add(const Value& a, const Value& b);
  Result<Value> number(const std::string& op, const Value& a, const Value& b);
  Result<bool> contains(const Value& whole, const Value& part);
  Result<Arguments> arguments(const Node& node);

  std::vector<Scope> scopes_;
  Budget budget_;
};

Result<Flow> Run::body(const Node& node, MarkedText& out) {
  for (const auto& kid : node.kids) {
    COVEY_ASSIGN(const Flow flow, execute(*kid, out));
    if (flow != Flow::on) return flow;
  }
  return Flow::on;
}

Result<Flow> Run::execute(const Node& node, MarkedText& out) {
  COVEY_TRY(budget_.step());
  switch (node.kind) {
    case NodeKind::body:
      return body(node, out);
    case NodeKind::text:
      COVEY_TRY(budget_.spend(static_cast<std::int64_t>(node.text.size())));
      out.text += node.text;
      return Flow::on;
    case NodeKind::print: {
      COVEY_ASSIGN(const Value shown, value(*node.kids[0]));
      COVEY_ASSIGN(const MarkedText text, printed(shown));
      COVEY_TRY(budget_.spend(cost_of(text)));
      out.append(text);
      return Flow::on;
    }
    case NodeKind::set: {
      COVEY_TRY(set(node));
      return Flow::on;
    }
    case NodeKind::branch: {
      std::size_t i = 0;
      for (; i + 1 < node.kids.size(); i += 2) {
        COVEY_ASSIGN(const Value condition, value(*node.kids[i]));
        if (condition.truth()) return execute(*node.kids[i + 1], out);
      }
      return i < node.kids.size() ? execute(*node.kids[i], out) : Flow::on;
    }
    case NodeKind::loop:
      return loop(node, out);
    case NodeKind::stop:
      return Flow::stop;
    case NodeKind::skip:
      return Flow::skip;
    default:
      return Flow::on;
  }
}

Status Run::set(const Node& node) {
  Value to;
  if (node.kids[1]->kind == NodeKind::body) {
    MarkedText text;
    COVEY_TRY(execute(*node.kids[1], text));
    to = Value::of_text(std::move(text));
  } else {
    COVEY_ASSIGN(to, value(*node.kids[1]));
  }
  COVEY_TRY(storable(to));
  const Node& target = *node.kids[0];
  if (target.kind == NodeKind::name) {
    scopes_.back()[target.text] = std::move(to);
    return {};
  }
  COVEY_ASSIGN(const Value space, value(*target.kids[0]));
  if (!space.is(Type::space)) return undefined_value("sets an attribute of something that is no namespace");
  if (to.is(Type::space)) return undefined_value("puts a namespace into a namespace");
  for (auto& [key, old] : *space.map) {
    if (key != target.text) continue;
    old = std::move(to);
    return {};
  }
  space.map->emplace_back(target.text, std::move(to));
  return {};
}

/// What a loop goes over, after its condition.
Result<List> Run::items_of(const Node& node) {
  COVEY_ASSIGN(const Value over, value(*node.kids[0]));
  List all;
  if (over.is(Type::list)) {
    all = *over.list;
  } else if (over.is(Type::map)) {
    for (const auto& [key, unused] : *over.map) all.push_back(Value::of_text({key, {}}));
  } else if (!over.is(Type::undefined)) {
    return Error{ErrorCode::unsupported, std::string("loops over ") + type_name(over) + ", which is not done here"};
  }
  COVEY_TRY(budget_.spend(static_cast<std::int64_t>(all.size() * sizeof(Value))));
  if (node.kids[1]->kind == NodeKind::nothing) return all;
  List chosen;
  for (Value& one : all) {
    scopes_.emplace_back();
    auto status = bind(node, one);
    auto condition = status.ok() ? value(*node.kids[1]) : Result<Value>(status.error());
    scopes_.pop_back();
    if (!condition.ok()) return condition.error();
    if (condition->truth()) chosen.push_back(std::move(one));
  }
  return chosen;
}

/// The loop's variables, in the innermost scope.
Status Run::bind(const Node& node, const Value& item) {
  COVEY_TRY(storable(item));
  if (node.names.size() == 1) {
    scopes_.back()[node.names[0]] = item;
    return {};
  }
  if (!item.is(Type::list) || item.list->size() != node.names.size()) {
    return undefined_value("loops with several variables over items of another number");
  }
  for (std::size_t i = 0; i < node.names.size(); ++i) scopes_.back()[node.names[i]] = (*item.list)[i];
  return {};
}

Result<Flow> Run::loop(const Node& node, MarkedText& out) {
  COVEY_ASSIGN(const List items, items_of(node));
  const auto count = static_cast<std::int64_t>(items.size());
  for (std::int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    Map about = {{"index", Value::of_int(i + 1)},        {"index0", Value::of_int(i)},
                 {"revindex", Value::of_int(count - i)}, {"revindex0", Value::of_int(count - i - 1)},
                 {"first", Value::of_bool(i == 0)},      {"last", Value::of_bool(i + 1 == count)},
                 {"length", Value::of_int(count)}};
    if (i > 0) about.emplace_back("previtem", items[at - 1]);
    if (i + 1 < count) about.emplace_back("nextitem", items[at + 1]);
    scopes_.emplace_back();
    scopes_.back()["loop"] = Value::of_map(std::move(about));
    auto status = bind(node, items[at]);
    auto flow = status.ok() ? execute(*node.kids[2], out) : Result<Flow>(status.error());
    scopes_.pop_back();
    if (!flow.ok()) return flow.error();
    if (*flow == Flow::stop) break;
  }
  return count == 0 ? execute(*node.kids[3], out) : Flow::on;
}

Result<Value> Run::value(const Node& node) {
  COVEY_TRY(budget_.step());
  switch (node.kind) {
    case NodeKind::string:
      COVEY_TRY(budget_.spend(static_cast<std::int64_t>(node.text.size())));
      return Value::of_text({node.text, {}});
    case NodeKind::integer:
      return Value::of_int(node.integer);
    case NodeKind::boolean:
      return Value::of_bool(node.integer != 0);
    case NodeKind::real:
    case NodeKind::none: {
      Value out;
      out.type = node.kind == NodeKind::real ? Type::real : Type::none;
      out.real = node.real;
      return out;
    }
    case NodeKind::name:
      return name(node);
    case NodeKind::list:
    case NodeKind::map: {
      List values;
      for (const auto& kid : node.kids) {
        COVEY_ASSIGN(Value one, value(*kid));
        if (one.is(Type::space)) return undefined_value("puts a namespace into a list or a map");
        values.push_back(std::move(one));
      }
      if (node.kind == NodeKind::list) return Value::of_list(std::move(values));
      Map map;
      for (std::size_t i = 0; i + 1 < values.size(); i += 2) {
        if (!values[i].is(Type::string)) return undefined_value("has a map with a key that is no string");
        map.emplace_back(values[i].str().text, std::move(values[i + 1]));
      }
      return Value::of_map(std::move(map));
    }
    default:
      return computed(node);
  }
}

Result<Value> Run::computed(const Node& node) {
  switch (node.kind) {
    case NodeKind::attribute: {
      COVEY_ASSIGN(const Value object, value(*node.kids[0]));
      if (object.is(Type::undefined)) return undefined_value("asks for \"" + shown(node.text, 40) + "\" of nothing");
      return object.member(node.text);
    }
    case NodeKind::item:
      return item(node);
    case NodeKind::slice:
      return slice(node);
    case NodeKind::call:
      return call(node);
    case NodeKind::filter:
    case NodeKind::test: {
      COVEY_ASSIGN(const Value object, value(*node.kids[0]));
      COVEY_ASSIGN(const Arguments args, arguments(node));
      if (node.kind == NodeKind::filter) return call_filter(object, node.text, args, budget_);
      COVEY_ASSIGN(const bool truth, call_test(object, node.text, args, budget_));
      return Value::of_bool(truth);
    }
    case NodeKind::binary:
      return binary(node);
    case NodeKind::inverse: {
      COVEY_ASSIGN(const Value object, value(*node.kids[0]));
      return Value::of_bool(!object.truth());
    }
    case NodeKind::negative: {
      COVEY_ASSIGN(const Value object, value(*node.kids[0]));
      return number("-", Value::of_int(0), object);
    }
    case NodeKind::choice: {
      COVEY_ASSIGN(const Value condition, value(*node.kids[1]));
      if (condition.truth()) return value(*node.kids[0]);
      return node.kids[2]->kind == NodeKind::nothing ? Value() : value(*node.kids[2]);
    }
    default:
      return Value();
  }
}

Result<Value> Run::name(const Node& node) {
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto found = scope->find(node.text);
    if (found != scope->end()) return found->second;
  }
  return Value();
}

Result<Value> Run::item(const Node& node) {
  COVEY_ASSIGN(const Value object, value(*node.kids[0]));
  COVEY_ASSIGN(const Value index, value(*node.kids[1]));
  if (object.is(Type::undefined)) return undefined_value("asks for an item of nothing");
  if (index.is(Type::string)) return object.member(index.str().text);
  if (!index.is(Type::integer)) return undefined_value("has an index that is neither number nor string");
  const auto resolve = [&](std::size_t size) {
    const std::int64_t at = index.integer < 0 ? index.integer + static_cast<std::int64_t>(size) : index.integer;
    return at >= 0 && at < static_cast<std::int64_t>(size) ? static_cast<std::size_t>(at) : size;
  };
  if (object.is(Type::list)) {
    const std::size_t at = resolve(object.list->size());
    return at < object.list->size() ? (*object.list)[at] : Value();
  }
  if (!object.is(Type::string)) return Value();
  COVEY_TRY(budget_.spend(static_cast<std::int64_t>(8 * object.str().text.size())));
  const auto starts = character_starts(object.str().text);
  const std::size_t at = resolve(starts.size() - 1);
  if (at + 1 >= starts.size()) return Value();
  return Value::of_text(object.str().substr(starts[at], starts[at + 1] - starts[at]));
}

Result<Value> Run::slice(const Node& node) {
  COVEY_ASSIGN(const Value object, value(*node.kids[0]));
  if (!object.is(Type::list) && !object.is(Type::string)) return undefined_value("cuts something that is no sequence");
  COVEY_TRY(budget_.spend(static_cast<std::int64_t>(object.is(Type::list) ? object.list->size() * sizeof(Value)
                                                                          : 9 * object.str().text.size())));
  const auto starts = object.is(Type::list) ? std::vector<std::size_t>() : character_starts(object.str().text);
  const auto size = static_cast<std::int64_t>(object.is(Type::list) ? object.list->size() : starts.size() - 1);
  std::int64_t bounds[3] = {0, 0, 1};
  bool given[3] = {};
  for (std::size_t i = 0; i < 3; ++i) {
    const Node& kid = *node.kids[i + 1];
    if (kid.kind == NodeKind::nothing) continue;
    COVEY_ASSIGN(const Value bound, value(kid));
    if (bound.is(Type::none)) continue;
    if (!bound.is(Type::integer)) return undefined_value("cuts at something that is no number");
    bounds[i] = bound.integer;
    given[i] = true;
  }
  const std::int64_t step = bounds[2];
  if (step != 1 && step != -1) return Error{ErrorCode::unsupported, "slices with another step than 1 and -1"};
  const auto limit = [&](std::int64_t at) {
    return std::clamp<std::int64_t>(at < 0 ? std::max<std::int64_t>(at, -size - 1) + size : at, step < 0 ? -1 : 0,
                                    step < 0 ? size - 1 : size);
  };
  const std::int64_t first = given[0] ? limit(bounds[0]) : step < 0 ? size - 1 : 0;
  const std::int64_t last = given[1] ? limit(bounds[1]) : step < 0 ? -1 : size;
  List out;
  MarkedText text;
  for (std::int64_t i = first; step < 0 ? i > last : i < last; i += step) {
    const auto at = static_cast<std::size_t>(i);
    if (object.is(Type::list)) {
      out.push_back((*object.list)[at]);
    } else if (step > 0) {  // the whole stretch at once
      text = object.str().substr(starts[at], starts[static_cast<std::size_t>(last)] - starts[at]);
      break;
    } else {
      return Error{ErrorCode::unsupported, "turns a string round"};
    }
  }
  return object.is(Type::list) ? Value::of_list(std::move(out)) : Value::of_text(std::move(text));
}

Result<Arguments> Run::arguments(const Node& node) {
  Arguments out;
  for (std::size_t i = 1; i < node.kids.size(); ++i) {
    const Node& kid = *node.kids[i];
    const bool named = kid.kind == NodeKind::keyword;
    COVEY_ASSIGN(Value one, value(named ? *kid.kids[0] : kid));
    if (one.is(Type::space)) return undefined_value("hands a namespace on");
    if (named) {
      out.named.emplace_back(kid.text, std::move(one));
    } else {
      out.plain.push_back(std::move(one));
    }
  }
  return out;
}

Result<Value> Run::call(const Node& node) {
  const Node& callee = *node.kids[0];
  COVEY_ASSIGN(Arguments args, arguments(node));
  if (callee.kind == NodeKind::attribute) {
    COVEY_ASSIGN(const Value object, value(*callee.kids[0]));
    if (object.is(Type::undefined)) return undefined_value("calls \"" + shown(callee.text, 40) + "\" of nothing");
    return call_method(object, callee.text, args, budget_);
  }
  if (callee.kind == NodeKind::name && callee.text == "raise_exception") {
    // A message that quotes the conversation is not repeated.
    const bool plain = args.plain.size() == 1 && args.plain[0].is(Type::string) && args.plain[0].str().marks.empty();
    return undefined_value("refuses the conversation" + (plain ? ": " + shown(args.plain[0].str().text, 200) : ""));
  }
  if (callee.kind == NodeKind::name && callee.text == "namespace" && args.plain.empty()) {
    Value out = Value::of_map(std::move(args.named));
    out.type = Type::space;
    return out;
  }
  const std::string called = callee.kind == NodeKind::name ? "\"" + shown(callee.text, 40) + "\"" : "a value";
  return Error{ErrorCode::unsupported, "calls " + called + ", which is not run here; name a template"};
}

Result<Value> Run::binary(const Node& node) {
  const std::string& op = node.text;
  COVEY_ASSIGN(Value a, value(*node.kids[0]));
  if (op == "and" || op == "or") {
    return a.truth() == (op == "or") ? Result<Value>(std::move(a)) : value(*node.kids[1]);
  }
  COVEY_ASSIGN(Value b, value(*node.kids[1]));
  if (op == "==" || op == "!=") {
    COVEY_ASSIGN(const bool same, equal(a, b, budget_));
    return Value::of_bool(same == (op == "=="));
  }
  if (op == "in") {
    COVEY_ASSIGN(const bool inside, contains(b, a));
    return Value::of_bool(inside);
  }
  if (op == "~") {
    COVEY_ASSIGN(MarkedText text, printed(a));
    COVEY_ASSIGN(const MarkedText more, printed(b));
    COVEY_TRY(budget_.spend(cost_of(text) + cost_of(more)));
    text.append(more);
    return Value::of_text(std::move(text));
  }
  if (op == "+" && !a.is(Type::integer)) return add(a, b);
  return number(op, a, b);
}

Result<Value> Run::add(const Value& a, const Value& b) {
  if (a.is(Type::string) && b.is(Type::string)) {
    COVEY_TRY(budget_.spend(cost_of(a.str()) + cost_of(b.str())));
    MarkedText text = a.str();
    text.append(b.str());
    return Value::of_text(std::move(text));
  }
  if (a.is(Type::list) && b.is(Type::list)) {
    COVEY_TRY(budget_.spend(static_cast<std::int64_t>((a.list->size() + b.list->size()) * sizeof(Value))));
    List all = *a.list;
    all.insert(all.end(), b.list->begin(), b.list->end());
    return Value::of_list(std::move(all));
  }
  return undefined_value(std::string("adds ") + type_name(b) + " to " + type_name(a));
}

/// Arithmetic and order of integers; order of strings.
Result<Value> Run::number(const std::string& op, const Value& a, const Value& b) {
  if (a.is(Type::string) && b.is(Type::string) && (op[0] == '<' || op[0] == '>')) {
    const int order = a.str().text.compare(b.str().text);
    return Value::of_bool(op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0);
  }
  if (!a.is(Type::integer) || !b.is(Type::integer)) {
    return undefined_value(std::string("computes with ") + type_name(a) + " and " + type_name(b));
  }
  const std::int64_t x = a.integer;
  const std::int64_t y = b.integer;
  if (op[0] == '<' || op[0] == '>') {
    return Value::of_bool(op == "<" ? x < y : op == "<=" ? x <= y : op == ">" ? x > y : x >= y);
  }
  constexpr std::int64_t kMax = std::int64_t{1} << 31;
  const auto small = [](std::int64_t v) { return v > -kMax && v < kMax; };
  if (!small(x) || !small(y)) return undefined_value("computes with numbers that are too large");
  if (op == "+") return Value::of_int(x + y);
  if (op == "-") return Value::of_int(x - y);
  if (op == "*") return Value::of_int(x * y);
  if (op == "/") return Error{ErrorCode::unsupported, "divides into a fraction"};
  if (y == 0) return undefined_value("divides by zero");
  const std::int64_t rest = x % y;
  const bool below = rest != 0 && (rest < 0) != (y < 0);  // Python rounds down
  return Value::of_int(op == "%" ? rest + (below ? y : 0) : x / y - (below ? 1 : 0));
}

Result<bool> Run::contains(const Value& whole, const Value& part) {
  if (whole.is(Type::list)) {
    for (const Value& one : *whole.list) {
      COVEY_ASSIGN(const bool same, equal(one, part, budget_));
      if (same) return true;
    }
    return false;
  }
  if (part.is(Type::string) && whole.is(Type::string)) {
    COVEY_TRY(budget_.spend(cost_of(whole.str())));
    return whole.str().text.find(part.str().text) != std::string::npos;
  }
  if (part.is(Type::string) && whole.is(Type::map)) return !whole.member(part.str().text).is(Type::undefined);
  return undefined_value(std::string("looks for ") + type_name(part) + " in " + type_name(whole));
}

bool uses_name(const Node& node, std::string_view name) {
  if (node.kind == NodeKind::name && node.text == name) return true;
  return std::ranges::any_of(node.kids, [&](const auto& kid) { return uses_name(*kid, name); });
}

}  // namespace
}  // namespace jinja

Result<JinjaTemplate> JinjaTemplate::compile(std::string_view source, const std::string& where) {
  if (source.size() > kBytesMax) {
    return Error{ErrorCode::resource_exhausted, where + ": has more than " + std::to_string(kBytesMax) + " bytes"};
  }
  auto root = jinja::parse(source);
  if (!root.ok()) return root.error().in(where);
  JinjaTemplate out;
  out.root_ = *std::move(root);
  out.where_ = where;
  return out;
}

bool JinjaTemplate::mentions(std::string_view name) const {
  return jinja::uses_name(*root_, name);
}

Result<MarkedText> JinjaTemplate::render(const JinjaInputs& inputs) const {
  using jinja::Value;
  jinja::Budget budget;
  jinja::List messages;
  for (std::size_t i = 0; i < inputs.messages.size(); ++i) {
    const ChatMessage& message = inputs.messages[i];
    MarkedText content{message.content, {}};
    if (message.role == "assistant" && !message.content.empty())
      content.marks.push_back({0, message.content.size(), i});
    messages.push_back(
        Value::of_map({{"role", Value::of_text({message.role, {}})}, {"content", Value::of_text(std::move(content))}}));
    budget.bytes += static_cast<std::int64_t>(64 * (message.content.size() + 64));
    budget.steps += 1000;
  }
  jinja::Run run({{"messages", Value::of_list(std::move(messages))},
                  {"bos_token", Value::of_text({std::string(inputs.bos), {}})},
                  {"eos_token", Value::of_text({std::string(inputs.eos), {}})},
                  {"add_generation_prompt", Value::of_bool(inputs.generation_prompt)}},
                 budget);
  MarkedText out;
  auto flow = run.execute(*root_, out);
  if (!flow.ok()) return flow.error().in(where_);
  return out;
}

}  // namespace covey::text

#include "core/config/reader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <tuple>

#include "core/base/file.h"
#include "core/config/suggest.h"
#include "core/config/tree.h"

namespace covey::config {

using detail::Kind;
using detail::Node;
using detail::Output;
using detail::printable;

namespace {

constexpr std::size_t kMaxListLength = 10'000;
constexpr std::size_t kMaxTextBytes = 4096;

/// Shortest text that reads back to the same number.
template <typename T>
std::string number_text(T value) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, end.ptr};
}

std::string yaml_text(const std::string& text) {
  const auto plain_first = [](char c) {
    return std::isalpha(static_cast<unsigned char>(c)) != 0 || c == '/' || c == '_';
  };
  const auto plain = [&](char c) {
    return plain_first(c) || std::isdigit(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-';
  };
  const std::string words[] = {"true", "false", "null", "Null", "NULL", "yes", "no", "on", "off", "y", "n"};
  if (!text.empty() && plain_first(text[0]) && std::ranges::all_of(text, plain) &&
      std::ranges::find(words, text) == std::end(words)) {
    return text;
  }
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string described(const Node& node) {
  switch (node.kind) {
    case Kind::null:
      return "empty";
    case Kind::list:
      return "a list";
    case Kind::map:
      return "a section";
    case Kind::scalar:
      break;
  }
  return "\"" + printable(node.text) + "\"";
}

enum class NumberFault { none, not_a_number, too_large };

template <typename T>
NumberFault parse_number(const Node& node, T& out) {
  if (node.quoted) return NumberFault::not_a_number;
  const char* end = node.text.data() + node.text.size();
  const auto [stop, code] = std::from_chars(node.text.data(), end, out);
  if (code == std::errc::result_out_of_range && stop == end) return NumberFault::too_large;
  if (code != std::errc() || stop != end) return NumberFault::not_a_number;
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(out)) return NumberFault::not_a_number;
  }
  return NumberFault::none;
}

/// "" where `node` holds a number in [min, max], else what is wrong, to follow the key's name.
template <typename T>
std::string read_number(const Node& node, T min, T max, T& out) {
  constexpr const char* wanted = std::is_floating_point_v<T> ? "a number" : "a whole number";
  T value{};
  const NumberFault fault = node.kind == Kind::scalar ? parse_number(node, value) : NumberFault::not_a_number;
  const std::string range = "from " + number_text(min) + " to " + number_text(max);
  if (fault == NumberFault::not_a_number) {
    return "must be " + std::string(wanted) + " " + range + ", not " + described(node);
  }
  if (fault == NumberFault::too_large || value < min || value > max) {
    return "is " + printable(node.text) + "; it must be " + range;
  }
  out = value;
  return "";
}

std::string read_text(const Node& node, std::string& out) {
  if (node.kind != Kind::scalar) return "must be a text, not " + described(node);
  if (node.text.size() > kMaxTextBytes) return "is longer than " + std::to_string(kMaxTextBytes) + " bytes; shorten it";
  for (const char c : node.text) {
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
      return "holds a control character; remove it";
    }
  }
  out = node.text;
  return "";
}

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

}  // namespace

// --- where things are ---

std::string Section::name(std::string_view key) const {
  return "`" + (path_.empty() ? "" : path_ + ".") + printable(key) + "`";
}

Node* Section::find(std::string_view key) {
  if (node_ == nullptr) return nullptr;
  node_->known.emplace(key);
  for (Node::Entry& entry : node_->map) {
    if (entry.key == key) return entry.value;
  }
  return nullptr;
}

void Section::complain(const Node* at, std::string message) {
  if (at == nullptr) at = node_ != nullptr ? node_ : state_->root;
  state_->problems.push_back({at->at, std::move(message)});
}

/// The value, or nullptr after saying what is missing.
Node* Section::value_of(std::string_view key, bool is_required, std::string_view example) {
  Node* node = find(key);
  const std::string line = "`" + std::string(key) + ": " + std::string(example) + "`";
  if (node == nullptr) {
    if (is_required) complain(nullptr, name(key) + " is missing; add a line " + line);
    return nullptr;
  }
  if (node->kind != Kind::null) return node;
  complain(node, name(key) + " has no value; write " + line + " or remove it");
  return nullptr;
}

std::vector<Node*> Section::elements(std::string_view key, bool is_required, const char* wanted) {
  Node* node = value_of(key, is_required, "[...]");
  if (node == nullptr) return {};
  if (node->kind == Kind::scalar) return {node};
  if (node->kind == Kind::map) {
    complain(node, name(key) + " must be a list of " + wanted + ", not a section");
    return {};
  }
  if (node->list.size() <= kMaxListLength) return node->list;
  complain(node, name(key) + " has " + std::to_string(node->list.size()) + " elements; at most " +
                     std::to_string(kMaxListLength) + " are allowed");
  return {};
}

bool Section::has(std::string_view key) const {
  return node_ != nullptr && std::ranges::any_of(node_->map, [&](const auto& entry) { return entry.key == key; });
}

std::vector<std::string> Section::keys() const {
  std::vector<std::string> out;
  if (node_ == nullptr) return out;
  for (const Node::Entry& entry : node_->map) out.push_back(entry.key);
  return out;
}

void Section::problem(std::string_view key, const std::string& what) {
  const Node* at = nullptr;
  if (node_ != nullptr) {
    for (const Node::Entry& entry : node_->map) {
      if (entry.key == key) at = entry.value;
    }
  }
  complain(at, name(key) + " " + what);
}

// --- values ---

void Section::record(std::string_view key, std::string value) {
  for (Output& child : output_->children) {
    if (child.key == key) return;
  }
  output_->children.push_back({std::string(key), {std::move(value)}, false, false, {}});
}

void Section::record_list(std::string_view key, const std::vector<std::string>& values) {
  for (Output& child : output_->children) {
    if (child.key == key) return;
  }
  output_->children.push_back({std::string(key), values, true, false, {}});
}

std::int64_t Section::int64(std::string_view key, Default<std::int64_t> fallback, std::int64_t min, std::int64_t max) {
  std::int64_t value = fallback.or_zero();
  if (const Node* node = value_of(key, fallback.is_required(), number_text(min))) {
    const std::string wrong = read_number(*node, min, max, value);
    if (!wrong.empty()) complain(node, name(key) + " " + wrong);
  }
  record(key, number_text(value));
  return value;
}

double Section::real(std::string_view key, Default<double> fallback, double min, double max) {
  double value = fallback.or_zero();
  if (const Node* node = value_of(key, fallback.is_required(), number_text(min))) {
    const std::string wrong = read_number(*node, min, max, value);
    if (!wrong.empty()) complain(node, name(key) + " " + wrong);
  }
  record(key, number_text(value));
  return value;
}

bool Section::boolean(std::string_view key, Default<bool> fallback) {
  bool value = fallback.or_zero();
  if (const Node* node = value_of(key, fallback.is_required(), "true")) {
    const bool is_word = node->kind == Kind::scalar && !node->quoted && (node->text == "true" || node->text == "false");
    if (is_word) {
      value = node->text == "true";
    } else {
      complain(node, name(key) + " must be true or false, not " + described(*node));
    }
  }
  record(key, value ? "true" : "false");
  return value;
}

std::string Section::text(std::string_view key, Default<std::string> fallback) {
  std::string value = fallback.or_zero();
  if (const Node* node = value_of(key, fallback.is_required(), "...")) {
    const std::string wrong = read_text(*node, value);
    if (!wrong.empty()) complain(node, name(key) + " " + wrong);
  }
  record(key, yaml_text(value));
  return value;
}

std::string Section::choice(std::string_view key, const std::vector<std::string>& choices,
                            Default<std::string> fallback) {
  std::string value = fallback.or_zero();
  if (const Node* node = value_of(key, fallback.is_required(), choices.empty() ? "..." : choices.front())) {
    if (node->kind == Kind::scalar && std::ranges::find(choices, node->text) != choices.end()) {
      value = node->text;
    } else {
      complain(node, name(key) + " must be one of " + joined(choices) + ", not " + described(*node));
    }
  }
  record(key, yaml_text(value));
  return value;
}

std::int64_t Section::duration_ms(std::string_view key, Default<std::int64_t> fallback_ms, std::int64_t min_ms,
                                  std::int64_t max_ms) {
  struct Unit {
    const char* suffix;
    double ms;
  };
  static constexpr Unit kUnits[] = {{"_ms", 1}, {"_s", 1000}, {"_min", 60'000}, {"_h", 3'600'000}};
  const std::string stem(key);
  std::int64_t value = fallback_ms.or_zero();
  std::string found;
  for (const Unit& unit : kUnits) {
    const std::string full = stem + unit.suffix;
    if (find(full) == nullptr) continue;
    if (!found.empty()) {
      problem(full, "and `" + found + "` say the same; keep one");
      continue;
    }
    found = full;
    const double min = static_cast<double>(min_ms) / unit.ms;
    const double max = static_cast<double>(max_ms) / unit.ms;
    const Node* node = value_of(full, false, number_text(min));
    if (node == nullptr) continue;
    double number = 0;
    const std::string wrong = read_number(*node, min, max, number);
    if (wrong.empty()) value = std::llround(number * unit.ms);
    if (!wrong.empty()) complain(node, name(full) + " " + wrong);
  }
  if (found.empty() && has(stem)) {
    find(stem);
    problem(stem, "has no unit; write `" + stem + "_ms`, `" + stem + "_s`, `" + stem + "_min` or `" + stem + "_h`");
  } else if (found.empty() && fallback_ms.is_required()) {
    complain(nullptr, name(stem + "_s") + " is missing; add a line `" + stem +
                          "_s: " + number_text(static_cast<double>(min_ms) / 1000) + "`");
  }
  record(stem + "_ms", number_text(value));
  return value;
}

std::vector<std::int64_t> Section::int64s(std::string_view key, Default<std::vector<std::int64_t>> fallback,
                                          std::int64_t min, std::int64_t max) {
  std::vector<std::int64_t> values = fallback.or_zero();
  if (find(key) != nullptr) values.clear();
  for (const Node* node : elements(key, fallback.is_required(), "whole numbers")) {
    std::int64_t value = 0;
    const std::string wrong = read_number(*node, min, max, value);
    if (!wrong.empty()) complain(node, "each of " + name(key) + " " + wrong);
    values.push_back(value);
  }
  std::vector<std::string> shown;
  for (const std::int64_t value : values) shown.push_back(number_text(value));
  record_list(key, shown);
  return values;
}

std::vector<double> Section::reals(std::string_view key, Default<std::vector<double>> fallback, double min,
                                   double max) {
  std::vector<double> values = fallback.or_zero();
  if (find(key) != nullptr) values.clear();
  for (const Node* node : elements(key, fallback.is_required(), "numbers")) {
    double value = 0;
    const std::string wrong = read_number(*node, min, max, value);
    if (!wrong.empty()) complain(node, "each of " + name(key) + " " + wrong);
    values.push_back(value);
  }
  std::vector<std::string> shown;
  for (const double value : values) shown.push_back(number_text(value));
  record_list(key, shown);
  return values;
}

std::vector<std::string> Section::texts(std::string_view key, Default<std::vector<std::string>> fallback) {
  std::vector<std::string> values = fallback.or_zero();
  if (find(key) != nullptr) values.clear();
  for (const Node* node : elements(key, fallback.is_required(), "texts")) {
    std::string value;
    const std::string wrong = read_text(*node, value);
    if (!wrong.empty()) complain(node, "each of " + name(key) + " " + wrong);
    values.push_back(value);
  }
  std::vector<std::string> shown;
  for (const std::string& value : values) shown.push_back(yaml_text(value));
  record_list(key, shown);
  return values;
}

// --- nesting ---

Section Section::section(std::string_view key) {
  Node* node = find(key);
  Output* output = nullptr;
  for (Output& child : output_->children) {
    if (child.key == key) output = &child;
  }
  if (output == nullptr) {
    output = &output_->children.emplace_back(Output{std::string(key), {}, false, true, {}});
  }
  const std::string path = (path_.empty() ? "" : path_ + ".") + std::string(key);
  if (node != nullptr && node->kind != Kind::map && node->kind != Kind::null) {
    complain(node, name(key) + " must be a section of `key: value` lines, not " + described(*node));
    node = nullptr;
  }
  if (node != nullptr) {
    node->opened = true;
    node->path = path;
  }
  return {state_, node, output, path};
}

std::vector<Section> Section::sections(std::string_view key) {
  std::vector<Section> out;
  Node* node = find(key);
  if (node == nullptr) return out;
  if (node->kind != Kind::list || node->list.size() > kMaxListLength) {
    complain(node, name(key) + " must be a list of sections, each begun by `- `, at most " +
                       std::to_string(kMaxListLength) + " of them");
    return out;
  }
  Output& list = output_->children.emplace_back(Output{std::string(key), {}, true, true, {}});
  for (Node* element : node->list) {
    const std::string path =
        (path_.empty() ? "" : path_ + ".") + std::string(key) + "[" + std::to_string(out.size()) + "]";
    Output& output = list.children.emplace_back(Output{"", {}, false, true, {}});
    if (element->kind != Kind::map) {
      complain(element, "`" + path + "` must be a section of `key: value` lines, not " + described(*element));
      continue;
    }
    element->opened = true;
    element->path = path;
    out.push_back({state_, element, &output, path});
  }
  return out;
}

// --- the document ---

Result<Document> Document::load(const std::string& path) {
  COVEY_ASSIGN(const std::string text, read_text_file(path, std::uint64_t{1} << 20));
  return parse(text, path);
}

Result<Document> Document::parse(std::string_view text, const std::string& name) {
  auto state = std::make_shared<detail::State>();
  state->name = name;
  COVEY_TRY(detail::parse_tree(text, *state));
  state->output.is_section = true;
  return Document(std::move(state));
}

Status Document::set(std::string_view key, std::string_view value) {
  const auto wrong = [&](const std::string& what) {
    return Error{ErrorCode::invalid_argument, detail::printable(key) + "=" + detail::printable(value) + ": " + what};
  };
  const auto graft = std::make_shared<detail::State>();
  graft->name = detail::printable(key);
  if (value.find_first_of("\r\n") != std::string_view::npos) return wrong("the value must be one line");
  COVEY_TRY(detail::parse_tree("value: " + std::string(value), *graft));
  if (graft->root->map.size() != 1) return wrong("the value must be one");
  Node* at = state_->root;
  for (std::string_view left = key;;) {
    const auto dot = left.find('.');
    const std::string part(left.substr(0, dot));
    if (part.empty()) return wrong("the key has an empty part; write section.key=value");
    if (at->kind == Kind::null) at->kind = Kind::map;  // a section without a key yet
    if (at->kind != Kind::map) return wrong("`" + part + "` stands under something that is no section");
    auto entry = std::find_if(at->map.begin(), at->map.end(), [&](const auto& e) { return e.key == part; });
    if (entry == at->map.end()) {
      Node* made = &graft->nodes.emplace_back();
      made->at = at->at;
      entry = at->map.insert(at->map.end(), {part, at->at, made});
    }
    if (dot == std::string_view::npos) {
      entry->value = graft->root->map.front().value;
      break;
    }
    at = entry->value;
    left.remove_prefix(dot + 1);
  }
  state_->grafts.push_back(graft);
  return {};
}

Section Document::root() {
  state_->root->opened = true;
  return {state_, state_->root, &state_->output, ""};
}

Status Document::finish() const {
  const detail::Problem* first = nullptr;
  const auto earlier = [](const detail::Position& a, const detail::Position& b) {
    return std::tie(a.line, a.column) < std::tie(b.line, b.column);
  };
  std::vector<detail::Problem> unknown;
  const auto look = [&](const detail::State& state) {
    for (const Node& node : state.nodes) {
      if (!node.opened) continue;
      for (const Node::Entry& entry : node.map) {
        if (node.known.contains(entry.key)) continue;
        const std::string full = (node.path.empty() ? "" : node.path + ".") + printable(entry.key);
        unknown.push_back({entry.at, "unknown key `" + full + "`; " + advice(entry.key, node.known)});
      }
    }
  };
  look(*state_);
  for (const auto& graft : state_->grafts) look(*graft);
  const std::vector<detail::Problem>& list = unknown.empty() ? state_->problems : unknown;
  for (const detail::Problem& problem : list) {
    if (first == nullptr || earlier(problem.at, first->at)) first = &problem;
  }
  if (first == nullptr) return {};
  return detail::problem_error(*state_, first->at, first->message);
}

namespace {

void write_section(const Output& section, const std::string& indent, std::string& out) {
  for (const Output& child : section.children) {
    const std::string head = indent + yaml_text(child.key) + ":";
    if (!child.is_section) {
      std::string values = child.is_list ? "[" + joined(child.values) + "]" : child.values.front();
      out += head + " " + values + "\n";
    } else if (child.children.empty()) {
      out += head + (child.is_list ? " []\n" : " {}\n");
    } else if (!child.is_list) {
      out += head + "\n";
      write_section(child, indent + "  ", out);
    } else {
      out += head + "\n";
      for (const Output& element : child.children) {
        std::string block;
        write_section(element, indent + "    ", block);
        if (block.empty()) block = indent + "    {}\n";
        block.replace(indent.size() + 2, 1, "-");
        out += block;
      }
    }
  }
}

}  // namespace

std::string Document::resolved() const {
  std::string out;
  write_section(state_->output, "", out);
  return out;
}

}  // namespace covey::config

// Tokens into trees, by descent; the order of the operators is Jinja2's.
#include <algorithm>
#include <charconv>

#include "core/text/jinja_lex.h"
#include "core/text/jinja_nodes.h"

namespace covey::text::jinja {
namespace {

constexpr int kDepthMax = 100;

class Parser {
 public:
  Parser(std::string_view source, std::vector<Token> tokens) : source_(source), tokens_(std::move(tokens)) {}
  /// Statements up to a tag that begins with one of `ends`, or up to the end. The tag's name is read already then.
  Result<NodePtr> body(std::initializer_list<std::string_view> ends, std::string& ended_by);

 private:
  Result<NodePtr> statement(const std::string& name);
  Result<NodePtr> set();
  Result<NodePtr> branch();
  Result<NodePtr> loop();
  Result<NodePtr> expression();  ///< with x if y else z
  Result<NodePtr> level(int precedence);
  Result<NodePtr> comparison();
  Result<NodePtr> unary(bool with_filters);
  Result<NodePtr> primary();
  Result<NodePtr> constant(const Token& token);
  Result<NodePtr> bracketed();
  Result<NodePtr> braces();
  Result<NodePtr> postfix(NodePtr object);
  Result<NodePtr> subscript(NodePtr object);
  Result<NodePtr> filters(NodePtr object);
  Result<NodePtr> test(NodePtr object);
  Status arguments(Node& call);

  /// A node over its kids. @errors resource_exhausted: nested too deep.
  template <typename... Kids>
  Result<NodePtr> node(NodeKind kind, std::string text, Kids... kids);
  Status grow(Node& node, NodePtr kid);

  [[nodiscard]] const Token& now() const { return tokens_[at_]; }
  [[nodiscard]] bool sees(TokenKind kind, std::string_view text) const {
    return now().kind == kind && now().text == text;
  }
  bool take(TokenKind kind, std::string_view text) {
    if (!sees(kind, text)) return false;
    ++at_;
    return true;
  }
  bool take_op(std::string_view text) { return take(TokenKind::op, text); }
  bool take_name(std::string_view text) { return take(TokenKind::name, text); }
  Status expect_op(std::string_view text) {
    return take_op(text) ? Status() : broken("\"" + std::string(text) + "\" is missing");
  }
  Status expect_close() {
    if (now().kind != TokenKind::close) return broken("a tag goes on where it should end");
    ++at_;
    return {};
  }
  Result<std::string> expect_name() {
    if (now().kind != TokenKind::name) return broken("a name is missing");
    return tokens_[at_++].text;
  }
  [[nodiscard]] Error broken(const std::string& what) const { return broken_at(source_, now().at, what); }
  Status enter() {
    if (++depth_ > kDepthMax) return Error{ErrorCode::resource_exhausted, "is nested too deep"};
    return {};
  }

  std::string_view source_;
  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

Status Parser::grow(Node& node, NodePtr kid) {
  node.depth = std::max(node.depth, 1 + kid->depth);
  node.kids.push_back(std::move(kid));
  if (node.depth > 2 * kDepthMax) return Error{ErrorCode::resource_exhausted, "is nested too deep"};
  return {};
}

template <typename... Kids>
Result<NodePtr> Parser::node(NodeKind kind, std::string text, Kids... kids) {
  auto out = std::make_unique<Node>();
  out->kind = kind;
  out->text = std::move(text);
  Status status;
  ((status = status.ok() ? grow(*out, std::move(kids)) : std::move(status)), ...);
  COVEY_TRY(std::move(status));
  return out;
}

Result<NodePtr> Parser::body(std::initializer_list<std::string_view> ends, std::string& ended_by) {
  COVEY_TRY(enter());
  COVEY_ASSIGN(NodePtr out, node(NodeKind::body, {}));
  while (now().kind != TokenKind::end) {
    const Token& token = tokens_[at_++];
    if (token.kind == TokenKind::text) {
      COVEY_ASSIGN(NodePtr text, node(NodeKind::text, token.text));
      COVEY_TRY(grow(*out, std::move(text)));
    } else if (token.kind == TokenKind::open_print) {
      COVEY_ASSIGN(NodePtr value, expression());
      COVEY_TRY(expect_close());
      COVEY_ASSIGN(NodePtr print, node(NodeKind::print, {}, std::move(value)));
      COVEY_TRY(grow(*out, std::move(print)));
    } else {
      COVEY_ASSIGN(const std::string name, expect_name());
      if (std::ranges::find(ends, name) != ends.end()) {
        ended_by = name;
        --depth_;
        return out;
      }
      COVEY_ASSIGN(NodePtr next, statement(name));
      COVEY_TRY(grow(*out, std::move(next)));
    }
  }
  if (ends.size() > 0) return broken("a block does not end");
  --depth_;
  return out;
}

Result<NodePtr> Parser::statement(const std::string& name) {
  if (name == "set") return set();
  if (name == "if") return branch();
  if (name == "for") return loop();
  if (name == "break" || name == "continue") {
    COVEY_TRY(expect_close());
    return node(name == "break" ? NodeKind::stop : NodeKind::skip, {});
  }
  if (name == "generation") {  // marks answers for Hugging Face's trainer; writes nothing
    COVEY_TRY(expect_close());
    std::string ended;
    COVEY_ASSIGN(NodePtr inside, body({"endgeneration"}, ended));
    COVEY_TRY(expect_close());
    return inside;
  }
  if (name == "macro" || name == "call" || name == "filter" || name == "include" || name == "import" ||
      name == "extends" || name == "block" || name == "raw" || name == "with" || name == "from" || name == "do") {
    return Error{ErrorCode::unsupported, "uses \"" + name + "\", which is not run here; name a template"};
  }
  return broken("\"" + shown(name, 20) + "\" begins no statement here");
}

Result<NodePtr> Parser::set() {
  COVEY_ASSIGN(std::string name, expect_name());
  COVEY_ASSIGN(NodePtr target, node(NodeKind::name, std::move(name)));
  if (take_op(".")) {
    COVEY_ASSIGN(std::string attribute, expect_name());
    COVEY_ASSIGN(target, node(NodeKind::attribute, std::move(attribute), std::move(target)));
  }
  NodePtr value;
  if (take_op("=")) {
    COVEY_ASSIGN(value, expression());
    COVEY_TRY(expect_close());
  } else {
    COVEY_TRY(expect_close());
    std::string ended;
    COVEY_ASSIGN(value, body({"endset"}, ended));
    COVEY_TRY(expect_close());
  }
  return node(NodeKind::set, {}, std::move(target), std::move(value));
}

Result<NodePtr> Parser::branch() {
  COVEY_ASSIGN(NodePtr out, node(NodeKind::branch, {}));
  std::string ended = "elif";
  while (ended != "endif") {
    if (ended == "elif") {
      COVEY_ASSIGN(NodePtr condition, expression());
      COVEY_TRY(grow(*out, std::move(condition)));
    }
    COVEY_TRY(expect_close());
    const bool last = ended == "else";
    COVEY_ASSIGN(NodePtr inside, last ? body({"endif"}, ended) : body({"elif", "else", "endif"}, ended));
    COVEY_TRY(grow(*out, std::move(inside)));
  }
  COVEY_TRY(expect_close());
  return out;
}

Result<NodePtr> Parser::loop() {
  std::vector<std::string> names;
  do {
    COVEY_ASSIGN(std::string name, expect_name());
    names.push_back(std::move(name));
  } while (take_op(","));
  if (!take_name("in")) return broken("\"in\" is missing");
  COVEY_ASSIGN(NodePtr over, level(0));  // an "if" after it chooses items
  COVEY_ASSIGN(NodePtr condition, node(NodeKind::nothing, {}));
  if (take_name("if")) {
    COVEY_ASSIGN(condition, expression());
  }
  COVEY_TRY(expect_close());
  std::string ended;
  COVEY_ASSIGN(NodePtr inside, body({"else", "endfor"}, ended));
  COVEY_TRY(expect_close());
  COVEY_ASSIGN(NodePtr otherwise, node(NodeKind::nothing, {}));
  if (ended == "else") {
    COVEY_ASSIGN(otherwise, body({"endfor"}, ended));
    COVEY_TRY(expect_close());
  }
  COVEY_ASSIGN(NodePtr out, node(NodeKind::loop, {}, std::move(over), std::move(condition), std::move(inside),
                                 std::move(otherwise)));
  out->names = std::move(names);
  return out;
}

Result<NodePtr> Parser::expression() {
  COVEY_TRY(enter());
  COVEY_ASSIGN(NodePtr value, level(0));
  while (take_name("if")) {
    COVEY_ASSIGN(NodePtr condition, level(0));
    COVEY_ASSIGN(NodePtr otherwise, node(NodeKind::nothing, {}));
    if (take_name("else")) {
      COVEY_ASSIGN(otherwise, expression());
    }
    COVEY_ASSIGN(value, node(NodeKind::choice, {}, std::move(value), std::move(condition), std::move(otherwise)));
  }
  --depth_;
  return value;
}

/// 0: or, 1: and, 2: not and comparisons, 3: + -, 4: ~, 5: * / // %, 6: signs, filters and tests.
Result<NodePtr> Parser::level(int precedence) {
  if (precedence == 2) return comparison();
  if (precedence == 6) return unary(true);
  COVEY_ASSIGN(NodePtr left, level(precedence + 1));
  for (;;) {
    const std::string op = now().text;
    const bool is_op = now().kind == TokenKind::op;
    const bool is_name = now().kind == TokenKind::name;
    const bool here = precedence == 0   ? is_name && op == "or"
                      : precedence == 1 ? is_name && op == "and"
                      : precedence == 3 ? is_op && (op == "+" || op == "-")
                      : precedence == 4 ? is_op && op == "~"
                                        : is_op && (op == "*" || op == "/" || op == "//" || op == "%");
    if (!here) return left;
    ++at_;
    COVEY_ASSIGN(NodePtr right, level(precedence + 1));
    COVEY_ASSIGN(left, node(NodeKind::binary, op, std::move(left), std::move(right)));
  }
}

Result<NodePtr> Parser::comparison() {
  if (take_name("not")) {
    COVEY_TRY(enter());
    COVEY_ASSIGN(NodePtr value, comparison());
    --depth_;
    return node(NodeKind::inverse, {}, std::move(value));
  }
  COVEY_ASSIGN(NodePtr left, level(3));
  for (int count = 0;; ++count) {
    std::string op = now().text;
    const bool sign =
        now().kind == TokenKind::op && (op == "==" || op == "!=" || op == "<" || op == ">" || op == "<=" || op == ">=");
    const bool within = now().kind == TokenKind::name && (op == "in" || op == "not");
    if (!sign && !within) return left;
    if (count > 0) return Error{ErrorCode::unsupported, "compares three values at once, which is not run here"};
    ++at_;
    const bool inverse = op == "not";
    if (inverse && !take_name("in")) return broken("\"in\" is missing");
    COVEY_ASSIGN(NodePtr right, level(3));
    COVEY_ASSIGN(left, node(NodeKind::binary, inverse ? "in" : op, std::move(left), std::move(right)));
    if (inverse) {
      COVEY_ASSIGN(left, node(NodeKind::inverse, {}, std::move(left)));
    }
  }
}

Result<NodePtr> Parser::unary(bool with_filters) {
  NodePtr value;
  if (sees(TokenKind::op, "-") || sees(TokenKind::op, "+")) {
    const bool negative = tokens_[at_++].text == "-";
    COVEY_TRY(enter());
    COVEY_ASSIGN(value, unary(false));
    --depth_;
    if (negative) {
      COVEY_ASSIGN(value, node(NodeKind::negative, {}, std::move(value)));
    }
  } else {
    COVEY_ASSIGN(value, primary());
  }
  COVEY_ASSIGN(value, postfix(std::move(value)));
  return with_filters ? filters(std::move(value)) : Result<NodePtr>(std::move(value));
}

Result<NodePtr> Parser::constant(const Token& token) {
  if (token.kind == TokenKind::string) return node(NodeKind::string, token.text);
  if (token.kind == TokenKind::name) {
    const bool yes = token.text == "true" || token.text == "True";
    if (yes || token.text == "false" || token.text == "False") {
      COVEY_ASSIGN(NodePtr value, node(NodeKind::boolean, {}));
      value->integer = yes ? 1 : 0;
      return value;
    }
    return node(token.text == "none" || token.text == "None" ? NodeKind::none : NodeKind::name, token.text);
  }
  COVEY_ASSIGN(NodePtr value, node(token.kind == TokenKind::real ? NodeKind::real : NodeKind::integer, {}));
  const char* const end = token.text.data() + token.text.size();
  const auto read = token.kind == TokenKind::real ? std::from_chars(token.text.data(), end, value->real)
                                                  : std::from_chars(token.text.data(), end, value->integer);
  if (read.ec != std::errc() || read.ptr != end) return broken("a number is too large");
  return value;
}

Result<NodePtr> Parser::primary() {
  const Token& token = now();
  switch (token.kind) {
    case TokenKind::string:
    case TokenKind::name:
    case TokenKind::integer:
    case TokenKind::real:
      ++at_;
      return constant(token);
    default:
      break;
  }
  if (take_op("(")) return bracketed();
  if (take_op("[")) {
    COVEY_ASSIGN(NodePtr out, node(NodeKind::list, {}));
    while (!take_op("]")) {
      COVEY_ASSIGN(NodePtr item, expression());
      COVEY_TRY(grow(*out, std::move(item)));
      if (!sees(TokenKind::op, "]")) COVEY_TRY(expect_op(","));
    }
    return out;
  }
  if (take_op("{")) return braces();
  return broken("a value is missing");
}

/// Behind "(": one value, or a list of several.
Result<NodePtr> Parser::bracketed() {
  COVEY_ASSIGN(NodePtr first, expression());
  if (take_op(")")) return first;
  COVEY_ASSIGN(NodePtr out, node(NodeKind::list, {}, std::move(first)));
  while (!take_op(")")) {
    COVEY_TRY(expect_op(","));
    if (take_op(")")) break;
    COVEY_ASSIGN(NodePtr item, expression());
    COVEY_TRY(grow(*out, std::move(item)));
  }
  return out;
}

Result<NodePtr> Parser::braces() {
  COVEY_ASSIGN(NodePtr out, node(NodeKind::map, {}));
  while (!take_op("}")) {
    COVEY_ASSIGN(NodePtr key, expression());
    COVEY_TRY(expect_op(":"));
    COVEY_ASSIGN(NodePtr value, expression());
    COVEY_TRY(grow(*out, std::move(key)));
    COVEY_TRY(grow(*out, std::move(value)));
    if (!sees(TokenKind::op, "}")) COVEY_TRY(expect_op(","));
  }
  return out;
}

Result<NodePtr> Parser::postfix(NodePtr object) {
  for (;;) {
    if (take_op(".")) {
      COVEY_ASSIGN(std::string name, expect_name());
      COVEY_ASSIGN(object, node(NodeKind::attribute, std::move(name), std::move(object)));
    } else if (take_op("[")) {
      COVEY_ASSIGN(object, subscript(std::move(object)));
    } else if (sees(TokenKind::op, "(")) {
      COVEY_ASSIGN(object, node(NodeKind::call, {}, std::move(object)));
      COVEY_TRY(arguments(*object));
    } else {
      return object;
    }
  }
}

/// Behind "[".
Result<NodePtr> Parser::subscript(NodePtr object) {
  NodePtr bounds[3];
  int colons = 0;
  for (NodePtr& bound : bounds) {
    COVEY_ASSIGN(bound, node(NodeKind::nothing, {}));
    if (!sees(TokenKind::op, ":") && !sees(TokenKind::op, "]")) {
      COVEY_ASSIGN(bound, expression());
    }
    if (!take_op(":")) break;
    ++colons;
  }
  COVEY_TRY(expect_op("]"));
  if (colons > 0) {
    return node(NodeKind::slice, {}, std::move(object), std::move(bounds[0]),
                bounds[1] ? std::move(bounds[1]) : std::make_unique<Node>(),
                bounds[2] ? std::move(bounds[2]) : std::make_unique<Node>());
  }
  if (bounds[0]->kind == NodeKind::nothing) return broken("an index is missing");
  return node(NodeKind::item, {}, std::move(object), std::move(bounds[0]));
}

/// "(" and what stands up to its ")", onto the kids of a call, filter or test.
Status Parser::arguments(Node& call) {
  COVEY_TRY(expect_op("("));
  while (!take_op(")")) {
    NodePtr argument;
    const bool named = now().kind == TokenKind::name && at_ + 1 < tokens_.size() &&
                       tokens_[at_ + 1].kind == TokenKind::op && tokens_[at_ + 1].text == "=";
    if (named) {
      std::string name = now().text;
      at_ += 2;
      COVEY_ASSIGN(NodePtr value, expression());
      COVEY_ASSIGN(argument, node(NodeKind::keyword, std::move(name), std::move(value)));
    } else {
      COVEY_ASSIGN(argument, expression());
    }
    COVEY_TRY(grow(call, std::move(argument)));
    if (!sees(TokenKind::op, ")")) COVEY_TRY(expect_op(","));
  }
  return {};
}

Result<NodePtr> Parser::filters(NodePtr object) {
  for (;;) {
    if (take_op("|")) {
      COVEY_ASSIGN(std::string name, expect_name());
      COVEY_ASSIGN(object, node(NodeKind::filter, std::move(name), std::move(object)));
      if (sees(TokenKind::op, "(")) COVEY_TRY(arguments(*object));
    } else if (take_name("is")) {
      COVEY_ASSIGN(object, test(std::move(object)));
    } else {
      return object;
    }
  }
}

Result<NodePtr> Parser::test(NodePtr object) {
  const bool inverse = take_name("not");
  COVEY_ASSIGN(std::string name, expect_name());
  COVEY_ASSIGN(NodePtr out, node(NodeKind::test, name, std::move(object)));
  if (sees(TokenKind::op, "(")) {
    COVEY_TRY(arguments(*out));
  } else if (name == "equalto" || name == "eq" || name == "ne" || name == "in") {
    COVEY_ASSIGN(NodePtr other, primary());
    COVEY_TRY(grow(*out, std::move(other)));
  }
  return inverse ? node(NodeKind::inverse, {}, std::move(out)) : Result<NodePtr>(std::move(out));
}

}  // namespace

Result<NodePtr> parse(std::string_view source) {
  COVEY_ASSIGN(auto tokens, lex(source));
  std::string ended;
  return Parser(source, std::move(tokens)).body({}, ended);
}

}  // namespace covey::text::jinja

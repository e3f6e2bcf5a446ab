#include "core/text/jinja_lex.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/text/unicode.h"

namespace covey::text::jinja {
namespace {

bool is_blank_byte(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_name_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || is_digit(c);
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {}
  Result<std::vector<Token>> run();

 private:
  void add_text(std::size_t begin, std::size_t end);
  Status tag();
  Status comment();
  Status token();
  Status literal();
  void number();
  bool closes(std::string_view mark);
  void add(TokenKind kind, std::string text, std::size_t at) { tokens_.push_back({kind, std::move(text), at}); }
  [[nodiscard]] Error broken(const std::string& what) const { return broken_at(source_, at_, what); }

  std::string_view source_;
  std::size_t at_ = 0;
  bool strips_ = false;      ///< the last tag ended with "-"
  bool cuts_line_ = false;   ///< it takes the line feed after it along
  bool starts_line_ = true;  ///< nothing but line feeds that were cut stands before
  std::vector<Token> tokens_;
};

/// The text [begin, end) between the last tag and the one that opens at `end`.
void Lexer::add_text(std::size_t begin, std::size_t end) {
  std::string_view text = source_.substr(begin, end - begin);
  if (strips_) {
    while (!text.empty() && is_blank_byte(text.front())) text.remove_prefix(1);
  } else if (cuts_line_ && text.starts_with('\n')) {
    text.remove_prefix(1);
    starts_line_ = true;
  }
  const std::string_view mark = end < source_.size() ? source_.substr(end + 1, 2) : std::string_view();
  if (mark.ends_with('-') && mark.size() == 2) {
    while (!text.empty() && is_blank_byte(text.back())) text.remove_suffix(1);
  } else if (!mark.empty() && mark[0] != '{' && !mark.ends_with('+')) {
    const std::size_t line = text.rfind('\n');
    const std::size_t start = line == std::string_view::npos ? 0 : line + 1;
    const bool blank = text.find_first_not_of(" \t", start) == std::string_view::npos;
    if (blank && (start > 0 || starts_line_)) text = text.substr(0, start);
  }
  if (!text.empty()) add(TokenKind::text, std::string(text), begin);
  starts_line_ = false;
}

/// Moves behind "-%}", "+%}" or "%}" where one stands here.
bool Lexer::closes(std::string_view mark) {
  const std::string_view rest = source_.substr(at_);
  const bool sign = !rest.empty() && (rest[0] == '-' || rest[0] == '+');
  if (rest.substr(sign ? 1 : 0, 2) != mark) return false;
  strips_ = rest[0] == '-';
  cuts_line_ = mark != "}}" && rest[0] != '+';
  at_ += sign ? 3 : 2;
  return true;
}

Status Lexer::comment() {
  const std::size_t opened = at_;
  for (at_ += 2; at_ < source_.size(); ++at_) {
    if (closes("#}")) return {};
  }
  return broken_at(source_, opened, "a comment does not end");
}

Status Lexer::literal() {
  const std::size_t opened = at_;
  const char quote = source_[at_++];
  std::string value;
  while (at_ < source_.size() && source_[at_] != quote) {
    if (source_[at_] != '\\') {
      value += source_[at_++];
      continue;
    }
    const char c = at_ + 1 < source_.size() ? source_[at_ + 1] : '\\';
    at_ += 2;
    constexpr std::string_view kFrom = "ntr\\'\"0bfv", kTo("\n\t\r\\'\"\0\b\f\v", 10);
    const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 0;
    std::uint32_t code = 0;
    if (c == '\n') continue;  // the line goes on
    if (const std::size_t known = kFrom.find(c); known != std::string_view::npos) {
      value += kTo[known];
    } else if (digits > 0 && at_ + digits <= source_.size() &&
               std::from_chars(source_.data() + at_, source_.data() + at_ + digits, code, 16).ptr ==
                   source_.data() + at_ + digits) {
      if (code >= 0xD800 && code < 0xE000) return broken("half a surrogate pair in a string");
      value += to_utf8(code);
      at_ += digits;
    } else {
      value += '\\';
      value += c;
    }
  }
  if (at_ >= source_.size()) return broken_at(source_, opened, "a string does not end");
  ++at_;
  add(TokenKind::string, std::move(value), opened);
  return {};
}

void Lexer::number() {
  const std::size_t begin = at_;
  while (at_ < source_.size() && is_digit(source_[at_])) ++at_;
  const bool real = at_ + 1 < source_.size() && source_[at_] == '.' && is_digit(source_[at_ + 1]);
  if (real) ++at_;
  while (real && at_ < source_.size() && is_digit(source_[at_])) ++at_;
  add(real ? TokenKind::real : TokenKind::integer, std::string(source_.substr(begin, at_ - begin)), begin);
}

Status Lexer::token() {
  constexpr std::array<std::string_view, 27> kOperators = {"==", "!=", "<=", ">=", "//", "**", "+", "-", "*",
                                                           "/",  "%",  "~",  "<",  ">",  "=",  "(", ")", "[",
                                                           "]",  "{",  "}",  ",",  ":",  ".",  "|", ";", "!"};
  const char c = source_[at_];
  if (c == '\'' || c == '"') return literal();
  if (is_digit(c)) {
    number();
    return {};
  }
  if (is_name_byte(c)) {
    const std::size_t begin = at_;
    while (at_ < source_.size() && is_name_byte(source_[at_])) ++at_;
    add(TokenKind::name, std::string(source_.substr(begin, at_ - begin)), begin);
    return {};
  }
  for (const std::string_view op : kOperators) {
    if (!source_.substr(at_).starts_with(op)) continue;
    add(TokenKind::op, std::string(op), at_);
    at_ += op.size();
    return {};
  }
  return broken("a character that no expression has");
}

Status Lexer::tag() {
  const std::size_t opened = at_;
  const bool print = source_[at_ + 1] == '{';
  add(print ? TokenKind::open_print : TokenKind::open_block, {}, at_);
  at_ += 2;
  if (at_ < source_.size() && (source_[at_] == '-' || source_[at_] == '+')) ++at_;
  int braces = 0;  // a map's end is no tag's
  while (at_ < source_.size()) {
    if (is_blank_byte(source_[at_])) {
      ++at_;
      continue;
    }
    const std::size_t here = at_;
    if (braces == 0 && closes(print ? "}}" : "%}")) {
      add(TokenKind::close, {}, here);
      return {};
    }
    braces += source_[at_] == '{' ? 1 : source_[at_] == '}' ? -1 : 0;
    COVEY_TRY(token());
  }
  return broken_at(source_, opened, "a tag does not end");
}

Result<std::vector<Token>> Lexer::run() {
  if (source_.ends_with('\n')) source_.remove_suffix(1);
  while (at_ < source_.size()) {
    std::size_t open = at_;
    const auto opens = [&] {
      return source_[open] == '{' && open + 1 < source_.size() &&
             (source_[open + 1] == '{' || source_[open + 1] == '%' || source_[open + 1] == '#');
    };
    while (open < source_.size() && !opens()) ++open;
    add_text(at_, open);
    at_ = open;
    if (open >= source_.size()) break;
    COVEY_TRY(source_[open + 1] == '#' ? comment() : tag());
  }
  add(TokenKind::end, {}, source_.size());
  return std::move(tokens_);
}

}  // namespace

Error broken_at(std::string_view source, std::size_t at, const std::string& what) {
  const auto end = source.begin() + static_cast<std::ptrdiff_t>(std::min(at, source.size()));
  return {ErrorCode::corrupt_data, "line " + std::to_string(1 + std::count(source.begin(), end, '\n')) + ": " + what};
}

Result<std::vector<Token>> lex(std::string_view source) {
  return Lexer(source).run();
}

}  // namespace covey::text::jinja

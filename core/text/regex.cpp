#include "core/text/regex.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <unordered_set>

#include "core/text/unicode.h"

namespace covey::text {
namespace {

constexpr std::size_t kPatternBytesMax = 4096;
constexpr std::size_t kMatchStepsMax = 8192;
constexpr int kDepthMax = 16;
constexpr unsigned kRepeatMax = 256;
constexpr unsigned kEndless = ~0U;
constexpr std::uint32_t kInvalidBase = 0x110000;  // invalid byte b counts as code kInvalidBase + b
constexpr std::size_t kStepsBeforeMemory = 4096;

std::uint32_t code_of(const Character& c) {
  return c.valid ? c.code : kInvalidBase + c.code;
}

constexpr std::pair<std::uint32_t, std::uint32_t> kSpaces[] = {
    {0x09, 0x0D},     {0x20, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};

}  // namespace

bool Regex::Class::holds(std::uint32_t code) const {
  if (code < 128) return ascii[code];
  const auto plain = [&](std::uint32_t c) {
    if ((category_bit(c) & categories) != 0) return true;
    return std::ranges::any_of(ranges, [&](const auto& range) { return c >= range.first && c <= range.second; });
  };
  bool found = plain(code);
  if (!found && any_case) {
    const std::uint32_t folded = fold_case(code);
    found = plain(folded) || (folded < 128 && folded >= 'a' && folded <= 'z' && plain(folded - ('a' - 'A')));
  }
  return found != negated;
}

void Regex::Class::fill_ascii() {
  for (std::uint32_t c = 0; c < 128; ++c) {
    const auto plain = [&](std::uint32_t code) {
      if ((category_bit(code) & categories) != 0) return true;
      return std::ranges::any_of(ranges,
                                 [&](const auto& range) { return code >= range.first && code <= range.second; });
    };
    bool found = plain(c);
    if (!found && any_case && c >= 'a' && c <= 'z') found = plain(c - ('a' - 'A'));
    if (!found && any_case && c >= 'A' && c <= 'Z') found = plain(c + ('a' - 'A'));
    ascii[c] = found != negated;
  }
}

/// Recursive descent; the depth of groups is bounded.
class RegexCompiler {
 public:
  explicit RegexCompiler(std::string_view pattern) : pattern_(pattern) {}

  Result<Regex> run() {
    if (pattern_.size() > kPatternBytesMax) return refuse("is longer than 4096 bytes");
    if (take("(?i)")) any_case_ = true;
    COVEY_TRY(alternatives(0));
    if (!done()) return refuse("an unmatched ')'");
    add(Regex::Op::done);
    if (out_.steps_.size() > kMatchStepsMax) return refuse("is too long when its repetitions are written out");
    for (auto& item : out_.classes_) item.fill_ascii();
    return std::move(out_);
  }

 private:
  using Op = Regex::Op;
  using Class = Regex::Class;

  [[nodiscard]] bool done() const { return at_ >= pattern_.size(); }
  [[nodiscard]] char peek() const { return pattern_[at_]; }
  bool take(std::string_view text) {
    if (!pattern_.substr(at_).starts_with(text)) return false;
    at_ += text.size();
    return true;
  }
  [[nodiscard]] Error refuse(const std::string& what) const {
    return {ErrorCode::unsupported, "expression: " + what + " (at byte " + std::to_string(at_) + ") is not supported"};
  }
  std::uint32_t add(Op op, std::size_t x = 0, std::size_t y = 0) {
    out_.steps_.push_back({op, static_cast<std::uint32_t>(x), static_cast<std::uint32_t>(y)});
    return static_cast<std::uint32_t>(out_.steps_.size() - 1);
  }
  [[nodiscard]] std::uint32_t here() const { return static_cast<std::uint32_t>(out_.steps_.size()); }

  Status alternatives(int depth) {
    if (depth > kDepthMax) return refuse("groups nested deeper than 16");
    std::vector<std::uint32_t> ends;
    while (true) {
      const std::uint32_t fork = add(Op::split, here() + 1);
      COVEY_TRY(sequence(depth));
      if (!take("|")) {
        out_.steps_[fork] = {Op::jump, fork + 1, 0};
        break;
      }
      ends.push_back(add(Op::jump));
      out_.steps_[fork].y = here();
    }
    for (const auto end : ends) out_.steps_[end].x = here();
    return {};
  }

  Status sequence(int depth) {
    while (!done() && peek() != '|' && peek() != ')') {
      const std::size_t begin = here();
      COVEY_TRY(item(depth));
      COVEY_TRY(quantifier(begin));
      if (out_.steps_.size() > kMatchStepsMax) return refuse("is too long when its repetitions are written out");
    }
    return {};
  }

  Status item(int depth) {
    if (take("(?=")) return look(Op::look, depth);
    if (take("(?!")) return look(Op::look_not, depth);
    if (peek() == '(') {
      const bool outer_case = any_case_;
      if (take("(?i:")) {
        any_case_ = true;
      } else if (take("(?>")) {
        return look(Op::atomic, depth);
      } else if (!take("(?:")) {
        ++at_;
        if (!done() && peek() == '?') return refuse("this kind of group");
      }
      COVEY_TRY(alternatives(depth + 1));
      any_case_ = outer_case;
      if (!take(")")) return refuse("an unclosed group");
      return {};
    }
    Class found;
    if (take("[")) {
      COVEY_TRY(bracket(found));
    } else {
      COVEY_TRY(single(found));
    }
    add_class(std::move(found));
    return {};
  }

  Status look(Op op, int depth) {
    const std::uint32_t opened = add(op);
    COVEY_TRY(alternatives(depth + 1));
    if (!take(")")) return refuse("an unclosed group");
    add(Op::done);
    out_.steps_[opened].x = here();
    return {};
  }

  void add_class(Class found) {
    found.any_case = any_case_;
    out_.classes_.push_back(std::move(found));
    add(Op::one, out_.classes_.size() - 1);
  }

  Result<std::uint32_t> character() {
    const Character c = character_at(pattern_, at_);
    if (!c.valid) return refuse("invalid UTF-8");
    at_ += c.length;
    return c.code;
  }

  /// One character or class outside brackets.
  Status single(Class& found) {
    if (take(".")) {
      found.ranges.emplace_back('\n', '\n');
      found.negated = true;
      return {};
    }
    if (peek() == '\\') return escape(found);
    if (std::string_view("*+?{^$").find(peek()) != std::string_view::npos) {
      return refuse(std::string("'") + peek() + "'");
    }
    COVEY_ASSIGN(const auto code, character());
    found.ranges.emplace_back(code, code);
    return {};
  }

  Status escape(Class& into) {
    ++at_;
    if (done()) return refuse("a '\\' at the end");
    const char c = peek();
    ++at_;
    const auto space_gaps = [&] {
      std::uint32_t next = 0;
      for (const auto& [low, high] : kSpaces) {
        if (low > next) into.ranges.emplace_back(next, low - 1);
        next = high + 1;
      }
      into.ranges.emplace_back(next, kInvalidBase + 255);
    };
    const std::uint32_t word =
        category_mask("L") | category_mask("M") | category_mask("Nd") | category_mask("Nl") | category_mask("Pc");
    switch (c) {
      case 's':
        into.ranges.insert(into.ranges.end(), std::begin(kSpaces), std::end(kSpaces));
        return {};
      case 'S':
        space_gaps();
        return {};
      case 'd':
        into.categories |= category_mask("Nd");
        return {};
      case 'D':
        into.categories |= ~category_mask("Nd");
        return {};
      case 'w':
        into.categories |= word;
        return {};
      case 'W':
        into.categories |= ~word;
        return {};
      case 'p':
      case 'P':
        return property(c == 'P', into);
      default:
        break;
    }
    --at_;
    COVEY_ASSIGN(const auto code, escaped_character());
    into.ranges.emplace_back(code, code);
    return {};
  }

  Status property(bool negated, Class& into) {
    if (!take("{")) return refuse("\\p without {");
    const std::size_t end = pattern_.find('}', at_);
    if (end == std::string_view::npos) return refuse("\\p{ without }");
    std::string_view name = pattern_.substr(at_, end - at_);
    if (name.starts_with('^')) {
      negated = !negated;
      name.remove_prefix(1);
    }
    const std::uint32_t mask = category_mask(name);
    if (mask == 0) return refuse("\\p{" + std::string(name.substr(0, 24)) + "}");
    at_ = end + 1;
    into.categories |= negated ? ~mask : mask;
    return {};
  }

  /// After the backslash.
  Result<std::uint32_t> escaped_character() {
    const char c = peek();
    const auto hex = [&](std::size_t from, std::size_t digits) -> std::optional<std::uint32_t> {
      std::uint32_t code = 0;
      const char* begin = pattern_.data() + from;
      if (from + digits > pattern_.size()) return std::nullopt;
      const auto [end, error] = std::from_chars(begin, begin + digits, code, 16);
      if (error != std::errc() || end != begin + digits || code >= 0x110000) return std::nullopt;
      return code;
    };
    static constexpr std::string_view kLetters = "rntfv";
    static constexpr std::string_view kControls = "\r\n\t\f\v";
    if (const auto i = kLetters.find(c); i != std::string_view::npos) {
      ++at_;
      return static_cast<std::uint32_t>(kControls[i]);
    }
    if (c == 'u' || c == 'x') {
      const bool braces = at_ + 1 < pattern_.size() && pattern_[at_ + 1] == '{';
      const std::size_t close = braces ? pattern_.find('}', at_) : 0;
      const std::size_t digits = braces ? (close == std::string_view::npos ? 0 : close - at_ - 2) : c == 'u' ? 4 : 2;
      const auto code = hex(at_ + (braces ? 2 : 1), digits);
      if (!code || digits == 0) return refuse("this escape");
      at_ += digits + (braces ? 3 : 1);
      return *code;
    }
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
      return refuse(std::string("\\") + c);
    }
    return character();
  }

  /// After '['.
  Status bracket(Class& found) {
    found.negated = take("^");
    for (bool first = true;; first = false) {
      if (done()) return refuse("an unclosed '['");
      if (!first && take("]")) return {};
      if (peek() == '[' || pattern_.substr(at_).starts_with("&&")) return refuse("a class inside a class");
      std::uint32_t low = 0;
      if (peek() == '\\' && at_ + 1 < pattern_.size() &&
          std::string_view("sSdDwWpP").find(pattern_[at_ + 1]) != std::string_view::npos) {
        COVEY_TRY(escape(found));
        continue;
      }
      COVEY_ASSIGN(low, bracket_character());
      std::uint32_t high = low;
      if (at_ + 1 < pattern_.size() && peek() == '-' && pattern_[at_ + 1] != ']') {
        ++at_;
        COVEY_ASSIGN(high, bracket_character());
        if (high < low) return refuse("a range that runs backwards");
      }
      found.ranges.emplace_back(low, high);
    }
  }

  Result<std::uint32_t> bracket_character() {
    if (peek() != '\\') return character();
    ++at_;
    if (done()) return refuse("a '\\' at the end");
    return escaped_character();
  }

  struct Count {
    unsigned min, max;
  };
  Result<std::optional<Count>> count() {
    if (take("?")) return std::optional(Count{0, 1});
    if (take("*")) return std::optional(Count{0, kEndless});
    if (take("+")) return std::optional(Count{1, kEndless});
    if (!take("{")) return std::optional<Count>();
    const auto number = [&](unsigned& value) {
      const char* begin = pattern_.data() + at_;
      const auto [end, error] = std::from_chars(begin, pattern_.data() + pattern_.size(), value);
      at_ += static_cast<std::size_t>(end - begin);
      return error == std::errc() && value <= kRepeatMax;
    };
    Count range{0, 0};
    const bool no_minimum = !done() && peek() == ',';
    if (!no_minimum && !number(range.min)) return refuse("this repetition");
    range.max = range.min;
    if (take(",")) {
      range.max = kEndless;
      if (!done() && peek() != '}' && !number(range.max)) return refuse("this repetition");
    }
    if (!take("}") || range.max < range.min || (no_minimum && range.max == kEndless)) return refuse("this repetition");
    return std::optional(range);
  }

  /// Applies what follows to the steps from `begin` on.
  Status quantifier(std::size_t begin) {
    COVEY_ASSIGN(const auto found, count());
    if (!found) return {};
    const bool lazy = take("?");
    const bool possessive = !lazy && take("+");
    if (!done() && std::string_view("?*+{").find(peek()) != std::string_view::npos) {
      return refuse("a repetition of a repetition");
    }
    const std::vector<Regex::Step> body(out_.steps_.begin() + static_cast<std::ptrdiff_t>(begin), out_.steps_.end());
    const std::size_t copies = found->max == kEndless ? found->min + 1 : found->max;
    if (body.size() * std::max<std::size_t>(copies, 1) > kMatchStepsMax) return refuse("a repetition of this size");
    out_.steps_.resize(begin);
    const std::uint32_t opened = possessive ? add(Op::atomic) : 0;
    const auto put = [&] {
      const auto shift = here() - static_cast<std::uint32_t>(begin);
      for (Regex::Step step : body) {
        if (step.op != Op::one && step.op != Op::done) {
          step.x += shift;
          if (step.op == Op::split) step.y += shift;
        }
        out_.steps_.push_back(step);
      }
    };
    const auto fork = [&](std::uint32_t step, std::uint32_t into, std::uint32_t past) {
      out_.steps_[step] = lazy ? Regex::Step{Op::split, past, into} : Regex::Step{Op::split, into, past};
    };
    for (unsigned i = 0; i < found->min; ++i) put();
    if (found->max == kEndless) {
      const auto loop = add(Op::split);
      put();
      add(Op::jump, loop);
      fork(loop, loop + 1, here());
    } else {
      std::vector<std::uint32_t> forks;
      for (unsigned i = found->min; i < found->max; ++i) {
        forks.push_back(add(Op::split));
        put();
      }
      for (const auto step : forks) fork(step, step + 1, here());
    }
    if (possessive) {
      add(Op::done);
      out_.steps_[opened].x = here();
    }
    return {};
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  bool any_case_ = false;
  Regex out_;
};

/// One attempt to match.
class RegexRun {
 public:
  RegexRun(const Regex& regex, std::string_view text) : regex_(regex), text_(text) {}

  std::size_t run(std::uint32_t step, std::size_t at) {  // NOLINT(misc-no-recursion): as deep as lookaheads nest
    struct Choice {
      std::uint32_t step;
      std::size_t at;
    };
    std::vector<Choice> untried;
    std::unordered_set<std::uint64_t> seen;
    std::size_t taken = 0;
    while (true) {
      bool failed = false;
      const Regex::Step now = regex_.steps_[step];
      switch (now.op) {
        case Regex::Op::done:
          return at;
        case Regex::Op::one: {
          if (at >= text_.size()) {
            failed = true;
            break;
          }
          const auto byte = static_cast<unsigned char>(text_[at]);
          const Regex::Class& wanted = regex_.classes_[now.x];
          if (byte < 128) {
            failed = !wanted.ascii[byte];
            ++at;
          } else {
            const Character c = character_at(text_, at);
            failed = !wanted.holds(code_of(c));
            at += c.length;
          }
          ++step;
          break;
        }
        case Regex::Op::split:
          if (++taken > kStepsBeforeMemory && !seen.insert(static_cast<std::uint64_t>(at) << 16 | step).second) {
            failed = true;
            break;
          }
          untried.push_back({now.y, at});
          step = now.x;
          break;
        case Regex::Op::jump:
          step = now.x;
          break;
        case Regex::Op::look:
        case Regex::Op::look_not:
          failed = (run(step + 1, at) != Regex::kNone) != (now.op == Regex::Op::look);
          step = now.x;
          break;
        case Regex::Op::atomic: {
          const std::size_t end = run(step + 1, at);
          failed = end == Regex::kNone;
          at = end;
          step = now.x;
          break;
        }
      }
      if (!failed) continue;
      if (untried.empty()) return Regex::kNone;
      step = untried.back().step;
      at = untried.back().at;
      untried.pop_back();
    }
  }

 private:
  const Regex& regex_;
  std::string_view text_;
};

Result<Regex> Regex::compile(std::string_view pattern) {
  return RegexCompiler(pattern).run();
}

std::size_t Regex::match(std::string_view text, std::size_t at) const {
  return RegexRun(*this, text).run(0, at);
}

}  // namespace covey::text

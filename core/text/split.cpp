#include "core/text/split.h"

#include "core/text/unicode.h"

namespace covey::text {
namespace {

const std::array<CharClass, 128>& ascii_kinds() {
  static const std::array<CharClass, 128> kKinds = [] {
    std::array<CharClass, 128> kinds{};
    for (std::size_t c = 0; c < kinds.size(); ++c) {
      const char text = static_cast<char>(c);
      kinds[c] = character_at({&text, 1}, 0).kind;
    }
    return kinds;
  }();
  return kKinds;
}

/// Reads characters of one text; all matchers below return the end of their match, or `at` where there is none.
class Matcher {
 public:
  explicit Matcher(std::string_view text) : text_(text) {}

  [[nodiscard]] bool done(std::size_t at) const { return at >= text_.size(); }
  [[nodiscard]] bool is(std::size_t at, CharClass kind) const { return !done(at) && kind_at(at) == kind; }
  [[nodiscard]] CharClass kind_at(std::size_t at) const {
    const auto byte = static_cast<unsigned char>(text_[at]);
    return byte < 0x80 ? ascii_kinds()[byte] : character_at(text_, at).kind;
  }
  [[nodiscard]] bool is_byte(std::size_t at, char c) const { return !done(at) && text_[at] == c; }
  [[nodiscard]] bool is_newline(std::size_t at) const { return is_byte(at, '\n') || is_byte(at, '\r'); }

  [[nodiscard]] std::size_t run(std::size_t at, CharClass kind, int max = -1) const {
    const auto& ascii = ascii_kinds();
    while (!done(at) && max != 0) {
      const auto byte = static_cast<unsigned char>(text_[at]);
      if (byte < 0x80) {
        if (ascii[byte] != kind) break;
        ++at;
        if (max > 0) --max;
        continue;
      }
      const Character c = character_at(text_, at);
      if (c.kind != kind) break;
      at += c.length;
      if (max > 0) --max;
    }
    return at;
  }

  [[nodiscard]] std::size_t contraction(std::size_t at, bool any_case) const {
    if (!is_byte(at, '\'')) return at;
    const auto letter = [&](std::size_t i) {
      const char c = done(i) ? '\0' : text_[i];
      return any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
    };
    if (any_case && text_.substr(at + 1, 2) == "\xC5\xBF") return at + 3;  // U+017F is an s in another case
    const char a = letter(at + 1);
    const char b = letter(at + 2);
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return at + 3;
    return at;
  }

  /// " ?X+" for a class X.
  [[nodiscard]] std::size_t spaced_run(std::size_t at, CharClass kind) const {
    const std::size_t start = is_byte(at, ' ') ? at + 1 : at;
    const std::size_t end = run(start, kind);
    return end > start ? end : at;
  }

  /// "\s+(?!\S)|\s+": a run of spaces leaves its last one to the word that follows, if it has two or more.
  [[nodiscard]] std::size_t spaces(std::size_t at) const {
    std::size_t last = at;
    std::size_t end = at;
    while (is(end, CharClass::space)) {
      last = end;
      end += character_at(text_, end).length;
    }
    return done(end) || last == at ? end : last;
  }

 private:
  std::string_view text_;
};

std::size_t match_gpt2(const Matcher& m, std::size_t at) {
  if (const auto end = m.contraction(at, false); end > at) return end;
  const std::size_t start = m.is_byte(at, ' ') ? at + 1 : at;
  if (m.done(start)) return start;
  const CharClass kind = m.kind_at(start);
  return kind == CharClass::space ? m.spaces(at) : m.run(start, kind);
}

std::size_t match_llama3(const Matcher& m, std::string_view text, std::size_t at, int digits_max) {
  if (const auto end = m.contraction(at, true); end > at) return end;
  const Character first = character_at(text, at);
  const bool may_lead = first.kind != CharClass::letter && first.kind != CharClass::number && !m.is_newline(at);
  const std::size_t word = may_lead ? at + first.length : at;
  if (const auto end = m.run(word, CharClass::letter); end > word) return end;
  if (const auto end = m.run(at, CharClass::number, digits_max); end > at) return end;
  if (auto end = m.spaced_run(at, CharClass::other); end > at) {
    while (m.is_newline(end)) ++end;
    return end;
  }
  const std::size_t run = m.run(at, CharClass::space);
  for (std::size_t end = run; end > at; --end) {  // \s*[\r\n]+ ends after the run's last line break
    if (m.is_newline(end - 1)) return end;
  }
  return m.spaces(at);
}

template <typename Match>
void split(std::string_view text, Pieces& out, Match match) {
  const Matcher matcher(text);
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = match(matcher, at);
    out.push_back(text.substr(at, end - at));
    at = end;
  }
}

}  // namespace

void split_gpt2(std::string_view text, Pieces& out) {
  split(text, out, match_gpt2);
}

void split_llama3(std::string_view text, int digits_max, Pieces& out) {
  split(text, out, [&](const Matcher& m, std::size_t at) { return match_llama3(m, text, at, digits_max); });
}

void split_digits(std::string_view text, bool individual, Pieces& out) {
  split(text, out, [&](const Matcher& m, std::size_t at) {
    if (const auto end = m.run(at, CharClass::number, individual ? 1 : -1); end > at) return end;
    std::size_t end = at;
    while (!m.done(end) && !m.is(end, CharClass::number)) end += character_at(text, end).length;
    return end;
  });
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size());
  std::size_t start = 0;
  for (std::size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, start)) {
    out.append(text.substr(start, at - start)).append(to);
    start = at + from.size();
  }
  return out.append(text.substr(start));
}

}  // namespace covey::text

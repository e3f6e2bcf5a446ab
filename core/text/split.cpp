#include "core/text/split.h"

#include "core/text/unicode.h"

namespace covey::text {
namespace {

/// Reads characters of one text; all matchers below return the end of their match, or `at` where there is none.
class Matcher {
 public:
  explicit Matcher(std::string_view text) : text_(text) {}

  [[nodiscard]] bool done(std::size_t at) const { return at >= text_.size(); }
  [[nodiscard]] bool is(std::size_t at, CharClass kind) const {
    return !done(at) && character_at(text_, at).kind == kind;
  }
  [[nodiscard]] bool is_byte(std::size_t at, char c) const { return !done(at) && text_[at] == c; }
  [[nodiscard]] bool is_newline(std::size_t at) const { return is_byte(at, '\n') || is_byte(at, '\r'); }

  [[nodiscard]] std::size_t run(std::size_t at, CharClass kind, int max = -1) const {
    while (!done(at) && max != 0) {
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
  for (const CharClass kind : {CharClass::letter, CharClass::number, CharClass::other}) {
    if (const auto end = m.spaced_run(at, kind); end > at) return end;
  }
  return m.spaces(at);
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

bool is_plain_byte(std::uint32_t b) {
  return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
}

struct Alphabet {
  std::array<std::string, 256> text;
  std::array<std::int16_t, 512> byte;
  Alphabet() {
    byte.fill(-1);
    std::uint32_t next = 256;
    for (std::uint32_t b = 0; b < 256; ++b) {
      const std::uint32_t code = is_plain_byte(b) ? b : next++;
      text[b] = to_utf8(code);
      byte[code] = static_cast<std::int16_t>(b);
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet kAlphabet;
  return kAlphabet;
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

const std::array<std::string, 256>& byte_alphabet() {
  return alphabet().text;
}

std::optional<std::uint8_t> byte_of(std::uint32_t code) {
  if (code >= 512 || alphabet().byte[code] < 0) return std::nullopt;
  return static_cast<std::uint8_t>(alphabet().byte[code]);
}

}  // namespace covey::text

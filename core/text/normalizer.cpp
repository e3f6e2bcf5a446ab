#include "core/text/normalizer.h"

#include <algorithm>
#include <cstring>

#include "core/text/split.h"
#include "core/text/unicode.h"

namespace covey::text {
namespace {

using Spec = formats::TokenizerSpec;

// A stranger's file must not turn a short text into gigabytes.
constexpr double kGrowthMax = 4096;
constexpr std::size_t kStepsMax = 64;
constexpr std::size_t kMappedBytesMax = 128;  // the longest in Unicode's compatibility mappings is 33

bool is_chinese(std::uint32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

std::string bert(const Spec::Normalizer& step, std::string_view text) {
  const std::uint32_t control = category_mask("Cc") | category_mask("Cf") | category_mask("Co");
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    const std::string_view bytes = text.substr(i, c.length);
    i += c.length;
    const bool space = c.kind == CharClass::space;
    if (step.clean_text && c.valid && !space &&
        (c.code == 0 || c.code == 0xFFFD || (category_bit(c.code) & control) != 0)) {
      continue;
    }
    // White space that is a control character goes too, but for tab and line ends.
    if (step.clean_text && space && c.code < 0x100 && c.code != '\t' && c.code != '\n' && c.code != '\r' &&
        (category_bit(c.code) & control) != 0) {
      continue;
    }
    if (step.clean_text && space) {
      out += ' ';
    } else if (step.chinese && c.valid && is_chinese(c.code)) {
      out.append(" ").append(bytes).append(" ");
    } else {
      out += bytes;
    }
  }
  if (step.strip_accents) out = without_categories(normalize(out, NormalForm::nfd), category_mask("Mn"));
  if (step.lowercase) out = lowercase(out);
  return out;
}

std::string nmt(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    const std::uint32_t u = c.code;
    const bool gone =
        c.valid && ((u >= 1 && u <= 8) || u == 0xB || (u >= 0xE && u <= 0x1F) || u == 0x7F || u == 0x8F || u == 0x9F);
    const bool space =
        c.valid && (u == 9 || u == 0xA || u == 0xC || u == 0xD || u == 0x1680 || (u >= 0x200B && u <= 0x200F) ||
                    u == 0x2028 || u == 0x2029 || u == 0x2581 || u == 0xFEFF || u == 0xFFFD);
    if (space) {
      out += ' ';
    } else if (!gone) {
      out += text.substr(i, c.length);
    }
    i += c.length;
  }
  return out;
}

std::string_view strip(std::string_view text, bool left, bool right) {
  std::size_t begin = text.size();
  std::size_t end = 0;
  for (std::size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    if (c.kind != CharClass::space) {
      begin = std::min(begin, i);
      end = i + c.length;
    }
    i += c.length;
  }
  if (!left) begin = 0;
  if (!right) end = text.size();
  return begin < end ? text.substr(begin, end - begin) : std::string_view();
}

std::string collapse_spaces(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  }
  if (out.ends_with(' ')) out.pop_back();
  return out;
}

std::string replace_matches(const Regex& regex, std::string_view text, std::string_view with) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = regex.match(text, at);
    if (end != Regex::kNone && end > at) {
      out += with;
      at = end;
    } else {
      const std::size_t length = character_at(text, at).length;
      out += text.substr(at, length);
      at += length;
    }
  }
  return out;
}

/// NFC changes nothing where every character is below U+0300.
bool is_surely_nfc(std::string_view text) {
  for (const char c : text) {
    if (static_cast<unsigned char>(c) >= 0xCC) return false;
  }
  return true;
}

}  // namespace

bool is_bert_punctuation(std::uint32_t c) {
  if (c < 0x80) return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
  return (category_bit(c) & category_mask("P")) != 0;
}

Result<Charsmap> Charsmap::parse(std::string_view bytes) {
  Charsmap map;
  if (bytes.empty()) return map;
  std::uint32_t size = 0;
  const Error bad{ErrorCode::corrupt_data, "precompiled_charsmap: its sizes do not fit together"};
  if (bytes.size() < sizeof size) return bad;
  std::memcpy(&size, bytes.data(), sizeof size);
  bytes.remove_prefix(sizeof size);
  if (size == 0 || size % 4 != 0 || size > bytes.size()) return bad;
  map.units_.resize(size / 4);
  std::memcpy(map.units_.data(), bytes.data(), size);
  map.results_ = bytes.substr(size);
  map.results_ += '\0';
  for (std::size_t at = 0; at < map.results_.size();) {
    const std::size_t end = map.results_.find('\0', at);
    if (end - at > kMappedBytesMax) return bad;
    at = end + 1;
  }
  return map;
}

std::string Charsmap::apply(std::string_view text) const {
  if (units_.empty()) return std::string(text);
  const auto offset = [](std::uint32_t unit) { return unit >> 10 << ((unit & (1U << 9)) >> 6); };
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    std::size_t matched = 0;
    std::size_t result = 0;
    std::uint32_t node = offset(units_[0]);
    for (std::size_t i = at; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      node ^= byte;
      if (byte == 0 || node >= units_.size()) break;
      const std::uint32_t unit = units_[node];
      if ((unit & (1U << 31 | 0xFF)) != byte) break;
      node ^= offset(unit);
      if (node >= units_.size()) break;
      if ((unit >> 8 & 1) != 0) {
        matched = i + 1 - at;
        result = units_[node] & 0x7FFFFFFF;
      }
    }
    if (matched > 0 && result < results_.size()) {
      out += results_.c_str() + result;
      at += matched;
    } else {
      const std::size_t length = character_at(text, at).length;
      out += text.substr(at, length);
      at += length;
    }
  }
  return out;
}

Result<Normalizer> Normalizer::make(const std::vector<Spec::Normalizer>& steps) {
  Normalizer out;
  double growth = 1;
  for (const Spec::Normalizer& what : steps) {
    if (what.kind == Spec::Normalizer::Kind::replace) {
      const std::size_t replaced = what.is_regex ? 1 : what.pattern.size();
      growth *= std::max(1.0, static_cast<double>(what.content.size()) / static_cast<double>(replaced));
    }
    if (growth > kGrowthMax || out.steps_.size() >= kStepsMax) {
      return Error{ErrorCode::unsupported,
                   "normalizer: more than 64 steps, or replacements that could make a text 4096 "
                   "times as long, are not supported"};
    }
    Step step{what, std::nullopt, std::nullopt};
    if (what.kind == Spec::Normalizer::Kind::replace && what.is_regex) {
      COVEY_ASSIGN(step.regex, Regex::compile(what.pattern));
    }
    if (what.kind == Spec::Normalizer::Kind::charsmap) {
      COVEY_ASSIGN(step.map, Charsmap::parse(what.content));
    }
    out.steps_.push_back(std::move(step));
  }
  return out;
}

std::string Normalizer::apply(std::string_view segment) const {
  using Kind = Spec::Normalizer::Kind;
  std::string text(segment);
  for (const Step& step : steps_) {
    const Spec::Normalizer& what = step.what;
    switch (what.kind) {
      case Kind::nfc:
        if (!is_surely_nfc(text)) text = normalize(text, NormalForm::nfc);
        break;
      case Kind::nfd:
        text = normalize(text, NormalForm::nfd);
        break;
      case Kind::nfkc:
        text = normalize(text, NormalForm::nfkc);
        break;
      case Kind::nfkd:
        text = normalize(text, NormalForm::nfkd);
        break;
      case Kind::prepend:
        if (!text.empty()) text = what.content + text;
        break;
      case Kind::replace:
        text = step.regex ? replace_matches(*step.regex, text, what.content)
                          : text::replace_all(text, what.pattern, what.content);
        break;
      case Kind::lowercase:
        text = lowercase(text);
        break;
      case Kind::strip:
        text = std::string(strip(text, what.left, what.right));
        break;
      case Kind::strip_accents:
        text = without_categories(text, category_mask("M"));
        break;
      case Kind::bert:
        text = bert(what, text);
        break;
      case Kind::nmt:
        text = nmt(text);
        break;
      case Kind::charsmap:
        text = step.map->apply(text);
        break;
      case Kind::collapse_spaces:
        text = collapse_spaces(text);
        break;
    }
  }
  return text;
}

}  // namespace covey::text

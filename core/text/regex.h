/// The regular expressions that tokenizers split texts with. Source: the syntax that Oniguruma and JavaScript share, as
/// far as published tokenizers use it: literals, escapes, \s \S \d \D \w \W, \p{..} \P{..} with general categories,
/// [...], ., groups (?:..) and (?i:..), (?i) at the start, alternatives, lookahead (?=..) (?!..), and the quantifiers
/// ? * + {m} {m,} {m,n}, also lazy (..?) or possessive (..+). Anything else is refused by name.
///
/// An expression may come from a stranger's file: its size is bounded, matching needs no recursion in the length of
/// the text, and no (state, position) pair is tried twice once an attempt has become long, so that no expression takes
/// exponential time. Invalid bytes are characters without a category: only negated classes and . match them.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.h"

namespace covey::text {

/// Immutable and thread-safe.
class Regex {
 public:
  static constexpr std::size_t kNone = ~std::size_t{0};

  /// @errors unsupported: names the construct and where it stands.
  static Result<Regex> compile(std::string_view pattern);

  /// End of the match that starts at `at` (leftmost alternative first), or kNone.
  [[nodiscard]] std::size_t match(std::string_view text, std::size_t at) const;

 private:
  friend class RegexCompiler;
  friend class RegexRun;

  struct Class {
    std::bitset<128> ascii;  ///< the answer for ASCII, negation and case included
    std::uint32_t categories = 0;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges;  ///< both ends included
    bool negated = false;
    bool any_case = false;
    [[nodiscard]] bool holds(std::uint32_t code) const;
    void fill_ascii();
  };
  enum class Op : std::uint8_t { one, split, jump, look, look_not, atomic, done };
  struct Step {
    Op op;
    std::uint32_t x = 0;  ///< one: class; split: tried first; jump: target; look, atomic: where it goes on
    std::uint32_t y = 0;  ///< split: tried second
  };

  std::vector<Step> steps_;
  std::vector<Class> classes_;
};

}  // namespace covey::text

#include "core/text/pre_tokenizer.h"

#include <algorithm>
#include <iterator>

#include "core/text/normalizer.h"
#include "core/text/unicode.h"

namespace covey::text {
namespace {

using Spec = formats::TokenizerSpec;
using Behavior = Spec::PreTokenizer::Behavior;

/// Cuts `text` at what `match(at)` (end of a match, or `at`) finds, and treats the matches as `behavior` says.
template <typename Match>
void split_at(std::string_view text, bool invert, Behavior behavior, Match match, Pieces& out) {
  const std::size_t first = out.size();
  bool previous_is_match = false;
  const auto extend = [&](std::string_view piece) {
    out.back() = {out.back().data(), out.back().size() + piece.size()};
  };
  const auto put = [&](std::size_t begin, std::size_t end, bool is_match) {
    if (begin == end) return;
    is_match = is_match != invert;
    const std::string_view piece = text.substr(begin, end - begin);
    const bool any = out.size() > first;
    if (behavior == Behavior::removed) {
      if (!is_match) out.push_back(piece);
    } else if ((behavior == Behavior::merged_with_previous && any && is_match && !previous_is_match) ||
               (behavior == Behavior::merged_with_next && any && !is_match && previous_is_match) ||
               (behavior == Behavior::contiguous && any && is_match == previous_is_match)) {
      extend(piece);
    } else {
      out.push_back(piece);
    }
    previous_is_match = is_match;
  };
  std::size_t gap = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = match(at);
    if (end > at) {
      put(gap, at, false);
      put(at, end, true);
      at = gap = end;
    } else {
      at += character_at(text, at).length;
    }
  }
  put(gap, text.size(), false);
}

void metaspace(const Spec::PreTokenizer& what, std::string_view text, bool first, Words& out) {
  using Prepend = Spec::PreTokenizer::Prepend;
  std::string& changed = out.owned.emplace_back(replace_all(text, " ", what.replacement));
  const bool wanted = what.prepend == Prepend::always || (what.prepend == Prepend::first && first);
  if (wanted && !changed.starts_with(what.replacement)) changed.insert(0, what.replacement);
  const std::string_view all = changed;
  std::size_t start = 0;
  for (std::size_t at = all.find(what.replacement, 1); what.split && at != std::string_view::npos;
       at = all.find(what.replacement, at + 1)) {
    out.pieces.push_back(all.substr(start, at - start));
    start = at;
  }
  out.pieces.push_back(all.substr(start));
}

}  // namespace

Result<PreTokenizer> PreTokenizer::make(const std::vector<Spec::PreTokenizer>& steps) {
  PreTokenizer out;
  for (const Spec::PreTokenizer& what : steps) {
    Step step{what, std::nullopt};
    if (what.kind == Spec::PreTokenizer::Kind::regex) {
      COVEY_ASSIGN(step.regex, Regex::compile(what.pattern));
    } else if (what.kind == Spec::PreTokenizer::Kind::whitespace) {
      COVEY_ASSIGN(step.regex, Regex::compile(R"(\w+|[^\w\s]+)"));
    }
    out.steps_.push_back(std::move(step));
  }
  return out;
}

void PreTokenizer::apply(std::string_view text, bool first, Words& out) const {
  out.pieces.clear();
  out.pieces.push_back(text);
  Pieces previous;
  for (const Step& step : steps_) {
    previous.swap(out.pieces);
    out.pieces.clear();
    for (std::size_t i = 0; i < previous.size(); ++i) cut(step, previous[i], first && i == 0, out);
  }
}

void PreTokenizer::cut(const Step& step, std::string_view text, bool first, Words& out) {
  using Kind = Spec::PreTokenizer::Kind;
  const Spec::PreTokenizer& what = step.what;
  const auto run_of = [&](auto holds) {
    return [text, holds](std::size_t at) {
      while (at < text.size()) {
        const Character c = character_at(text, at);
        if (!holds(c)) break;
        at += c.length;
      }
      return at;
    };
  };
  const auto is_space = [](const Character& c) { return c.kind == CharClass::space; };
  const auto punctuation = [&](std::size_t at) {
    const Character c = character_at(text, at);
    return c.valid && is_bert_punctuation(c.code) ? at + c.length : at;
  };
  const auto by_regex = [&](std::size_t at) {
    const std::size_t end = step.regex->match(text, at);
    return end == Regex::kNone ? at : end;
  };
  switch (what.kind) {
    case Kind::gpt2_split:
    case Kind::byte_level:
      if (what.add_prefix_space && !text.empty() && character_at(text, 0).kind != CharClass::space) {
        text = out.owned.emplace_back(" " + std::string(text));
      }
      what.kind == Kind::gpt2_split ? split_gpt2(text, out.pieces) : out.pieces.push_back(text);
      break;
    case Kind::llama3_split:
      split_llama3(text, 3, out.pieces);
      break;
    case Kind::qwen2_split:
      split_llama3(text, 1, out.pieces);
      break;
    case Kind::digits:
      split_digits(text, what.individual, out.pieces);
      break;
    case Kind::metaspace:
      metaspace(what, text, first, out);
      break;
    case Kind::regex:
      split_at(text, what.invert, what.behavior, by_regex, out.pieces);
      break;
    case Kind::whitespace:
      split_at(text, true, Behavior::removed, by_regex, out.pieces);
      break;
    case Kind::literal:
      split_at(
          text, what.invert, what.behavior,
          [&](std::size_t at) { return text.substr(at).starts_with(what.pattern) ? at + what.pattern.size() : at; },
          out.pieces);
      break;
    case Kind::whitespace_split:
      split_at(text, false, Behavior::removed, run_of(is_space), out.pieces);
      break;
    case Kind::punctuation:
      split_at(text, false, what.behavior, punctuation, out.pieces);
      break;
    case Kind::bert: {
      Pieces parts;
      split_at(text, false, Behavior::removed, run_of(is_space), parts);
      for (const std::string_view part : parts) {
        split_at(
            part, false, Behavior::isolated,
            [part](std::size_t at) {
              const Character c = character_at(part, at);
              return c.valid && is_bert_punctuation(c.code) ? at + c.length : at;
            },
            out.pieces);
      }
      break;
    }
  }
}

}  // namespace covey::text

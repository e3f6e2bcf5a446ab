#include "core/data/labelled.h"

#include <algorithm>
#include <set>
#include <utility>

namespace covey::data {
namespace {

using Ids = std::vector<std::int32_t>;

void append(Ids& to, std::span<const std::int32_t> from) {
  to.insert(to.end(), from.begin(), from.end());
}

/// Positions left for tokens. @errors invalid_argument: none.
Result<std::size_t> tokens_left(int seq_max, std::size_t framed) {
  if (seq_max > 0 && framed < static_cast<std::size_t>(seq_max)) return static_cast<std::size_t>(seq_max) - framed;
  return Error{ErrorCode::invalid_argument, "seq: " + std::to_string(seq_max) + " leaves no room for a token beside " +
                                                std::to_string(framed) + " special ones"};
}

/// The text in its frame and with the end token, cut to fit.
Result<Ids> framed(const text::Tokenizer& tokenizer, std::string_view text, int seq_max) {
  Frame frame = frame_of(tokenizer);
  if (tokenizer.eos_id() >= 0 && (frame.after.empty() || frame.after.back() != tokenizer.eos_id())) {
    frame.after.push_back(tokenizer.eos_id());
  }
  COVEY_ASSIGN(const std::size_t left, tokens_left(seq_max, frame.before.size() + frame.after.size()));
  Ids tokens = tokenizer.encode(text, false);
  tokens.resize(std::min(tokens.size(), left));
  Ids out = frame.before;
  append(out, tokens);
  append(out, frame.after);
  return out;
}

}  // namespace

Result<Labels> Labels::create(std::vector<std::string> names) {
  if (names.size() < 2) return Error{ErrorCode::invalid_argument, "labels: at least two are needed"};
  if (std::ranges::any_of(names, &std::string::empty)) {
    return Error{ErrorCode::invalid_argument, "labels: a name is empty"};
  }
  if (std::set<std::string_view>(names.begin(), names.end()).size() != names.size()) {
    return Error{ErrorCode::invalid_argument, "labels: a name is there twice"};
  }
  Labels out;
  out.names_ = std::move(names);
  return out;
}

Result<Labels> Labels::of(std::span<const Example> examples) {
  std::set<std::string> names;
  for (const Example& example : examples) {
    if (!example.label) {
      return Error{ErrorCode::invalid_argument, "line " + std::to_string(example.line) + ": has no \"label\""};
    }
    names.insert(*example.label);
  }
  return create({names.begin(), names.end()});
}

std::optional<std::int32_t> Labels::find(std::string_view name) const {
  const auto found = std::ranges::find(names_, name);
  if (found == names_.end()) return std::nullopt;
  return static_cast<std::int32_t>(found - names_.begin());
}

Frame frame_of(const text::Tokenizer& tokenizer) {
  constexpr std::string_view kProbe = "a";
  const Ids plain = tokenizer.encode(kProbe, false);
  const Ids whole = tokenizer.encode(kProbe, true);
  const auto inner = std::search(whole.begin(), whole.end(), plain.begin(), plain.end());
  if (plain.empty() || inner == whole.end()) return {.before = tokenizer.encode("", true), .after = {}};
  return {.before = {whole.begin(), inner}, .after = {inner + static_cast<std::ptrdiff_t>(plain.size()), whole.end()}};
}

Result<TokenRow> class_row(const text::Tokenizer& tokenizer, const Example& example, std::int32_t class_index,
                           const PairFrame& pair) {
  const Frame frame = frame_of(tokenizer);
  Ids first = tokenizer.encode(example.prompt + example.text, false);
  Ids second = tokenizer.encode(example.text_pair, false);
  Ids between = frame.after;
  if (pair.double_separator) append(between, frame.after);
  const bool two = !example.text_pair.empty();
  const std::size_t special = frame.before.size() + frame.after.size() + (two ? between.size() : 0);
  COVEY_ASSIGN(const std::size_t left, tokens_left(pair.seq_max, special));
  while (first.size() + second.size() > left) (first.size() >= second.size() ? first : second).pop_back();
  TokenRow row;
  row.is_class = true;
  row.targets = {class_index};
  row.ids = frame.before;
  append(row.ids, first);
  append(row.ids, two ? between : frame.after);
  const std::size_t types = row.ids.size();
  if (two) {
    append(row.ids, second);
    append(row.ids, frame.after);
  }
  if (row.ids.empty()) return Error{ErrorCode::invalid_argument, "has no token"};
  if (pair.types && two) {
    row.types.assign(row.ids.size(), 1);
    std::fill_n(row.types.begin(), types, 0);
  }
  return row;
}

Result<std::vector<TokenRow>> maskable_rows(const text::Tokenizer& tokenizer, const Example& example, int seq_max) {
  const Frame frame = frame_of(tokenizer);
  COVEY_ASSIGN(const std::size_t left, tokens_left(seq_max, frame.before.size() + frame.after.size()));
  const Ids tokens = tokenizer.encode(example.prompt + example.text, false);
  std::vector<TokenRow> out;
  for (std::size_t at = 0; at < tokens.size(); at += left) {
    const auto part = std::span(tokens).subspan(at, std::min(left, tokens.size() - at));
    TokenRow row;
    row.ids = frame.before;
    row.targets.assign(frame.before.size(), kNoTarget);
    append(row.ids, part);
    for (const std::int32_t id : part) row.targets.push_back(tokenizer.is_special(id) ? kNoTarget : id);
    append(row.ids, frame.after);
    row.targets.resize(row.ids.size(), kNoTarget);
    out.push_back(std::move(row));
  }
  return out;
}

Result<std::vector<std::int32_t>> source_ids(const text::Tokenizer& tokenizer, std::string_view source, int seq_max) {
  return framed(tokenizer, source, seq_max);
}

Result<TokenRow> source_row(const text::Tokenizer& tokenizer, const Example& example, const SourceOptions& options) {
  TokenRow row;
  COVEY_ASSIGN(row.ids, framed(tokenizer, example.prompt, options.seq_max));
  COVEY_ASSIGN(row.targets, framed(tokenizer, example.text, options.target_seq_max));
  if (row.ids.empty() || row.targets.empty()) return Error{ErrorCode::invalid_argument, "has no token"};
  row.second_ids = {options.start_id};
  row.second_ids.insert(row.second_ids.end(), row.targets.begin(), row.targets.end() - 1);
  return row;
}

}  // namespace covey::data

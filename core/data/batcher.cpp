#include "core/data/batcher.h"

#include <algorithm>
#include <numeric>

#include "core/base/assert.h"
#include "core/base/rng.h"

namespace covey::data {
namespace {

/// How many tokens of `tokens` come from `text`, which its text begins with: those that `text` alone has too. A token
/// that joins the end of `text` and what follows belongs to what follows.
std::size_t tokens_of_start(const text::Tokenizer& tokenizer, const std::string& text, bool add_special,
                            const std::vector<std::int32_t>& tokens) {
  const auto alone = tokenizer.encode(text, add_special);
  const auto differ = std::mismatch(alone.begin(), alone.end(), tokens.begin(), tokens.end()).first;
  return static_cast<std::size_t>(differ - alone.begin());
}

/// Encoded as one text, so that the ids are those that the model meets when it is asked.
TokenRow tokenize_chat(const text::Tokenizer& tokenizer, const Example& example, int seq_max) {
  std::string all;
  for (const auto& part : example.chat) all += part.text;
  std::vector<std::int32_t> tokens = tokenizer.encode(all, false);
  std::vector<bool> predicted(tokens.size(), false);
  std::string text;
  std::size_t from = 0;
  for (std::size_t i = 0; i < example.chat.size(); ++i) {
    text += example.chat[i].text;
    const bool last = i + 1 == example.chat.size();
    const std::size_t to = last ? tokens.size() : std::max(from, tokens_of_start(tokenizer, text, false, tokens));
    if (example.chat[i].assistant)
      std::fill(predicted.begin() + static_cast<std::ptrdiff_t>(from),
                predicted.begin() + static_cast<std::ptrdiff_t>(to), true);
    from = to;
    if (from > static_cast<std::size_t>(seq_max)) break;  // what follows is cut off
  }
  tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(seq_max) + 1));
  TokenRow row;
  if (tokens.size() < 2) return row;
  row.ids.assign(tokens.begin(), tokens.end() - 1);
  for (std::size_t t = 1; t < tokens.size(); ++t) row.targets.push_back(predicted[t] ? tokens[t] : kNoTarget);
  return row;
}

}  // namespace

TokenRow tokenize(const text::Tokenizer& tokenizer, const Example& example, int seq_max) {
  COVEY_ASSERT(seq_max > 0);
  if (!example.chat.empty()) return tokenize_chat(tokenizer, example, seq_max);
  std::vector<std::int32_t> tokens = tokenizer.encode(example.prompt + example.text, true);
  if (tokenizer.eos_id() >= 0 && !example.text.empty() && (tokens.empty() || tokens.back() != tokenizer.eos_id())) {
    tokens.push_back(tokenizer.eos_id());
  }
  std::size_t context = 0;
  if (!example.prompt.empty()) {
    context = tokens_of_start(tokenizer, example.prompt, true, tokens);
  }
  tokens.resize(std::min(tokens.size(), static_cast<std::size_t>(seq_max) + 1));
  TokenRow row;
  if (tokens.size() < 2) return row;
  row.ids.assign(tokens.begin(), tokens.end() - 1);
  row.targets.assign(tokens.begin() + 1, tokens.end());
  if (context > 1) std::fill_n(row.targets.begin(), std::min(context - 1, row.targets.size()), kNoTarget);
  return row;
}

std::vector<TokenRow> tokenize_all(const text::Tokenizer& tokenizer, std::span<const Example> examples, int seq_max) {
  std::vector<TokenRow> rows;
  for (const Example& example : examples) {
    TokenRow row = tokenize(tokenizer, example, seq_max);
    if (std::ranges::any_of(row.targets, [](std::int32_t t) { return t != kNoTarget; })) rows.push_back(std::move(row));
  }
  return rows;
}

bool TokenRow::consistent() const {
  if (ids.empty() || (!types.empty() && types.size() != ids.size())) return false;
  if (is_class) return targets.size() == 1 && second_ids.empty();
  return targets.size() == (second_ids.empty() ? ids : second_ids).size();
}

Batcher::Batcher(std::span<const TokenRow> rows, const BatcherOptions& options)
    : rows_(rows),
      options_(options),
      typed_(std::ranges::any_of(rows, [](const TokenRow& row) { return !row.types.empty(); })) {
  make_order();
}

Result<Batcher> Batcher::create(std::span<const TokenRow> rows, const BatcherOptions& options) {
  if (options.batch < 1) return Error{ErrorCode::invalid_argument, "batch must be 1 or more"};
  if (rows.empty()) return Error{ErrorCode::invalid_argument, "there is no row to make batches of"};
  for (const TokenRow& row : rows) {
    if (!row.consistent()) {
      return Error{ErrorCode::invalid_argument, "a row is empty, or its targets are not as many as its ids"};
    }
    if (row.is_class != rows[0].is_class || row.second_ids.empty() != rows[0].second_ids.empty()) {
      return Error{ErrorCode::invalid_argument, "rows of texts, of classes and of sources do not mix in a batch"};
    }
  }
  if (options.masking) {
    COVEY_TRY(options.masking->check());
    if (rows[0].is_class || !rows[0].second_ids.empty()) {
      return Error{ErrorCode::invalid_argument, "masking: only rows of texts can be masked"};
    }
  }
  return Batcher(rows, options);
}

void Batcher::make_order() {
  order_.resize(rows_.size());
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  if (!options_.shuffle) return;
  Rng rng(derive_seed(options_.seed, position_.epoch));
  rng.shuffle(order_);
}

Batch Batcher::next() {
  if (position_.row == rows_.size()) {
    position_ = {position_.epoch + 1, 0};
    make_order();
  }
  const auto count = std::min(static_cast<std::size_t>(options_.batch), rows_.size() - position_.row);
  const std::span<const std::size_t> chosen = std::span(order_).subspan(position_.row, count);
  const auto widest = [&](const std::vector<std::int32_t> TokenRow::*list) {
    std::size_t out = 0;
    for (const std::size_t i : chosen) out = std::max(out, (rows_[i].*list).size());
    return out;
  };
  const std::size_t width = widest(&TokenRow::ids);
  const std::size_t second = widest(&TokenRow::second_ids);
  const std::size_t target_width = widest(&TokenRow::targets);
  ids_.assign(count * width, 0);
  types_.assign(typed_ ? count * width : 0, 0);
  second_ids_.assign(count * second, 0);
  targets_.assign(count * target_width, kNoTarget);
  lengths_.resize(count);
  for (std::size_t b = 0; b < count; ++b) put(b, chosen[b], width, target_width);
  position_.row += count;
  return {.B = static_cast<int>(count),
          .T = static_cast<int>(width),
          .ids = ids_,
          .targets = targets_,
          .lengths = lengths_,
          .types = types_,
          .T2 = static_cast<int>(second),
          .second_ids = second_ids_};
}

void Batcher::put(std::size_t place, std::size_t index, std::size_t width, std::size_t target_width) {
  const TokenRow& row = rows_[index];
  const auto copy_to = [place](const std::vector<std::int32_t>& from, std::vector<std::int32_t>& to, std::size_t wide) {
    std::ranges::copy(from, to.begin() + static_cast<std::ptrdiff_t>(place * wide));
  };
  copy_to(row.ids, ids_, width);
  if (!row.types.empty()) copy_to(row.types, types_, width);
  copy_to(row.second_ids, second_ids_, target_width);
  copy_to(row.targets, targets_, target_width);
  lengths_[place] = static_cast<std::int32_t>(row.ids.size());
  if (!options_.masking) return;
  mask_row(*options_.masking, position_.epoch, index, std::span(ids_).subspan(place * width, row.ids.size()),
           std::span(targets_).subspan(place * width, row.ids.size()));
}

Status Batcher::seek(Position position) {
  if (position.row > rows_.size()) {
    return Error{ErrorCode::invalid_argument, "row " + std::to_string(position.row) + " is beyond the " +
                                                  std::to_string(rows_.size()) + " rows of an epoch"};
  }
  position_ = position;
  make_order();
  return {};
}

}  // namespace covey::data

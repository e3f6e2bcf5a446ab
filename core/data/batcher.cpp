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

Batcher::Batcher(std::span<const TokenRow> rows, const BatcherOptions& options) : rows_(rows), options_(options) {
  make_order();
}

Result<Batcher> Batcher::create(std::span<const TokenRow> rows, const BatcherOptions& options) {
  if (options.batch < 1) return Error{ErrorCode::invalid_argument, "batch must be 1 or more"};
  if (rows.empty()) return Error{ErrorCode::invalid_argument, "there is no row to make batches of"};
  for (const TokenRow& row : rows) {
    if (row.ids.empty() || row.ids.size() != row.targets.size()) {
      return Error{ErrorCode::invalid_argument, "a row is empty, or its targets are not as many as its ids"};
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
  std::size_t width = 0;
  for (const std::size_t i : chosen) width = std::max(width, rows_[i].ids.size());
  ids_.assign(count * width, 0);
  targets_.assign(count * width, kNoTarget);
  lengths_.resize(count);
  for (std::size_t b = 0; b < count; ++b) {
    const TokenRow& row = rows_[chosen[b]];
    std::ranges::copy(row.ids, ids_.begin() + static_cast<std::ptrdiff_t>(b * width));
    std::ranges::copy(row.targets, targets_.begin() + static_cast<std::ptrdiff_t>(b * width));
    lengths_[b] = static_cast<std::int32_t>(row.ids.size());
  }
  position_.row += count;
  return {static_cast<int>(count), static_cast<int>(width), ids_, targets_, lengths_};
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

/// Training rows: token sequences with their targets, and how they are packed into right-padded batches.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/model/engine.h"

namespace covey::train {

/// One example. `targets[t]` is the token to predict after ids[0..t], or model::kNoTarget; both have the same length.
struct TokenRow {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> targets;
};

/// The row that predicts every next token of `tokens`: ids = all but the last, targets = all but the first. Fewer than
/// two tokens give an empty row. The first `context` tokens are read but not predicted (a prompt).
TokenRow next_token_row(std::span<const std::int32_t> tokens, std::size_t context = 0);

/// Cuts a long sequence into rows of at most `seq` positions that together predict each token but the first once.
std::vector<TokenRow> chop(std::span<const std::int32_t> tokens, int seq);

/// Whether any of the first `seq` positions has something to predict.
bool has_target(const TokenRow& row, int seq);

/// Buffers of one batch, reused. T is the longest row's length, rows cut at `seq`.
class BatchBuffer {
 public:
  /// @return borrowed views, valid until the next call. Empty rows are allowed and give length 1 without a target.
  model::TokenBatch pack(std::span<const TokenRow> rows, std::span<const std::size_t> indices, int seq);

 private:
  std::vector<std::int32_t> ids_, targets_, lengths_;
};

}  // namespace covey::train

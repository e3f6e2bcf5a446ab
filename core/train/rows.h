/// Between core/data, which makes token rows and batches, and core/model, which computes them.
#pragma once

#include <span>
#include <vector>

#include "core/data/batcher.h"
#include "core/model/engine.h"

namespace covey::train {

using data::TokenRow;
static_assert(data::kNoTarget == model::kNoTarget);

/// Whether any of the first `seq` positions has something to predict.
bool has_target(const TokenRow& row, int seq);

/// The rows that have a target, each cut at `seq` positions, in their order.
std::vector<TokenRow> usable_rows(std::span<const TokenRow> rows, int seq);

/// A long row as several of at most `seq` positions, each target once; pieces without a target are left out.
std::vector<TokenRow> split_row(const TokenRow& row, int seq);

/// The same spans.
inline model::TokenBatch token_batch(const data::Batch& batch) {
  return {.B = batch.B, .T = batch.T, .ids = batch.ids, .targets = batch.targets, .lengths = batch.lengths};
}

}  // namespace covey::train

/// Between core/data, which makes token rows and batches, and core/model, which computes them.
#pragma once

#include <span>
#include <vector>

#include "core/data/batcher.h"
#include "core/model/engine.h"

namespace covey::train {

using data::TokenRow;
static_assert(data::kNoTarget == model::kNoTarget);

/// Whether any of the first `seq` targets is one.
bool has_target(const TokenRow& row, int seq);

/// The rows that have a target, in their order: each cut at `seq` positions, an encoder-decoder's targets at
/// `target_seq` (0: at `seq`, too). Rows must be consistent() (asserted).
std::vector<TokenRow> usable_rows(std::span<const TokenRow> rows, int seq, int target_seq = 0);

/// Whether a model of this task computes such rows, which are all of one kind. @errors invalid_argument.
[[nodiscard]] Status check_kind(std::span<const TokenRow> rows, const model::ModelConfig& config);

/// The longest row's ids, and second_ids.
struct RowSizes {
  int seq = 0;
  int target_seq = 0;
};
RowSizes longest(std::span<const TokenRow> rows);

/// A long row of text as several of at most `seq` positions, each target once; pieces without a target are left out.
std::vector<TokenRow> split_row(const TokenRow& row, int seq);

/// The same spans.
inline model::TokenBatch token_batch(const data::Batch& batch) {
  return {.B = batch.B,
          .T = batch.T,
          .ids = batch.ids,
          .targets = batch.targets,
          .lengths = batch.lengths,
          .types = batch.types,
          .second_ids = batch.second_ids,
          .T2 = batch.T2};
}

}  // namespace covey::train

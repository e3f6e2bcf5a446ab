#include "core/train/rows.h"

#include <algorithm>

#include "core/base/assert.h"

namespace covey::train {

TokenRow next_token_row(std::span<const std::int32_t> tokens, std::size_t context) {
  TokenRow row;
  if (tokens.size() < 2) return row;
  row.ids.assign(tokens.begin(), tokens.end() - 1);
  row.targets.assign(tokens.begin() + 1, tokens.end());
  const std::size_t unpredicted = context > 0 ? std::min(context - 1, row.targets.size()) : 0;
  std::fill_n(row.targets.begin(), unpredicted, model::kNoTarget);
  return row;
}

std::vector<TokenRow> chop(std::span<const std::int32_t> tokens, int seq) {
  COVEY_ASSERT(seq > 0);
  std::vector<TokenRow> rows;
  const auto width = static_cast<std::size_t>(seq);
  for (std::size_t at = 0; at + 1 < tokens.size(); at += width) {
    rows.push_back(next_token_row(tokens.subspan(at, std::min(width + 1, tokens.size() - at))));
  }
  return rows;
}

bool has_target(const TokenRow& row, int seq) {
  const std::size_t seen = std::min(row.targets.size(), static_cast<std::size_t>(seq));
  return std::any_of(row.targets.begin(), row.targets.begin() + static_cast<std::ptrdiff_t>(seen),
                     [](std::int32_t target) { return target != model::kNoTarget; });
}

model::TokenBatch BatchBuffer::pack(std::span<const TokenRow> rows, std::span<const std::size_t> indices, int seq) {
  std::size_t width = 1;
  for (const std::size_t index : indices) width = std::max(width, rows[index].ids.size());
  width = std::min(width, static_cast<std::size_t>(seq));
  ids_.assign(indices.size() * width, 0);
  targets_.assign(indices.size() * width, model::kNoTarget);
  lengths_.assign(indices.size(), 1);
  for (std::size_t b = 0; b < indices.size(); ++b) {
    const TokenRow& row = rows[indices[b]];
    COVEY_ASSERT(row.ids.size() == row.targets.size());
    const std::size_t length = std::min(row.ids.size(), width);
    const auto first = static_cast<std::ptrdiff_t>(b * width);
    std::copy_n(row.ids.begin(), length, ids_.begin() + first);
    std::copy_n(row.targets.begin(), length, targets_.begin() + first);
    lengths_[b] = static_cast<std::int32_t>(std::max<std::size_t>(length, 1));
  }
  return {.B = static_cast<int>(indices.size()),
          .T = static_cast<int>(width),
          .ids = ids_,
          .targets = targets_,
          .lengths = lengths_};
}

}  // namespace covey::train

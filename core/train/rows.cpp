#include "core/train/rows.h"

#include <algorithm>

#include "core/base/assert.h"

namespace covey::train {
namespace {

TokenRow piece_of(const TokenRow& row, std::size_t first, std::size_t length) {
  const auto at = static_cast<std::ptrdiff_t>(first);
  const auto end = static_cast<std::ptrdiff_t>(std::min(first + length, row.ids.size()));
  return {.ids = {row.ids.begin() + at, row.ids.begin() + end},
          .targets = {row.targets.begin() + at, row.targets.begin() + end}};
}

}  // namespace

bool has_target(const TokenRow& row, int seq) {
  const auto seen = std::span(row.targets).first(std::min(row.targets.size(), static_cast<std::size_t>(seq)));
  return std::any_of(seen.begin(), seen.end(), [](std::int32_t target) { return target != data::kNoTarget; });
}

std::vector<TokenRow> usable_rows(std::span<const TokenRow> rows, int seq) {
  std::vector<TokenRow> out;
  for (const TokenRow& row : rows) {
    COVEY_ASSERT(row.ids.size() == row.targets.size());
    if (has_target(row, seq)) out.push_back(piece_of(row, 0, static_cast<std::size_t>(seq)));
  }
  return out;
}

std::vector<TokenRow> split_row(const TokenRow& row, int seq) {
  COVEY_ASSERT(seq > 0);
  const auto width = static_cast<std::size_t>(seq);
  std::vector<TokenRow> out;
  for (std::size_t at = 0; at < row.ids.size(); at += width) {
    TokenRow piece = piece_of(row, at, width);
    if (has_target(piece, seq)) out.push_back(std::move(piece));
  }
  return out;
}

}  // namespace covey::train

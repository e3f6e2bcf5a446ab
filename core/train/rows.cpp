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

std::vector<TokenRow> usable_rows(std::span<const TokenRow> rows, int seq, int target_seq) {
  std::vector<TokenRow> out;
  for (const TokenRow& row : rows) {
    COVEY_ASSERT(row.consistent());
    const bool of_text = !row.is_class && row.second_ids.empty();
    const int targets = of_text || target_seq == 0 ? seq : target_seq;
    if (!has_target(row, targets)) continue;
    TokenRow kept = row;
    kept.ids.resize(std::min(row.ids.size(), static_cast<std::size_t>(seq)));
    if (!row.types.empty()) kept.types.resize(kept.ids.size());
    if (!row.is_class) kept.targets.resize(std::min(row.targets.size(), static_cast<std::size_t>(targets)));
    if (!of_text && !row.is_class) kept.second_ids.resize(kept.targets.size());
    out.push_back(std::move(kept));
  }
  return out;
}

Status check_kind(std::span<const TokenRow> rows, const model::ModelConfig& config) {
  const auto wrong = [](const char* what) { return Error{ErrorCode::invalid_argument, what}; };
  for (const TokenRow& row : rows) {
    if (config.task == model::Task::classification && !row.is_class)
      return wrong("a classifier needs rows with a label");
    if (config.task != model::Task::classification && row.is_class) return wrong("the model is no classifier");
    if (config.two_stacks() && row.second_ids.empty()) {
      return wrong("an encoder-decoder needs rows of a source and a target");
    }
    if (!config.two_stacks() && !row.second_ids.empty()) return wrong("the model is no encoder-decoder");
  }
  return {};
}

RowSizes longest(std::span<const TokenRow> rows) {
  RowSizes out;
  for (const TokenRow& row : rows) {
    out.seq = std::max(out.seq, static_cast<int>(row.ids.size()));
    out.target_seq = std::max(out.target_seq, static_cast<int>(row.second_ids.size()));
  }
  return out;
}

std::vector<TokenRow> split_row(const TokenRow& row, int seq) {
  COVEY_ASSERT(seq > 0 && !row.is_class && row.second_ids.empty() && row.types.empty());
  const auto width = static_cast<std::size_t>(seq);
  std::vector<TokenRow> out;
  for (std::size_t at = 0; at < row.ids.size(); at += width) {
    TokenRow piece = piece_of(row, at, width);
    if (has_target(piece, seq)) out.push_back(std::move(piece));
  }
  return out;
}

}  // namespace covey::train

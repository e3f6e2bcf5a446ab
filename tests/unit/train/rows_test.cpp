#include "core/train/rows.h"

#include <vector>

#include "support/support.h"

using namespace covey;
using namespace covey::train;

using Ids = std::vector<std::int32_t>;

TEST_CASE("a long row is cut so that each target is there once") {
  TokenRow row;
  for (int i = 0; i < 23; ++i) {
    row.ids.push_back(i);
    row.targets.push_back(i + 1);
  }
  Ids predicted;
  for (const TokenRow& piece : split_row(row, 5)) {
    CHECK(piece.ids.size() <= 5);
    for (std::size_t t = 0; t < piece.ids.size(); ++t) CHECK(piece.targets[t] == piece.ids[t] + 1);
    predicted.insert(predicted.end(), piece.targets.begin(), piece.targets.end());
  }
  CHECK(predicted == row.targets);
}

TEST_CASE("rows without a target within reach are left out, the others cut") {
  const std::int32_t none = data::kNoTarget;
  const std::vector<TokenRow> rows{{.ids = {1, 2, 3}, .targets = {none, none, 4}},
                                   {.ids = {1, 2, 3}, .targets = {2, none, none}},
                                   {.ids = {}, .targets = {}}};
  const auto usable = usable_rows(rows, 2);
  REQUIRE(usable.size() == 1);
  CHECK(usable[0].ids == Ids{1, 2});
  CHECK(usable_rows(rows, 3).size() == 2);
}

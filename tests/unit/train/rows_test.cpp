#include "core/train/rows.h"

#include <vector>

#include "support/support.h"

using namespace covey;
using namespace covey::train;

using Ids = std::vector<std::int32_t>;

TEST_CASE("a row predicts every next token, and a prompt is read but not predicted") {
  const TokenRow row = next_token_row(Ids{5, 6, 7, 8});
  CHECK(row.ids == Ids{5, 6, 7});
  CHECK(row.targets == Ids{6, 7, 8});
  CHECK(next_token_row(Ids{5, 6, 7, 8}, 2).targets == Ids{model::kNoTarget, 7, 8});
  CHECK(next_token_row(Ids{5}).ids.empty());
}

TEST_CASE("a long text is cut so that each token but the first is predicted once") {
  Ids tokens;
  for (int i = 0; i < 23; ++i) tokens.push_back(i);
  Ids predicted;
  for (const TokenRow& row : chop(tokens, 5)) {
    CHECK(row.ids.size() <= 5);
    for (std::size_t t = 0; t < row.ids.size(); ++t) CHECK(row.targets[t] == row.ids[t] + 1);
    predicted.insert(predicted.end(), row.targets.begin(), row.targets.end());
  }
  CHECK(predicted == Ids(tokens.begin() + 1, tokens.end()));
}

TEST_CASE("a batch is as wide as its longest row and padding has no target") {
  const std::vector<TokenRow> rows{next_token_row(Ids{1, 2}), next_token_row(Ids{1, 2, 3, 4}), {}};
  BatchBuffer buffer;
  const std::vector<std::size_t> all{0, 1, 2};
  auto batch = buffer.pack(rows, all, 8);
  CHECK(batch.B == 3);
  CHECK(batch.T == 3);
  CHECK(batch.targets[1] == model::kNoTarget);
  CHECK(batch.targets[5] == 4);
  CHECK(batch.lengths[0] == 1);
  CHECK(batch.lengths[1] == 3);
  CHECK(batch.lengths[2] == 1);
  batch = buffer.pack(rows, all, 2);
  CHECK(batch.T == 2);
  CHECK_FALSE(has_target(rows[2], 8));
}

#include "core/data/masking.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/rng.h"

namespace covey::data {

Status Masking::check() const {
  const auto wrong = [](const char* what) { return Error{ErrorCode::invalid_argument, what}; };
  if (vocab < 1) return wrong("masking: the vocabulary is empty");
  if (mask_id < 0 || mask_id >= vocab) return wrong("masking: the mask token is not in the vocabulary");
  if (!(share > 0 && share < 1)) return wrong("mask_share: must be in (0, 1)");
  return {};
}

void mask_row(const Masking& masking, std::uint64_t epoch, std::uint64_t row, std::span<std::int32_t> ids,
              std::span<std::int32_t> targets) {
  constexpr std::uint64_t kMasking = 0x6d61736b;  // apart from the seed's other uses
  Rng rng(derive_seed(derive_seed(masking.seed, kMasking), epoch), row);
  std::vector<std::size_t> places;
  for (std::size_t t = 0; t < targets.size(); ++t) {
    if (targets[t] != kNoTarget) places.push_back(t);
  }
  rng.shuffle(places);
  const auto wanted = static_cast<std::size_t>(std::lround(masking.share * static_cast<double>(places.size())));
  for (std::size_t i = 0; i < places.size(); ++i) {
    const std::size_t t = places[i];
    if (i >= std::max<std::size_t>(wanted, 1)) {
      targets[t] = kNoTarget;
      continue;
    }
    const std::uint64_t fate = rng.below(10);
    if (fate < 8) {
      ids[t] = masking.mask_id;
    } else if (fate == 8) {
      ids[t] = static_cast<std::int32_t>(rng.below(static_cast<std::uint64_t>(masking.vocab)));
    }
  }
}

}  // namespace covey::data

#include "aggregation/robust_set.h"

#include "aggregation/quantize.h"
#include "core/base/assert.h"

namespace covey::aggregation {

Result<RobustSet> RobustSet::create(const UpdateSpec& spec) {
  COVEY_TRY(spec.check());
  return RobustSet(spec);
}

Status RobustSet::add(const wire::ClearUpdate& update) {
  if (words_.size() >= spec_.contributors_max) {
    return Error{ErrorCode::resource_exhausted, "updates: " + std::to_string(spec_.contributors_max) +
                                                    " contributors are in; the plan allows no more"};
  }
  COVEY_TRY(open_update(spec_, update));
  words_.push_back(update.words);
  weight_ += update.weight;
  return {};
}

std::vector<std::vector<float>> RobustSet::rows() const {
  std::vector<std::vector<float>> out;
  out.reserve(words_.size());
  for (const Bytes& words : words_) {
    const auto q = unpack_signed(words, spec_.values, spec_.value_bits);
    COVEY_ASSERT(q.ok());  // add() has opened it
    auto& row = out.emplace_back(spec_.values);
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = static_cast<float>((*q)[i] / spec_.scale());
  }
  return out;
}

std::uint64_t RobustSet::memory_bytes(const UpdateSpec& spec) {
  const std::uint64_t n = spec.contributors_max;
  return n * (spec.packed_bytes() + 4 * spec.values + 8 * n);
}

}  // namespace covey::aggregation

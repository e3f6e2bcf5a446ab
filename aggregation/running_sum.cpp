#include "aggregation/running_sum.h"

#include "aggregation/serial.h"
#include "core/base/assert.h"

namespace covey::aggregation {
namespace {

constexpr std::uint32_t kMagic = 0x4d555343;  // "CSUM"
constexpr std::uint32_t kVersion = 1;

Error full(const UpdateSpec& spec) {
  return {ErrorCode::resource_exhausted,
          "sum: " + std::to_string(spec.contributors_max) + " contributors are in; the plan allows no more"};
}

}  // namespace

Result<RunningSum> RunningSum::create(const UpdateSpec& spec) {
  COVEY_TRY(spec.check());
  return RunningSum(spec);
}

Status RunningSum::add(const wire::ClearUpdate& update) {
  if (contributors_ >= spec_.contributors_max) return full(spec_);
  COVEY_ASSIGN(const auto q, open_update(spec_, update));
  const auto weight = static_cast<std::int64_t>(update.weight);
  for (std::size_t i = 0; i < q.size(); ++i) words_[i] += weight * q[i];
  weight_ += update.weight;
  ++contributors_;
  return {};
}

Status RunningSum::merge(const RunningSum& other) {
  if (spec_ != other.spec_) return Error{ErrorCode::invalid_argument, "sum: cannot add sums of different plans"};
  if (other.contributors_ > spec_.contributors_max - contributors_) return full(spec_);
  for (std::size_t i = 0; i < words_.size(); ++i) words_[i] += other.words_[i];
  weight_ += other.weight_;
  contributors_ += other.contributors_;
  return {};
}

Result<std::vector<float>> RunningSum::mean() const {
  if (weight_ == 0) return Error{ErrorCode::invalid_argument, "sum: nobody contributed, so there is no mean"};
  const double divisor = static_cast<double>(weight_) * spec_.scale();
  std::vector<float> out(words_.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(static_cast<double>(words_[i]) / divisor);
  return out;
}

Bytes RunningSum::serialize() const {
  Bytes out;
  out.reserve(32 + 8 * words_.size());
  put_u32(out, kMagic);
  put_u32(out, kVersion);
  put_u64(out, words_.size());
  put_u64(out, weight_);
  put_u32(out, contributors_);
  put_u32(out, spec_.value_bits);
  for (const std::int64_t word : words_) put_u64(out, static_cast<std::uint64_t>(word));
  return out;
}

Result<RunningSum> RunningSum::restore(const UpdateSpec& spec, ByteSpan bytes) {
  COVEY_TRY(spec.check());
  const auto corrupt = [](const char* what) {
    return Error{ErrorCode::corrupt_data, std::string("stored sum: ") + what + "; restore the last backup"};
  };
  if (bytes.size() != 32 + 8 * spec.values) return corrupt("has another length than the plan's");
  StateReader in(bytes);
  if (in.u32() != kMagic || in.u32() != kVersion) return corrupt("is not one, or of another version");
  RunningSum sum(spec);
  const std::uint64_t values = in.u64();
  sum.weight_ = in.u64();
  sum.contributors_ = in.u32();
  if (values != spec.values || in.u32() != spec.value_bits) return corrupt("belongs to another plan");
  const std::uint64_t weight_max = std::uint64_t{sum.contributors_} * spec.weight_max;
  if (sum.contributors_ > spec.contributors_max || sum.weight_ < sum.contributors_ || sum.weight_ > weight_max) {
    return corrupt("has more contributors or weight than the plan allows");
  }
  const std::int64_t bound = static_cast<std::int64_t>(sum.weight_) * spec.magnitude_max();
  for (std::int64_t& word : sum.words_) {
    word = static_cast<std::int64_t>(in.u64());
    if (word > bound || word < -bound) return corrupt("a word is larger than its contributors can make it");
  }
  return sum;
}

}  // namespace covey::aggregation

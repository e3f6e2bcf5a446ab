#include "aggregation/running_sum.h"

#include <string>
#include <utility>

#include <cmath>

#include "aggregation/serial.h"
#include "core/base/assert.h"

namespace covey::aggregation {
namespace {

constexpr std::uint32_t kMagic = 0x4d555343;  // "CSUM"
constexpr std::uint32_t kVersion = 2;

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
  double squares = 0;
  for (std::size_t i = 0; i < q.size(); ++i) {
    words_[i] += weight * q[i];
    squares += static_cast<double>(q[i]) * q[i];
  }
  constexpr double kClipped = 0.999;  // a clipped vector has the norm C, give or take its rounding
  if (std::sqrt(squares) < kClipped * spec_.clip_norm * spec_.scale()) ++unclipped_;
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
  unclipped_ += other.unclipped_;
  return {};
}

Result<std::vector<float>> RunningSum::mean() const {
  return over(static_cast<double>(weight_));
}

Result<std::vector<float>> RunningSum::over(double count) const {
  if (weight_ == 0) return Error{ErrorCode::invalid_argument, "sum: nobody contributed, so there is no mean"};
  COVEY_ASSERT(count > 0);
  const double divisor = count * spec_.scale();
  std::vector<float> out(words_.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>(static_cast<double>(words_[i]) / divisor);
  return out;
}

Bytes RunningSum::serialize() const {
  Bytes out;
  out.reserve(36 + 8 * words_.size());
  put_u32(out, kMagic);
  put_u32(out, kVersion);
  put_u64(out, words_.size());
  put_u64(out, weight_);
  put_u32(out, contributors_);
  put_u32(out, spec_.value_bits);
  put_u32(out, unclipped_);
  for (const std::int64_t word : words_) put_u64(out, static_cast<std::uint64_t>(word));
  return out;
}

Result<RunningSum> RunningSum::restore(const UpdateSpec& spec, ByteSpan bytes) {
  COVEY_TRY(spec.check());
  const auto corrupt = [](const char* what) {
    return Error{ErrorCode::corrupt_data, std::string("stored sum: ") + what + "; restore the last backup"};
  };
  if (bytes.size() != 36 + 8 * spec.values) return corrupt("has another length than the plan's");
  StateReader in(bytes);
  if (in.u32() != kMagic || in.u32() != kVersion) return corrupt("is not one, or of another version");
  RunningSum sum(spec);
  const std::uint64_t values = in.u64();
  sum.weight_ = in.u64();
  sum.contributors_ = in.u32();
  if (values != spec.values || in.u32() != spec.value_bits) return corrupt("belongs to another plan");
  sum.unclipped_ = in.u32();
  for (std::int64_t& word : sum.words_) word = static_cast<std::int64_t>(in.u64());
  if (const char* fault = sum.implausible(); fault != nullptr) return corrupt(fault);
  return sum;
}

Result<RunningSum> RunningSum::from_parts(const UpdateSpec& spec, std::vector<std::int64_t> words, std::uint64_t weight,
                                          std::uint32_t contributors) {
  COVEY_TRY(spec.check());
  COVEY_ASSERT(words.size() == spec.values);
  RunningSum sum{UpdateSpec{}};  // not of `spec`: P zeros would be made beside the words
  sum.spec_ = spec;
  sum.words_ = std::move(words);
  sum.weight_ = weight;
  sum.contributors_ = contributors;
  if (const char* fault = sum.implausible(); fault != nullptr) {
    return Error{ErrorCode::corrupt_data, std::string("sum: ") + fault + "; some device sent nonsense"};
  }
  return sum;
}

const char* RunningSum::implausible() const {
  if (unclipped_ > contributors_) return "counts more updates than it has";
  const std::uint64_t weight_max = std::uint64_t{contributors_} * spec_.weight_max;
  if (contributors_ > spec_.contributors_max || weight_ < contributors_ || weight_ > weight_max) {
    return "has more contributors or weight than the plan allows";
  }
  const std::int64_t bound = static_cast<std::int64_t>(weight_) * spec_.magnitude_max() +
                             static_cast<std::int64_t>(std::ceil(spec_.noise_room));
  for (const std::int64_t word : words_) {
    if (word > bound || word < -bound) return "a word is larger than its contributors can make it";
  }
  return nullptr;
}

}  // namespace covey::aggregation

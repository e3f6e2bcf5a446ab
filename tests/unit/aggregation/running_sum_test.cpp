#include "aggregation/running_sum.h"

#include <cmath>

#include "aggregation/quantize.h"
#include "aggregation/strategy.h"
#include "core/base/rng.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;

namespace {

UpdateSpec small_spec() {
  return {.values = 4, .clip_norm = 1.0, .value_bits = 8, .weight_max = 5, .contributors_max = 3};
}

wire::ClearUpdate update_of(const UpdateSpec& spec, const std::vector<std::int32_t>& q, std::uint32_t weight) {
  wire::ClearUpdate update;
  update.weight = weight;
  update.count = static_cast<std::uint32_t>(q.size());
  update.bits = spec.value_bits;
  update.words = pack_signed(q, spec.value_bits);
  return update;
}

RunningSum sum_of(const UpdateSpec& spec) {
  auto made = RunningSum::create(spec);
  REQUIRE_OK(made);
  return *std::move(made);
}

}  // namespace

TEST_CASE("a sum is the weighted sum and its mean is the weighted mean") {
  const UpdateSpec spec = small_spec();
  RunningSum sum = sum_of(spec);
  CHECK_FALSE(sum.mean().ok());
  REQUIRE_OK(sum.add(update_of(spec, {10, -10, 0, 60}, 1)));
  REQUIRE_OK(sum.add(update_of(spec, {2, 6, -4, -20}, 3)));
  CHECK(sum.contributors() == 2);
  CHECK(sum.weight() == 4);
  CHECK(std::vector<std::int64_t>(sum.words().begin(), sum.words().end()) == std::vector<std::int64_t>{16, 8, -12, 0});
  const auto mean = aggregate(Strategy::mean, sum);
  REQUIRE_OK(mean);
  // One unit is 1 / 127, the weights sum to 4.
  CHECK((*mean)[0] == static_cast<float>(16.0 / (4 * 127)));
  CHECK((*mean)[1] == static_cast<float>(8.0 / (4 * 127)));
  CHECK((*mean)[2] == static_cast<float>(-12.0 / (4 * 127)));
  CHECK((*mean)[3] == 0.0F);
}

TEST_CASE("a refused update leaves the sum as it was") {
  const UpdateSpec spec = small_spec();
  RunningSum sum = sum_of(spec);
  REQUIRE_OK(sum.add(update_of(spec, {1, 2, 3, 4}, 2)));
  const RunningSum before = sum;
  CHECK_FALSE(sum.add(update_of(spec, {1, 2, 3}, 2)).ok());
  CHECK_FALSE(sum.add(update_of(spec, {1, 2, 3, 4}, 6)).ok());
  CHECK_FALSE(sum.add(update_of(spec, {1, 2, 3, 4}, 0)).ok());
  CHECK_FALSE(sum.add(update_of(spec, {127, 127, 127, 127}, 1)).ok());  // norm 2, clip 1
  auto torn = update_of(spec, {1, 2, 3, 4}, 1);
  torn.words[3] = 0x80;  // the last word is bad: nothing of the first three may be in
  CHECK_FALSE(sum.add(torn).ok());
  CHECK(sum == before);
}

TEST_CASE("no more contributors than the plan allows come in, alone or merged") {
  const UpdateSpec spec = small_spec();
  RunningSum sum = sum_of(spec);
  for (int i = 0; i < 3; ++i) REQUIRE_OK(sum.add(update_of(spec, {1, 1, 1, 1}, 1)));
  const Status fourth = sum.add(update_of(spec, {1, 1, 1, 1}, 1));
  REQUIRE_FALSE(fourth.ok());
  CHECK(fourth.error().code == ErrorCode::resource_exhausted);
  RunningSum other = sum_of(spec);
  REQUIRE_OK(sum.merge(other));
  REQUIRE_OK(other.add(update_of(spec, {1, 1, 1, 1}, 1)));
  CHECK_FALSE(sum.merge(other).ok());
  UpdateSpec wider = spec;
  wider.clip_norm = 2;
  CHECK_FALSE(sum_of(wider).merge(other).ok());
}

TEST_CASE("the largest sum that a plan allows does not overflow") {
  // 23 + 20 + 18 bits and one of sign.
  const UpdateSpec spec{
      .values = 1, .clip_norm = 1.0, .value_bits = 24, .weight_max = (1U << 20) - 1, .contributors_max = (1U << 18)};
  REQUIRE_OK(spec.check());
  RunningSum sum = sum_of(spec);
  const auto update = update_of(spec, {-((1 << 23) - 1)}, spec.weight_max);
  REQUIRE_OK(sum.add(update));
  // Doubling reaches n = 2^18 contributors; UBSan watches the additions.
  for (int i = 0; i < 18; ++i) REQUIRE_OK(sum.merge(RunningSum(sum)));
  CHECK(sum.contributors() == spec.contributors_max);
  CHECK(sum.words()[0] == -std::int64_t{(1 << 23) - 1} * spec.weight_max * spec.contributors_max);
  CHECK(sum.mean().value()[0] == -1.0F);
  CHECK_FALSE(sum.add(update).ok());
}

TEST_CASE("a stored sum is restored exactly, and a damaged one is refused") {
  const UpdateSpec spec = small_spec();
  RunningSum sum = sum_of(spec);
  REQUIRE_OK(sum.add(update_of(spec, {100, -2, 3, -4}, 5)));
  const Bytes stored = sum.serialize();
  CHECK(stored.size() == 36 + 8 * 4);
  const auto back = RunningSum::restore(spec, stored);
  REQUIRE_OK(back);
  CHECK(*back == sum);

  const auto refused = [&](const UpdateSpec& with, const Bytes& bytes) {
    const auto restored = RunningSum::restore(with, bytes);
    return !restored.ok() && restored.error().code == ErrorCode::corrupt_data;
  };
  for (std::size_t length = 0; length < stored.size(); ++length) {
    CHECK(refused(spec, Bytes(stored.begin(), stored.begin() + static_cast<std::ptrdiff_t>(length))));
  }
  Bytes longer = stored;
  longer.push_back(0);
  CHECK(refused(spec, longer));
  for (const std::size_t byte : {0U, 4U, 8U, 17U, 24U, 28U, 38U, 63U}) {  // magic, version, P, weight, n, bits, words
    Bytes damaged = stored;
    damaged[byte] ^= 0x40;
    CAPTURE(byte);
    CHECK(refused(spec, damaged));
  }
  UpdateSpec other = spec;
  other.values = 5;
  CHECK(refused(other, stored));
  other = spec;
  other.value_bits = 9;
  CHECK(refused(other, stored));
}

TEST_CASE("strategies are known by name") {
  CHECK(strategy_of("mean").value() == Strategy::mean);
  CHECK(strategy_names().front() == "mean");
  CHECK(traits(Strategy::mean).needs_only_sums);
  CHECK(strategy_of("average").error().message.starts_with("strategy: `average` is not known; write one of mean, "));
}

#include "aggregation/update.h"

#include <cmath>
#include <limits>

#include "aggregation/clip.h"
#include "aggregation/quantize.h"
#include "aggregation/strategy.h"
#include "core/base/rng.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;

namespace {

wire::RoundPlan plan_of(double clip = 2.0, std::uint32_t bits = 12) {
  wire::RoundPlan plan;
  plan.round = RoundId{7};
  plan.clip_norm = clip;
  plan.value_bits = bits;
  plan.weight_max = 10;
  plan.cohort_invited = 16;
  return plan;
}

RandomBits words_of(std::uint32_t value) {
  return [value](std::span<std::uint32_t> out) {
    for (auto& word : out) word = value;
  };
}

std::vector<float> normal_vector(std::size_t values, std::uint64_t seed, float scale = 1) {
  std::vector<float> out(values);
  CounterRng(seed).fill_normal(out);
  for (float& x : out) x *= scale;
  return out;
}

const wire::Hash kPlanHash{1, 2, 3};

}  // namespace

TEST_CASE("clipping brings a vector to the norm and leaves a shorter one alone") {
  const std::vector<float> x = {3, 4};
  CHECK(l2_norm(x) == 5.0);
  CHECK(clip_factor(x, 10).value() == 1.0);
  CHECK(clip_factor(x, 5).value() == 1.0);
  CHECK(clip_factor(x, 1).value() == doctest::Approx(0.2));
  CHECK(clip_factor(std::vector<float>{0, 0}, 1).value() == 1.0);
  CHECK(std::isfinite(l2_norm(std::vector<float>(1000, std::numeric_limits<float>::max()))));
}

TEST_CASE("values that are not finite leave no device") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    const std::vector<float> delta = {1, bad, 2};
    const auto made = protect(plan_of(), kPlanHash, delta, 1, words_of(0));
    REQUIRE_FALSE(made.ok());
    CHECK(made.error().code == ErrorCode::invalid_argument);
    CHECK(made.error().message == "delta: holds values that are not finite; lower the learning rate");
  }
}

TEST_CASE("stochastic rounding goes up exactly as often as the fraction says") {
  const std::vector<float> x = {2.25F, -2.25F, 3.0F, -3.0F, 0.0F};
  CHECK(quantize(x, 1, 100, words_of(0)) == std::vector<std::int32_t>{3, -2, 3, -3, 0});
  CHECK(quantize(x, 1, 100, words_of(~0U)) == std::vector<std::int32_t>{2, -3, 3, -3, 0});
  // The thresholds: 0.25 * 2^32 going up for 2.25, 0.75 * 2^32 for -2.25.
  CHECK(quantize(x, 1, 100, words_of((1U << 30) - 1)) == std::vector<std::int32_t>{3, -2, 3, -3, 0});
  CHECK(quantize(x, 1, 100, words_of(1U << 30)) == std::vector<std::int32_t>{2, -2, 3, -3, 0});
  CHECK(quantize(x, 1, 100, words_of(3U << 30)) == std::vector<std::int32_t>{2, -3, 3, -3, 0});
  CHECK(quantize(x, 100, 100, words_of(0)) == std::vector<std::int32_t>{100, -100, 100, -100, 0});
}

TEST_CASE("stochastic rounding is unbiased") {
  const std::vector<float> x(200'000, 0.3F);
  const auto q = quantize(x, 1, 7, seeded_bits({4}));
  double sum = 0;
  for (const std::int32_t value : q) {
    REQUIRE((value == 0 || value == 1));
    sum += value;
  }
  // Standard deviation of the mean is sqrt(0.21 / 200000) = 0.00102; five of them.
  CHECK(std::abs(sum / 200'000 - 0.3) < 0.0052);
}

TEST_CASE("every width packs and unpacks to the same values in its own number of bytes") {
  Rng rng(5);
  for (std::uint32_t bits = kValueBitsMin; bits <= kValueBitsMax; ++bits) {
    for (const std::size_t count : {0U, 1U, 2U, 7U, 8U, 9U, 1000U}) {
      const std::int32_t magnitude = (1 << (bits - 1)) - 1;
      std::vector<std::int32_t> q(count);
      for (auto& value : q) {
        value = static_cast<std::int32_t>(rng.below(2 * static_cast<std::uint64_t>(magnitude) + 1)) - magnitude;
      }
      if (count > 1) {
        q[0] = magnitude;
        q[1] = -magnitude;
      }
      const Bytes packed = pack_signed(q, bits);
      CHECK(packed.size() == (count * bits + 7) / 8);
      const auto back = unpack_signed(packed, count, bits);
      REQUIRE_OK(back);
      CHECK(*back == q);
    }
  }
}

TEST_CASE("the packed form is a little-endian bit string in two's complement") {
  CHECK(pack_signed(std::vector<std::int32_t>{1, -1, 2, -2}, 4) == Bytes{0xf1, 0xe2});
  CHECK(pack_signed(std::vector<std::int32_t>{1, -1, 3}, 3) == Bytes{0xf9, 0x00});
  CHECK(pack_signed(std::vector<std::int32_t>{-2047, 2047}, 12) == Bytes{0x01, 0xf8, 0x7f});
}

TEST_CASE("a second packed form of the same values is refused") {
  CHECK(unpack_signed(Bytes{0xf9, 0x00}, 3, 3).ok());
  CHECK_FALSE(unpack_signed(Bytes{0xf9, 0x02}, 3, 3).ok());        // a fill bit
  CHECK_FALSE(unpack_signed(Bytes{0xf9, 0x80}, 3, 3).ok());        // the last fill bit
  CHECK_FALSE(unpack_signed(Bytes{0xf9, 0x00, 0x00}, 3, 3).ok());  // a byte too many
  CHECK_FALSE(unpack_signed(Bytes{0xf9}, 3, 3).ok());              // a byte missing
  CHECK_FALSE(unpack_signed(Bytes{0x04}, 1, 3).ok());              // -4 has no opposite
}

TEST_CASE("an update carries what the plan says and opens to the clipped delta") {
  const auto plan = plan_of();
  const auto delta = normal_vector(500, 1);  // norm about 22, clipped to 2
  const auto made = protect(plan, kPlanHash, delta, 25, seeded_bits({1}));
  REQUIRE_OK(made);
  CHECK(made->round == RoundId{7});
  CHECK(made->plan == kPlanHash);
  CHECK(made->weight == 10);  // held to weight_max
  CHECK(made->count == 500);
  CHECK(made->bits == 12);
  CHECK(made->words.size() == 750);
  const auto spec = UpdateSpec::of(plan, 500);
  const auto q = open_update(spec, *made);
  REQUIRE_OK(q);
  const double factor = 2.0 / l2_norm(delta) * spec.scale();
  for (std::size_t i = 0; i < delta.size(); ++i) CHECK(std::abs((*q)[i] - delta[i] * factor) < 1.0);
  CHECK(protect(plan, kPlanHash, delta, 0, seeded_bits({1}))->weight == 1);
}

TEST_CASE("the same seed gives the same update and another seed another one") {
  const auto delta = normal_vector(3000, 2);
  const auto first = protect(plan_of(), kPlanHash, delta, 1, seeded_bits({9}));
  CHECK(first->words == protect(plan_of(), kPlanHash, delta, 1, seeded_bits({9}))->words);
  for (const std::size_t byte : {0U, 8U, 16U, 24U, 31U}) {
    std::array<std::uint8_t, 32> seed{9};
    seed[byte] ^= 1;
    CHECK(first->words != protect(plan_of(), kPlanHash, delta, 1, seeded_bits(seed))->words);
  }
}

TEST_CASE("no clear update is made in a mode that promises more") {
  for (const auto mode : {wire::PrivacyMode::secure, wire::PrivacyMode::grouped}) {
    auto plan = plan_of();
    plan.mode = mode;
    const auto made = protect(plan, kPlanHash, normal_vector(10, 1), 1, seeded_bits({1}));
    REQUIRE_FALSE(made.ok());
    CHECK(made.error().code == ErrorCode::unsupported);
  }
  CHECK(check_supported(Strategy::mean, wire::PrivacyMode::secure).ok());
  CHECK_FALSE(check_supported(Strategy::median, wire::PrivacyMode::secure).ok());  // it would need single updates
  CHECK(check_supported(Strategy::median, wire::PrivacyMode::grouped).ok());       // it sees the means of groups
  CHECK(check_supported(Strategy::mean, wire::PrivacyMode::robust).ok());
}

TEST_CASE("an impossible plan is refused by both sides") {
  const auto refused = [](auto change) {
    auto plan = plan_of();
    change(plan);
    const bool by_device = !protect(plan, kPlanHash, normal_vector(10, 1), 1, seeded_bits({1})).ok();
    const bool by_coordinator = !UpdateSpec::of(plan, 10).check().ok();
    CHECK(by_device == by_coordinator);
    return by_device;
  };
  CHECK_FALSE(refused([](auto&) {}));
  CHECK(refused([](auto& plan) { plan.clip_norm = 0; }));
  CHECK(refused([](auto& plan) { plan.clip_norm = -1; }));
  CHECK(refused([](auto& plan) { plan.clip_norm = std::numeric_limits<double>::quiet_NaN(); }));
  CHECK(refused([](auto& plan) { plan.clip_norm = std::numeric_limits<double>::infinity(); }));
  CHECK(refused([](auto& plan) { plan.value_bits = 1; }));
  CHECK(refused([](auto& plan) { plan.value_bits = 25; }));
  CHECK(refused([](auto& plan) { plan.value_bits = 0; }));
  CHECK(refused([](auto& plan) { plan.weight_max = 0; }));
  CHECK(refused([](auto& plan) { plan.cohort_invited = 0; }));
  CHECK(refused([](auto& plan) {
    plan.weight_max = 0xffffffff;  // 11 + 32 + 20 bits
    plan.cohort_invited = 1 << 19;
  }));
  CHECK_FALSE(UpdateSpec::of(plan_of(), 0).check().ok());
  CHECK_FALSE(UpdateSpec::of(plan_of(), kValuesMax + 1).check().ok());
}

TEST_CASE("an update that breaks the plan is refused") {
  const auto plan = plan_of();
  const auto spec = UpdateSpec::of(plan, 100);
  const auto good = protect(plan, kPlanHash, normal_vector(100, 3), 4, seeded_bits({1}));
  REQUIRE_OK(good);
  REQUIRE(open_update(spec, *good).ok());
  const auto refused = [&](auto change) {
    wire::ClearUpdate update = *good;
    change(update);
    const auto opened = open_update(spec, update);
    return !opened.ok() && opened.error().code == ErrorCode::invalid_argument;
  };
  CHECK(refused([](auto& u) { u.count = 99; }));
  CHECK(refused([](auto& u) { u.count = 101; }));
  CHECK(refused([](auto& u) { u.bits = 13; }));
  CHECK(refused([](auto& u) { u.weight = 0; }));
  CHECK(refused([](auto& u) { u.weight = 11; }));
  CHECK(refused([](auto& u) { u.words.pop_back(); }));
  CHECK(refused([](auto& u) { u.words.push_back(0); }));
  CHECK(refused([](auto& u) { u.words.clear(); }));
  // Every value at the largest magnitude: a norm of 10 x the clip.
  CHECK(refused([](auto& u) { u.words = pack_signed(std::vector<std::int32_t>(100, 2047), 12); }));
}

TEST_CASE("rounding alone never pushes an honest update over the norm that the coordinator checks") {
  for (const std::uint32_t bits : {2U, 3U, 4U, 8U, 16U, 24U}) {
    for (const std::size_t values : {1U, 2U, 17U, 4000U}) {
      const auto plan = plan_of(1.0, bits);
      const auto delta = normal_vector(values, bits, 100);
      for (const std::uint32_t word : {0U, ~0U}) {
        const auto made = protect(plan, kPlanHash, delta, 1, words_of(word));
        REQUIRE_OK(made);
        CHECK(open_update(UpdateSpec::of(plan, values), *made).ok());
      }
    }
  }
}

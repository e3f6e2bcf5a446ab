#include <algorithm>
#include <cmath>

#include "aggregation/clip.h"
#include "aggregation/robust_rules.h"
#include "aggregation/robust_set.h"
#include "aggregation/strategy.h"
#include "core/base/rng.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;

namespace {

using Matrix = std::vector<std::vector<float>>;

RuleConfig rule(Strategy strategy) {
  RuleConfig config;
  config.rule = strategy;
  return config;
}

const std::vector<Strategy>& robust_rules() {
  static const std::vector<Strategy> all = {Strategy::median,          Strategy::trimmed_mean,     Strategy::krum,
                                            Strategy::multi_krum,      Strategy::geometric_median, Strategy::norm_bound,
                                            Strategy::centred_clipping};
  return all;
}

/// n vectors around (1, 1, ...) with standard deviation 0.1.
Matrix honest(std::size_t n, std::size_t values, std::uint64_t seed) {
  Matrix out(n, std::vector<float>(values));
  for (std::size_t r = 0; r < n; ++r) {
    CounterRng(seed, r).fill_normal(out[r]);
    for (float& x : out[r]) x = 1 + 0.1F * x;
  }
  return out;
}

double distance_from_ones(const std::vector<float>& x) {
  double sum = 0;
  for (const float value : x) sum += (value - 1.0) * (value - 1.0);
  return std::sqrt(sum / static_cast<double>(x.size()));
}

}  // namespace

TEST_CASE("the published examples of median, trimmed mean, Krum and Multi-Krum come out") {
  const Matrix four = {{1, .2F, .5F, 1}, {.2F, .5F, 1, .2F}, {.5F, 1, .2F, .5F}};
  CHECK(coordinate_median(four).value() == std::vector<float>(4, .5F));
  const Matrix column = {{.5F}, {1}, {2}, {100}};
  CHECK(trimmed_mean(column, .25).value().at(0) == doctest::Approx(1.5));
  const Matrix five = {{.1F}, {.2F}, {.35F}, {.6F}, {10}};
  CHECK(multi_krum(five, 1, 1).value().at(0) == .2F);
  CHECK(multi_krum(five, 1, 3).value().at(0) == doctest::Approx(.216667).epsilon(1e-5));
}

TEST_CASE("an even number of updates has the mean of the two middle ones as its median") {
  CHECK(coordinate_median(Matrix{{1}, {2}, {4}, {100}}).value().at(0) == 3.0F);
}

TEST_CASE("the geometric median of points on a line is their middle one, of a square its centre") {
  CHECK(geometric_median(Matrix{{0}, {1}, {10}}).value().at(0) == doctest::Approx(1).epsilon(1e-3));
  const auto centre = geometric_median(Matrix{{0, 0}, {2, 0}, {0, 2}, {2, 2}}).value();
  CHECK(centre[0] == doctest::Approx(1));
  CHECK(centre[1] == doctest::Approx(1));
}

TEST_CASE("a norm bound scales long updates and leaves short ones") {
  const auto mean = norm_bounded_mean(Matrix{{3, 4}, {0, 1}}, 1).value();
  CHECK(mean[0] == doctest::Approx(0.3));
  CHECK(mean[1] == doctest::Approx(0.9));
}

TEST_CASE("every rule gives the same bits in whatever order the updates come") {
  Matrix rows = honest(11, 33, 5);
  rows[3] = rows[7];  // equal rows too
  for (const Strategy strategy : robust_rules()) {
    CAPTURE(std::string(traits(strategy).name));
    const auto wanted = aggregate(rule(strategy), rows).value();
    Rng rng(9);
    for (int shuffle = 0; shuffle < 10; ++shuffle) {
      Matrix other = rows;
      rng.shuffle(other);
      CHECK(aggregate(rule(strategy), other).value() == wanted);
    }
  }
}

TEST_CASE("a fifth of the updates cannot move a robust rule far, and moves the mean at will") {
  for (const float bad : {-10.0F, 1e6F, -1e20F}) {
    Matrix rows = honest(20, 50, 3);
    for (std::size_t r = 0; r < 4; ++r) rows[r].assign(50, bad);
    for (const Strategy strategy : robust_rules()) {
      CAPTURE(std::string(traits(strategy).name));
      CAPTURE(bad);
      const auto out = aggregate(rule(strategy), rows);
      REQUIRE_OK(out);
      // A norm bound lets each bad update pull by its share: 0.8 - 0.2 or 0.8 + 0.2 of the honest length.
      const double allowed = strategy == Strategy::norm_bound ? 0.45 : 0.15;
      CHECK(distance_from_ones(*out) < allowed);
    }
    CHECK(distance_from_ones(trimmed_mean(rows, 0).value()) > 2);  // nothing cut: the mean
  }
}

TEST_CASE("a majority of bad updates does move the median: the breakdown point is a half") {
  Matrix rows = honest(9, 10, 1);
  for (std::size_t r = 0; r < 4; ++r) rows[r].assign(10, -100);
  CHECK(distance_from_ones(coordinate_median(rows).value()) < 0.3);
  rows[4].assign(10, -100);
  CHECK(distance_from_ones(coordinate_median(rows).value()) > 50);
}

TEST_CASE("Krum refuses fewer than 2 f + 3 updates, at the start and at the close") {
  CHECK_FALSE(multi_krum(honest(4, 2, 1), 1, 1).ok());
  CHECK(multi_krum(honest(5, 2, 1), 1, 1).ok());
  CHECK_FALSE(multi_krum(honest(5, 2, 1), 1, 5).ok());
  RuleConfig config = rule(Strategy::krum);
  CHECK(config.check(5, 12).ok());
  config.byzantine =
      0.25;  // one of five, but of eight two, and eight would do for them; of four one, which is too many
  CHECK(config.check(5, 12).ok());
  const Status few = config.check(4, 12);
  REQUIRE_FALSE(few.ok());
  CHECK(few.error().message.find("raise `min`") != std::string::npos);
}

TEST_CASE("rules refuse no updates, unequal lengths and values that are not finite") {
  for (const Strategy strategy : robust_rules()) {
    CAPTURE(std::string(traits(strategy).name));
    CHECK_FALSE(aggregate(rule(strategy), Matrix{}).ok());
    CHECK_FALSE(aggregate(rule(strategy), Matrix{{1}, {1}, {1, 2}, {1}, {1}}).ok());
    CHECK_FALSE(aggregate(rule(strategy), Matrix{{1}, {1}, {NAN}, {1}, {1}}).ok());
  }
  CHECK_FALSE(strategy_of("average").ok());
  for (const std::string& name : strategy_names()) CHECK(traits(strategy_of(name).value()).name == name);
}

TEST_CASE("a set of single updates keeps what was sent and says what memory it may take") {
  wire::RoundPlan plan;
  plan.clip_norm = 2;
  plan.value_bits = 16;
  plan.weight_max = 4;
  plan.cohort_invited = 3;
  const UpdateSpec spec = UpdateSpec::of(plan, 5);
  auto set = RobustSet::create(spec).value();
  const std::vector<float> delta = {.1F, -.2F, .3F, 0, 1};
  for (std::uint8_t i = 0; i < 3; ++i) {
    const auto update = protect(plan, {}, delta, 2, seeded_bits({i}));
    REQUIRE_OK(update);
    REQUIRE_OK(set.add(*update));
    if (i == 2) CHECK(set.add(*update).error().code == ErrorCode::resource_exhausted);
  }
  CHECK(set.contributors() == 3);
  CHECK(set.weight() == 6);
  for (const auto& row : set.rows()) {
    for (std::size_t i = 0; i < delta.size(); ++i) CHECK(std::abs(row[i] - delta[i]) <= 1.0001 / spec.scale());
  }
  CHECK(RobustSet::memory_bytes(spec) == 3 * (10 + 20 + 24));
}

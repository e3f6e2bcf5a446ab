#include <bit>
#include <cmath>

#include "aggregation/clip.h"
#include "aggregation/dp_distributed.h"
#include "aggregation/dp_ftrl.h"
#include "aggregation/dp_gaussian.h"
#include "aggregation/dp_ledger.h"
#include "core/base/rng.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;
using namespace covey::aggregation::dp;

namespace {

NoiseBits device_bits(std::uint8_t seed) {
  return NoiseBits(Bytes(32, seed));
}

DistributedConfig config_of(Distributed mechanism, std::uint32_t n_min = 40) {
  return {mechanism, 1.0, 0.1, n_min};
}

double epsilon_of(const std::vector<double>& charge) {
  Ledger ledger({1e6, 1e-6});
  REQUIRE_OK(ledger.charge(charge));
  return ledger.epsilon();
}

template <typename T>
double mean_square(const std::vector<T>& values) {
  double sum = 0;
  for (const T value : values) sum += static_cast<double>(value) * static_cast<double>(value);
  return sum / static_cast<double>(values.size());
}

}  // namespace

TEST_CASE("conditional rounding never passes the rounded sensitivity, where plain rounding does") {
  // A vector of halves: rounding adds P/4 to the squared norm on average.
  const std::vector<float> x(400, 0.5F);
  const double norm = l2_norm(x);
  const double allowed = rounded_sensitivity(norm, x.size(), rounding_beta());
  CHECK(allowed < norm + 20);
  Rng rng(4);
  const RandomBits random = [&](std::span<std::uint32_t> out) {
    for (auto& word : out) word = rng.next_u32();
  };
  for (int i = 0; i < 200; ++i) {
    const auto q = round_conditionally(x, 1, norm, 1000, random);
    REQUIRE_OK(q);
    CHECK(std::sqrt(mean_square(*q) * 400) <= allowed * (1 + 1e-12));
    for (const std::int32_t value : *q) CHECK((value == 0 || value == 1));
  }
  CHECK_FALSE(round_conditionally(x, 1, norm / 2, 1000, random).ok());
  // By hand: beta = e^(-1/2) makes the root 1, so 10^2 + 400/4 + (10 + 10) = 220.
  CHECK(rounded_sensitivity(10, 400, rounding_beta()) == doctest::Approx(std::sqrt(220.0)));
  CHECK(rounded_sensitivity(0, 4, 1e-30) == doctest::Approx(2));
}

TEST_CASE("the shares of the counted-on devices make the sum's noise; colluders' shares are not counted") {
  for (const auto mechanism : {Distributed::discrete_gaussian, Distributed::skellam}) {
    const DistributedConfig config = config_of(mechanism);
    CHECK(config.honest_min() == 36);
    CHECK(DistributedConfig{mechanism, 1, 0.33, 10}.honest_min() == 7);
    std::vector<std::int32_t> sum(4000);
    for (std::uint32_t device = 0; device < config.honest_min(); ++device) {
      NoiseBits bits = device_bits(static_cast<std::uint8_t>(device));
      add_noise_share(config, 50, sum, bits);
    }
    CHECK(mean_square(sum) == doctest::Approx(2500).epsilon(0.1));
    CHECK(noise_room(config, 50, 36) == doctest::Approx(12 * 50));
  }
}

TEST_CASE("large shares cost what a Gaussian costs, small ones more, and Skellam a little more") {
  const std::size_t values = 10'000;
  const double gaussian = epsilon_of(Ledger::concentrated(0.5));
  const double discrete = epsilon_of(distributed_charge(config_of(Distributed::discrete_gaussian), 1000, values));
  const double skellam_cost = epsilon_of(distributed_charge(config_of(Distributed::skellam), 1000, values));
  CHECK(discrete == doctest::Approx(gaussian).epsilon(1e-6));
  CHECK(skellam_cost >= gaussian);
  CHECK(skellam_cost < 1.05 * gaussian);
  // A share of deviation 0.58: far from Gaussian sums, and the bound says so.
  CHECK(epsilon_of(distributed_charge(config_of(Distributed::discrete_gaussian), 3.5, values)) > 1.2 * gaussian);
}

TEST_CASE("distributed noise is refused where a share would be too fine or its settings make no sense") {
  CHECK(config_of(Distributed::skellam).check(1000).ok());
  CHECK(config_of(Distributed::skellam).check(1).error().message.find("value_bits") != std::string::npos);
  DistributedConfig config = config_of(Distributed::skellam);
  config.gamma = 1;
  CHECK_FALSE(config.check(1000).ok());
  config = config_of(Distributed::skellam, 0);
  CHECK_FALSE(config.check(1000).ok());
}

TEST_CASE("tree noise of a prefix is one node for each set bit of its length") {
  const TreeNoise tree(Bytes(32, 3), 20, 4000);
  std::vector<std::int64_t> prefix(4000);
  for (std::uint64_t t = 0; t < 16; ++t) {
    const auto round = tree.of_round(t);
    CHECK(round == tree.of_round(t));
    for (std::size_t i = 0; i < prefix.size(); ++i) prefix[i] += round[i];
    const int nodes = std::popcount(t + 1);
    CHECK(mean_square(prefix) == doctest::Approx(400.0 * nodes).epsilon(0.12));
  }
}

TEST_CASE("a tree's sensitivity counts levels, and participations that share nodes") {
  CHECK(tree_sensitivity({1600, 1600, 1}) == doctest::Approx(std::sqrt(11.0)));
  CHECK(Participation{100, 30, 9}.times() == 4);
  // By hand, n = 4, b = 2, k = 2: leaves 2, pairs 2, the root 2^2.
  CHECK(tree_sensitivity({4, 2, 2}) == doctest::Approx(std::sqrt(8.0)));
}

TEST_CASE("a BLT's noise is turned back into independent noise by its matrix") {
  const Blt blt = Blt::fitted(3, 64);
  REQUIRE_OK(blt.check());
  const auto c = blt.coefficients(20);
  CHECK(c[0] == 1);
  CHECK(c[1] == doctest::Approx(0.5));
  BltNoise noise(blt, 2);
  std::vector<std::vector<double>> made;
  Rng rng(1);
  for (std::size_t t = 0; t < 20; ++t) {
    std::vector<double> z = {rng.normal(), rng.normal()};
    const auto drawn = z;
    if (t == 9) {  // over a restart
      BltNoise other(blt, 2);
      CHECK_FALSE(other.restore(Bytes(3)).ok());
      REQUIRE_OK(other.restore(noise.serialize()));
      noise = other;
    }
    noise.correlate(z);
    made.push_back(z);
    for (std::size_t i = 0; i < 2; ++i) {
      double back = 0;
      for (std::size_t s = 0; s <= t; ++s) back += c[t - s] * made[s][i];
      CHECK(back == doctest::Approx(drawn[i]));
    }
  }
}

TEST_CASE("a BLT's sensitivity is the largest over all allowed participations") {
  const Blt blt = Blt::fitted(2, 10);
  const auto c = blt.coefficients(10);
  const Participation participation{10, 3, 3};
  double largest = 0;
  for (unsigned pattern = 0; pattern < 1024; ++pattern) {
    if (static_cast<std::size_t>(std::popcount(pattern)) > participation.times_max) continue;
    bool apart = true;
    for (unsigned i = 0; i < 10; ++i) {
      if ((pattern >> i & 1) != 0 && (pattern >> (i + 1) & 3) != 0) apart = false;
    }
    if (!apart) continue;
    double squares = 0;
    for (std::size_t row = 0; row < 10; ++row) {
      double sum = 0;
      for (std::size_t i = 0; i <= row; ++i) sum += (pattern >> i & 1) != 0 ? c[row - i] : 0;
      squares += sum * sum;
    }
    largest = std::max(largest, std::sqrt(squares));
  }
  CHECK(blt.sensitivity(participation) == doctest::Approx(largest));
}

TEST_CASE(
    "for the same privacy a BLT's prefix sums have less noise than a tree's, and far less than independent noise") {
  const std::size_t rounds = 1024;
  const Participation once{rounds, rounds, 1};
  const double independent = std::sqrt(static_cast<double>(rounds));
  const double tree = tree_sensitivity(once) * std::sqrt(10.0);  // ten bits set in 1,023
  const Blt fitted = Blt::fitted(4, rounds);
  const double blt = fitted.sensitivity(once) * fitted.worst_prefix_deviation(rounds);
  CAPTURE(blt);
  CHECK(tree < 0.4 * independent);
  CHECK(blt < 0.5 * tree);
  CHECK(blt > 1 + std::log(static_cast<double>(rounds)) / 3.15 - 0.6);  // no matrix is below about this
  CHECK_FALSE(Blt{{1.0}, {0.5}}.check().ok());
  CHECK_FALSE(Blt{{0.5, 0.2}, {0.5}}.check().ok());
}

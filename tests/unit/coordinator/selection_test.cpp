#include "coordinator/selection.h"

#include <map>

#include "core/base/rng.h"
#include "machine_world.h"
#include "tests/support/support.h"

namespace covey::coordinator {
using test_world::device_number;

TEST_CASE("uniform selection draws exactly the places there are, the same for every order of check-in") {
  std::vector<DeviceId> present;
  for (int i = 1; i <= 50; ++i) present.push_back(device_number(i));
  int drawn = 0;
  for (const DeviceId& device : present) {
    if (draw_uniform({.seed = 5, .round = RoundId{3}, .wanted = 10}, device, present).drawn) ++drawn;
  }
  CHECK(drawn == 10);
}

TEST_CASE("uniform selection gives every device its share over many rounds") {
  std::vector<DeviceId> present;
  for (int i = 1; i <= 10; ++i) present.push_back(device_number(i));
  std::vector<int> times(10);
  for (std::uint64_t round = 1; round <= 2000; ++round) {
    for (std::size_t i = 0; i < 10; ++i) {
      times[i] += draw_uniform({.seed = 1, .round = RoundId{round}, .wanted = 3}, present[i], present).drawn ? 1 : 0;
    }
  }
  // Binomial(2000, 0.3): mean 600, standard deviation 20.5; five of them.
  for (const int count : times) CHECK(std::abs(count - 600) < 103);
}

TEST_CASE("sortition draws as many as its threshold says on average, anew each round and each epoch") {
  const std::uint64_t below = draw_threshold(30, 100);
  int all = 0;
  int same = 0;
  for (std::uint64_t round = 1; round <= 200; ++round) {
    const DrawState state{.seed = 1, .round = RoundId{round}, .wanted = 1'000};
    for (int i = 1; i <= 100; ++i) {
      const bool drawn = draw_sortition(state, {1}, below, device_number(i)).drawn;
      all += drawn ? 1 : 0;
      same += drawn == draw_sortition(state, {2}, below, device_number(i)).drawn ? 1 : 0;
    }
  }
  CHECK(std::abs(all - 6000) < 325);    // Binomial(20000, 0.3): standard deviation 65; five of them
  CHECK(std::abs(same - 11600) < 350);  // equal by chance: 0.3^2 + 0.7^2
  CHECK(draw_threshold(100, 100) == ~std::uint64_t{0});
  CHECK(draw_threshold(5, 0) == ~std::uint64_t{0});
  CHECK(draw_threshold(1e-30, 100) == 1);  // 0 would mean: no sortition
  const DrawState full{.seed = 1, .round = RoundId{1}, .wanted = 2, .taken = 2};
  CHECK_FALSE(draw_sortition(full, {1}, ~std::uint64_t{0}, device_number(1)).drawn);
}

TEST_CASE("a full round draws nobody") {
  const Choice choice = draw_uniform({.seed = 1, .round = RoundId{1}, .wanted = 2, .taken = 2}, device_number(1), {});
  CHECK(!choice.drawn);
  CHECK(choice.reason == "uniform: all 2 places are taken");
}

TEST_CASE("the index of competitors knows every rank that a look at all of them finds, while devices come and go") {
  std::map<DeviceId, std::int64_t> seen;
  const auto last_seen = [&](const DeviceId& device) { return seen.at(device); };
  Competitors index(7, RoundId{4});
  Rng rng(11);
  for (std::int64_t now = 0; now < 3000; ++now) {
    const DeviceId device = device_number(static_cast<int>(1 + rng.below(200)));
    seen[device] = now;
    index.expire(now - 150, last_seen);
    index.add(device, now);
    std::vector<DeviceId> present;
    for (const auto& [other, at] : seen) {
      if (at >= now - 150) present.push_back(other);
    }
    REQUIRE(index.size() == present.size());
    const DrawState state{.seed = 7, .round = RoundId{4}, .wanted = 20};
    const Choice looked = draw_uniform(state, device, present);
    const Choice indexed = draw_at_rank(state, index.before(device) + 1, index.size());
    REQUIRE(indexed.reason == looked.reason);
    REQUIRE(indexed.drawn == looked.drawn);
  }
}

}  // namespace covey::coordinator

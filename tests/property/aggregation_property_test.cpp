/// The aggregate of a round depends on who contributed what, and on nothing else.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "aggregation/clip.h"
#include "aggregation/quantize.h"
#include "aggregation/running_sum.h"
#include "aggregation/server_optimizer.h"
#include "aggregation/update.h"
#include "core/base/rng.h"
#include "core/store/memory_store.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;

namespace {

struct World {
  wire::RoundPlan plan;
  UpdateSpec spec;
  std::vector<std::vector<float>> deltas;
  std::vector<wire::ClearUpdate> updates;
};

/// A round of `devices` with everything else drawn from the seed: P, m, C, w_max, deltas, weights.
World world_of(std::uint64_t seed, std::uint32_t devices) {
  Rng rng(seed);
  World world;
  world.plan.round = RoundId{seed};
  world.plan.clip_norm = std::exp(rng.normal());
  world.plan.value_bits = static_cast<std::uint32_t>(4 + rng.below(21));
  world.plan.weight_max = static_cast<std::uint32_t>(1 + rng.below(1000));
  world.plan.cohort_invited = devices;
  const std::size_t values = 1 + rng.below(300);
  world.spec = UpdateSpec::of(world.plan, values);
  for (std::uint64_t d = 0; d < devices; ++d) {
    std::vector<float> delta(values);
    CounterRng(seed, d + 1).fill_normal(delta);
    const auto spread = static_cast<float>(std::exp(2 * rng.normal()));
    for (float& x : delta) x *= spread;
    std::array<std::uint8_t, 32> entropy{};
    for (auto& byte : entropy) byte = static_cast<std::uint8_t>(rng.below(256));
    auto made = protect(world.plan, {}, delta, 1 + rng.below(1500), seeded_bits(entropy));
    REQUIRE_OK(made);
    world.updates.push_back(*std::move(made));
    world.deltas.push_back(std::move(delta));
  }
  return world;
}

RunningSum empty_sum(const World& world) {
  auto sum = RunningSum::create(world.spec);
  REQUIRE_OK(sum);
  return *std::move(sum);
}

RunningSum sum_in_order(const World& world, const std::vector<std::size_t>& order) {
  RunningSum sum = empty_sum(world);
  for (const std::size_t i : order) REQUIRE_OK(sum.add(world.updates[i]));
  return sum;
}

std::vector<std::size_t> counting(std::size_t n) {
  std::vector<std::size_t> out(n);
  std::iota(out.begin(), out.end(), std::size_t{0});
  return out;
}

}  // namespace

TEST_CASE("every order of arrival gives the same bits") {
  const World world = world_of(1, 6);
  std::vector<std::size_t> order = counting(6);
  const RunningSum expected = sum_in_order(world, order);
  int orders = 0;
  do {
    const RunningSum sum = sum_in_order(world, order);
    REQUIRE(sum == expected);
    REQUIRE(sum.serialize() == expected.serialize());
    ++orders;
  } while (std::ranges::next_permutation(order).found);
  CHECK(orders == 720);
}

TEST_CASE("group commits and restarts between them leave the bits as they are") {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    Rng rng(seed, 7);
    const auto devices = static_cast<std::uint32_t>(1 + rng.below(20));
    const World world = world_of(seed, devices);
    std::vector<std::size_t> order = counting(devices);
    const RunningSum expected = sum_in_order(world, order);
    rng.shuffle(order);

    // The coordinator of this world adds in memory, commits {sum, contributors} now and then, and is killed at times:
    // what came after the last commit was not acknowledged, so those devices send again.
    store::MemoryStore disk;
    RunningSum sum = empty_sum(world);
    std::vector<std::size_t> uncommitted;
    int restarts = 0;
    while (!order.empty() || !uncommitted.empty()) {
      if (!order.empty()) {
        REQUIRE_OK(sum.add(world.updates[order.back()]));
        uncommitted.push_back(order.back());
        order.pop_back();
      }
      const std::uint64_t fate = rng.below(4);
      if (fate == 0 || order.empty()) {
        REQUIRE_OK(disk.put("sums", store::key_of(RoundId{seed}), sum.serialize()));
        uncommitted.clear();
      } else if (fate == 1 && restarts < 20) {
        ++restarts;
        const auto stored = disk.get("sums", store::key_of(RoundId{seed}));
        REQUIRE_OK(stored);
        if (stored->has_value()) {
          auto restored = RunningSum::restore(world.spec, **stored);
          REQUIRE_OK(restored);
          sum = *std::move(restored);
        } else {
          sum = empty_sum(world);
        }
        order.insert(order.end(), uncommitted.begin(), uncommitted.end());
        rng.shuffle(order);
        uncommitted.clear();
      }
    }
    CAPTURE(seed);
    REQUIRE(sum == expected);
    REQUIRE(sum.mean().value() == expected.mean().value());
  }
}

TEST_CASE("sums of any partition merge to the sum of all") {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    const World world = world_of(seed, 12);
    Rng rng(seed, 8);
    std::vector<RunningSum> shards(1 + rng.below(5), empty_sum(world));
    for (const auto& update : world.updates) REQUIRE_OK(shards[rng.below(shards.size())].add(update));
    rng.shuffle(shards);
    RunningSum total = empty_sum(world);
    for (const RunningSum& shard : shards) REQUIRE_OK(total.merge(shard));
    REQUIRE(total == sum_in_order(world, counting(12)));
  }
}

TEST_CASE("the mean is the weighted mean of the clipped deltas, to the size of one rounding step") {
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const World world = world_of(seed, 9);
    const RunningSum sum = sum_in_order(world, counting(9));
    const auto mean = sum.mean();
    REQUIRE_OK(mean);
    double weights = 0;
    std::vector<double> exact(world.spec.values, 0.0);
    for (std::size_t d = 0; d < 9; ++d) {
      const double factor = clip_factor(world.deltas[d], world.spec.clip_norm).value() * world.updates[d].weight;
      for (std::size_t i = 0; i < exact.size(); ++i) exact[i] += factor * static_cast<double>(world.deltas[d][i]);
      weights += world.updates[d].weight;
    }
    // Each device's rounding errs by less than one step of 1/S, and a weighted mean of such errors does too.
    const double step = 1 / world.spec.scale();
    CAPTURE(seed);
    for (std::size_t i = 0; i < exact.size(); ++i) {
      REQUIRE(std::abs(static_cast<double>((*mean)[i]) - exact[i] / weights) < step * (1 + 1e-6));
    }
  }
}

TEST_CASE("no update of bytes at random breaks a sum") {
  Rng rng(11);
  std::uint64_t taken = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const World world = world_of(seed, 2);
    RunningSum sum = empty_sum(world);
    REQUIRE_OK(sum.add(world.updates[0]));
    const RunningSum before = sum;
    wire::ClearUpdate hostile = world.updates[1];
    for (std::uint64_t flips = 1 + rng.below(4); flips > 0; --flips) {
      switch (rng.below(5)) {
        case 0:
          hostile.weight = rng.next_u32();
          break;
        case 1:
          hostile.count = rng.next_u32();
          break;
        case 2:
          hostile.bits = rng.next_u32() % 40;
          break;
        case 3:
          hostile.words.resize(rng.below(2 * hostile.words.size() + 2), 0xa5);
          break;
        default:
          if (!hostile.words.empty()) hostile.words[rng.below(hostile.words.size())] ^= 1U << rng.below(8);
      }
    }
    const Status added = sum.add(hostile);
    if (added.ok()) {
      ++taken;  // a flipped value is a value
      for (const std::int64_t word : sum.words()) {
        REQUIRE(std::abs(word) <= static_cast<std::int64_t>(sum.weight()) * world.spec.magnitude_max());
      }
    } else {
      REQUIRE(sum == before);
    }
  }
  CHECK(taken > 0);
  CHECK(taken < 300);
}

TEST_CASE("a stored sum with flipped bits is refused or stays within what its contributors can make") {
  Rng rng(12);
  int refused = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    const World world = world_of(seed, 3);
    const RunningSum sum = sum_in_order(world, counting(3));
    Bytes stored = sum.serialize();
    stored[rng.below(stored.size())] ^= 1U << rng.below(8);
    const auto restored = RunningSum::restore(world.spec, stored);
    if (!restored.ok()) {
      ++refused;
      continue;
    }
    CHECK(restored->contributors() <= world.spec.contributors_max);
    for (const std::int64_t word : restored->words()) {
      REQUIRE(std::abs(word) <= static_cast<std::int64_t>(restored->weight()) * world.spec.magnitude_max());
    }
  }
  CHECK(refused > 100);
}

// `grouped` mode: dealing devices into groups, one round of group sessions, the rule over the groups' means.
#include <algorithm>
#include <map>
#include <set>

#include "aggregation/grouped.h"
#include "aggregation/secagg_round.h"
#include "aggregation/secagg_words.h"
#include "core/wire/codec.h"
#include "simulations/secagg_world.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;
using namespace covey::simulations;

namespace {

SecAggWorldOptions twelve_in_three() {
  SecAggWorldOptions options;
  options.devices = 12;
  options.groups = 3;
  options.survivors_min = 3;
  options.values = 4;
  return options;
}

/// A grouped round between real devices and a SecAggRound, every message through its frame.
struct GroupedPlay {
  explicit GroupedPlay(const SecAggWorldOptions& options, std::uint32_t needed = 2)
      : world(options), groups_min(needed) {
    auto made = SecAggRound::restore(world.setup, world.roster(), groups_min);
    REQUIRE_OK(made);
    round.emplace(*std::move(made));
  }

  void advertise() {
    for (auto& device : world.devices) {
      REQUIRE_OK(round->on(device.id(), world.deliver(*device.client->advertise(device.ledger))));
    }
    whole_closed();
  }
  void whole_closed() {
    REQUIRE_OK(round->close_phase());
    const auto list = round->due(world.devices[0].id());
    whole = std::get<wire::SecureList>(*list);
    group_of = group_of_each(world.setup, whole);
  }
  /// The group of device number i of the world.
  std::uint32_t group(std::uint32_t i) const {
    const auto at = std::ranges::find(whole.devices, world.devices[i].key(), &wire::SecureKeys::identity);
    return group_of[static_cast<std::size_t>(at - whole.devices.begin())];
  }
  /// What is due to everyone but `silent`, their answers, and the end of the phase.
  Status phase(const std::set<std::uint32_t>& silent = {}) {
    for (std::uint32_t i = 0; i < world.devices.size(); ++i) {
      auto& device = world.devices[i];
      const auto due = round->due(device.id());
      if (!due || silent.contains(i)) continue;
      if (const auto* list = std::get_if<wire::SecureList>(&*due)) {
        REQUIRE_OK(round->on(device.id(), world.deliver(*device.client->share(world.deliver(*list)))));
      } else if (const auto* inbox = std::get_if<wire::SecureInbox>(&*due)) {
        const auto masked = device.client->mask(world.deliver(*inbox), device.contribution, device.ledger);
        REQUIRE_OK(masked);
        REQUIRE_OK(round->on(device.id(), *wire::decode<wire::MaskedUpdate>(wire::encode(*masked))));
      } else if (const auto* survivors = std::get_if<wire::SecureSurvivors>(&*due)) {
        REQUIRE_OK(round->on(device.id(), world.deliver(*device.client->agree(world.deliver(*survivors)))));
      } else if (const auto* request = std::get_if<wire::SecureUnmask>(&*due)) {
        REQUIRE_OK(round->on(device.id(), world.deliver(*device.client->unmask(world.deliver(*request)))));
      }
    }
    if (round->phase() == SecAggRound::Phase::unmask) return {};
    return round->close_phase();
  }
  Result<std::vector<RunningSum>> finish() {
    advertise();
    for (int i = 0; i < 4; ++i) COVEY_TRY(phase());
    return round->finish(nullptr);
  }
  /// The coordinator is killed: what it wrote last is all that is left.
  void restart() {
    for (auto& row : round->take_rows()) rows.push_back(std::move(row));
    std::map<std::string, SecAggRow> newest;
    for (const auto& row : rows) newest[row.key] = row;
    std::vector<SecAggRow> kept;
    for (const auto& [key, row] : newest) {
      CHECK(std::ranges::count(round->row_keys(), key) == 1);
      kept.push_back(row);
    }
    auto back = SecAggRound::restore(world.setup, world.roster(), groups_min, kept);
    REQUIRE_OK(back);
    round.emplace(*std::move(back));
  }
  void set_update(std::uint32_t i, std::vector<float> delta) {
    auto& device = world.devices[i];
    device.delta = std::move(delta);
    device.contribution =
        *secagg_contribution(world.setup.spec, device.delta, device.weight, seeded_bits({1}), world.setup.bits);
  }

  SecAggWorld world;
  std::uint32_t groups_min;
  std::optional<SecAggRound> round;
  std::vector<SecAggRow> rows;
  wire::SecureList whole;
  std::vector<std::uint32_t> group_of;
};

}  // namespace

TEST_CASE("devices are dealt evenly, everyone into one group, and any change of the list deals anew") {
  auto options = twelve_in_three();
  options.devices = 20;
  GroupedPlay play(options);
  play.advertise();
  std::vector<int> sizes(3);
  for (const std::uint32_t group : play.group_of) ++sizes[group];
  CHECK(*std::ranges::max_element(sizes) - *std::ranges::min_element(sizes) <= 1);
  CHECK(group_of_each(play.world.setup, play.whole) == play.group_of);
  int moved = 0;
  for (std::uint8_t nonce = 0; nonce < 8; ++nonce) {
    auto other = play.whole;
    other.devices[0].nonce = {nonce, 1};
    moved += group_of_each(play.world.setup, other) != play.group_of ? 1 : 0;
  }
  CHECK(moved == 8);
  const auto lists = deal_groups(play.world.setup, play.whole);
  REQUIRE_OK(lists);
  std::size_t dealt = 0;
  for (const auto& list : *lists) dealt += list.devices.size();
  CHECK(dealt == 20);
}

TEST_CASE("each group's sum is the sum in the clear of its devices, bit for bit") {
  GroupedPlay play(twelve_in_three());
  const auto sums = play.finish();
  REQUIRE_OK(sums);
  REQUIRE(sums->size() == 3);
  for (std::uint32_t g = 0; g < 3; ++g) {
    std::vector<std::int64_t> clear(4);
    for (std::uint32_t i = 0; i < 12; ++i) {
      if (play.group(i) != g) continue;
      for (std::size_t v = 0; v < 4; ++v) {
        const auto word = play.world.devices[i].contribution[1 + v];
        const auto shift = 32 - play.world.setup.bits;
        clear[v] += static_cast<std::int32_t>(word << shift) >> shift;
      }
    }
    CHECK(std::ranges::equal((*sums)[g].words(), clear));
    CHECK((*sums)[g].contributors() == 4);
  }
}

TEST_CASE("the rules over group means give the golden values of section 6") {
  const auto golden = [](const std::vector<std::vector<float>>& means, const RuleConfig& rule) {
    auto options = twelve_in_three();
    options.groups = static_cast<std::uint32_t>(means.size());
    options.devices = 3 * options.groups;
    options.values = means[0].size();
    options.value_bits = 24;
    GroupedPlay play(options);
    play.advertise();
    for (std::uint32_t i = 0; i < options.devices; ++i) {
      // Three devices of unlike updates whose mean is the group's golden vector. Scaled by 1/256: the clip norm is 1.
      auto delta = means[play.group(i)];
      std::uint32_t before = 0;
      for (std::uint32_t j = 0; j < i; ++j) before += play.group(j) == play.group(i) ? 1 : 0;
      for (float& value : delta) value = (value + 0.25F * (static_cast<float>(before) - 1)) / 256;
      play.set_update(i, delta);
    }
    for (int i = 0; i < 4; ++i) REQUIRE_OK(play.phase());
    const auto sums = play.round->finish(nullptr);
    REQUIRE_OK(sums);
    const auto out = aggregate_groups(rule, *sums);
    REQUIRE_OK(out);
    std::vector<float> scaled = *out;
    for (float& value : scaled) value *= 256;
    return scaled;
  };
  const auto near = [](float got, double expected) { return std::abs(static_cast<double>(got) - expected) < 1e-4; };
  for (const float value : golden({{1, .2F, .5F, 1}, {.2F, .5F, 1, .2F}, {.5F, 1, .2F, .5F}}, {Strategy::median})) {
    CHECK(near(value, .5));
  }
  CHECK(near(golden({{.5F}, {1}, {2}, {100}}, {Strategy::trimmed_mean, .25})[0], 1.5));
  const std::vector<std::vector<float>> five = {{.1F}, {.2F}, {.35F}, {.6F}, {10}};
  CHECK(near(golden(five, {Strategy::krum, .2})[0], .2));
  CHECK(near(golden(five, {Strategy::multi_krum, .2, 3})[0], .216667));
  CHECK(near(golden(five, {Strategy::mean})[0], 2.25));
}

TEST_CASE("a group that loses too many devices is not unmasked, and the others go on") {
  GroupedPlay play(twelve_in_three());
  play.advertise();
  REQUIRE_OK(play.phase());
  std::set<std::uint32_t> lost;
  for (std::uint32_t i = 0; i < 12 && lost.size() < 2; ++i) {
    if (play.group(i) == 1) lost.insert(i);
  }
  REQUIRE_OK(play.phase(lost));
  CHECK(play.round->groups_left() == 2);
  for (std::uint32_t i = 0; i < 12; ++i) {
    const auto due = play.round->due(play.world.devices[i].id());
    REQUIRE(due);
    CHECK(std::holds_alternative<wire::SecureAbort>(*due) == (play.group(i) == 1));
    CHECK(play.round->in_play(play.world.devices[i].id()) == (play.group(i) != 1));
  }
  REQUIRE_OK(play.phase());
  REQUIRE_OK(play.phase());
  const auto sums = play.round->finish(nullptr);
  REQUIRE_OK(sums);
  CHECK(sums->size() == 2);

  GroupedPlay strict(twelve_in_three(), 3);  // the rule needs all three
  strict.advertise();
  REQUIRE_OK(strict.phase());
  lost.clear();
  for (std::uint32_t i = 0; i < 12 && lost.size() < 2; ++i) {
    if (strict.group(i) == 1) lost.insert(i);
  }
  CHECK_FALSE(strict.phase(lost).ok());
}

TEST_CASE("a coordinator that restarts in any phase of a grouped round gives the same sums") {
  GroupedPlay steady(twelve_in_three());
  const auto expected = steady.finish();
  REQUIRE_OK(expected);
  for (int killed = 0; killed < 4; ++killed) {
    GroupedPlay play(twelve_in_three());
    play.advertise();
    for (int i = 0; i < 4; ++i) {
      if (i == killed) play.restart();
      REQUIRE_OK(play.phase());
    }
    const auto sums = play.round->finish(nullptr);
    REQUIRE_OK(sums);
    CHECK(*sums == *expected);
  }
}

TEST_CASE(
    "a device refuses a whole list with too few devices for its groups, or another k or t than its smallest group's") {
  const auto refusal = [](auto&& alter) {
    GroupedPlay play(twelve_in_three());
    play.advertise();
    auto list = play.whole;
    alter(play, list);
    auto& victim = play.world.devices[0];
    CHECK_FALSE(victim.client->share(play.world.deliver(list)).ok());
    return victim.client->reason();
  };
  CHECK(refusal([](auto& play, auto& list) {
          std::erase_if(list.devices, [&](const auto& keys) {
            return keys.identity != play.world.devices[0].key() && list.devices.size() > 8;
          });
          list.devices.resize(std::min<std::size_t>(list.devices.size(), 8));
        }) == wire::SecureReason::too_few_devices);
  CHECK(refusal([](auto&, auto& list) { --list.threshold; }) == wire::SecureReason::parameters_differ);
  CHECK(refusal([](auto& play, auto& list) {
          auto& keys = list.devices[list.devices[0].identity == play.world.devices[0].key() ? 1 : 0];
          keys.share_key[0] ^= 1;  // of whichever group: the whole list is checked
        }) == wire::SecureReason::bad_signature);
}

TEST_CASE("masks of groups that were dealt from different lists do not cancel") {
  GroupedPlay play(twelve_in_three());
  play.advertise();
  auto other = play.whole;
  other.devices[0].nonce[0] ^= 1;
  const auto group = deal_groups(play.world.setup, play.whole)->front();
  CHECK(session_hash(group, group_setup(play.world.setup, play.whole).whole) !=
        session_hash(group, group_setup(play.world.setup, other).whole));
  CHECK(session_hash(group, group_setup(play.world.setup, play.whole).whole) != session_hash(group));
}

TEST_CASE("a sum whose norm no clipped updates give is refused") {
  UpdateSpec spec{4, 1, 16, 1, 4};
  const std::uint32_t bits = *modulus_bits(spec);
  const auto sum_of = [&](std::uint32_t each) {
    const std::vector<std::uint32_t> words = {4, each, each, each, each};
    return secagg_sum(spec, words, 4, bits).ok();
  };
  CHECK(sum_of(4 * 16'383));        // four honest updates of the largest norm: 32,767 / 2 each
  CHECK_FALSE(sum_of(4 * 17'000));  // each word is possible, the vector is not
}

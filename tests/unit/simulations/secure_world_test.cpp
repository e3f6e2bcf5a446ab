// Whole small worlds in secure mode: the deployed state machines, every message through the real codec.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "simulations/world.h"
#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;

namespace {

constexpr const char* kSecure = "mode: secure, survivors_min: 3, phase_s: 20";

WorldResult run(const tiny::Choices& choices) {
  const auto experiment = load_experiment(tiny::World::shared().experiment(choices));
  REQUIRE_OK(experiment);
  auto result = run_world(*experiment);
  REQUIRE_OK(result);
  return *std::move(result);
}

tiny::Choices secure_choices() {
  tiny::Choices choices;
  choices.privacy = kSecure;
  return choices;
}

}  // namespace

/// Everyone contributes, and a device throws the same dice in both worlds: they sum the same quantized words.
void check_same_in_the_clear(tiny::Choices choices, const std::string& more = "") {
  choices.rounds = 1;
  choices.devices = choices.goal = 6;
  choices.over_selection = 1;
  const auto clear = run(choices);
  choices.privacy = kSecure + more;
  const auto secure = run(choices);
  REQUIRE(secure.rounds.size() == 1);
  CHECK(*secure.rounds[0].get_uint("contributed") == 6);
  CHECK(*secure.rounds[0].get_double("delta_norm") > 0);
  CHECK(secure.adapter == clear.adapter);
}

tiny::Choices seeded_choices() {
  tiny::Choices choices;
  choices.method = "forward-gradient";
  choices.optimizer = "sgd";
  choices.candidates = 256;
  choices.learning_rate = 0.05;
  return choices;
}

TEST_CASE("a secure round makes, bit for bit, the adapter that the same quantized updates make in the clear") {
  check_same_in_the_clear({});
}

TEST_CASE("so does a secure round of rotated updates") {
  tiny::Choices choices;
  choices.privacy = "mode: robust, rotate: true";
  check_same_in_the_clear(choices, ", rotate: true");
}

TEST_CASE("a rotation is undone in the version, and rounding to few bits costs no more with it here") {
  tiny::Choices choices;
  choices.rounds = 1;
  choices.value_bits = 24;
  const auto exact = run(choices);
  const auto apart = [&](const WorldResult& result) {
    REQUIRE(result.adapter.size() == exact.adapter.size());
    double squares = 0;
    for (std::size_t i = 0; i < exact.adapter.size(); ++i) {
      const double d = static_cast<double>(result.adapter[i]) - static_cast<double>(exact.adapter[i]);
      squares += d * d;
    }
    return std::sqrt(squares);
  };
  choices.privacy = "mode: robust, rotate: true";
  CHECK(apart(run(choices)) < 1e-4);  // 24 bits: the rotation is undone
  choices.value_bits = 6;
  const double rotated = apart(run(choices));
  choices.privacy = "mode: robust";
  const double plain = apart(run(choices));
  std::printf("6 bits: version %.4f from the exact one, rotated %.4f\n", plain, rotated);
  CHECK(rotated <= plain);
}

TEST_CASE("a world that sends a tenth of the values comes near the loss of one that sends all, for fewer bytes") {
  tiny::Choices choices;
  choices.rounds = 10;
  choices.devices = choices.goal = 6;
  choices.over_selection = 1;
  choices.learning_rate = 0.02;
  choices.value_bits = 16;
  const auto dense = run(choices);
  choices.privacy = "mode: robust, top_k: 0.1";
  const auto sparse = run(choices);
  const auto loss_of = [](const WorldResult& world, const char* at) {
    return *world.summary.find(at)->get_double("loss");
  };
  const auto bytes_of = [](const WorldResult& world) { return *world.rounds.back().get_uint("update_bytes"); };
  const double before = loss_of(dense, "base");
  const double all = loss_of(dense, "final");
  const double tenth = loss_of(sparse, "final");
  std::printf("loss %.4f, after 10 rounds %.4f with all values (%llu bytes a round), %.4f with a tenth (%llu bytes)\n",
              before, all, static_cast<unsigned long long>(bytes_of(dense)), tenth,
              static_cast<unsigned long long>(bytes_of(sparse)));
  CHECK(before - tenth > 0.7 * (before - all));
  CHECK(bytes_of(sparse) < 0.25 * static_cast<double>(bytes_of(dense)));
  CHECK(run(choices).adapter == sparse.adapter);
}

TEST_CASE("so does a secure round of seeded updates: the same scalars, the same adapter") {
  check_same_in_the_clear(seeded_choices());
  auto differences = seeded_choices();
  differences.method = "zeroth-order";
  check_same_in_the_clear(differences);
}

TEST_CASE("seeded rounds learn, in secure mode too, and send scalars whatever the adapter's size") {
  auto choices = seeded_choices();
  choices.rounds = 6;
  choices.devices = choices.goal = 8;
  choices.over_selection = 1;
  const auto clear = run(choices);
  choices.privacy = kSecure;
  const auto secure = run(choices);
  for (const auto* world : {&clear, &secure}) {
    const double before = *world->summary.find("base")->get_double("loss");
    const double after = *world->summary.find("final")->get_double("loss");
    CHECK(after < before);
    CHECK(*world->summary.get_uint("version_values") == 256);
    CHECK(*world->summary.get_uint("adapter_values") == world->adapter.size());
    CHECK(world->adapter.size() > 256);
    const auto& round = world->rounds.back();
    CHECK(*round.get_uint("update_bytes") / *round.get_uint("contributed") < 1100);  // 257 words of at most 32 bits
  }
  CHECK(run(choices).adapter == secure.adapter);
}

TEST_CASE("devices' noise reaches the version, is paid for round by round, and is said in words") {
  auto choices = secure_choices();
  choices.weight_max = 1;
  choices.rounds = 2;
  const auto plain = run(choices);
  choices.privacy +=
      ", dp: {mechanism: distributed_skellam, noise_multiplier: 2, delta: 1.0e-6, epsilon_max: 40, adaptive_clip: "
      "false}";
  const auto noised = run(choices);
  CHECK(noised.adapter != plain.adapter);
  CHECK(*noised.summary.get_double("epsilon") > 1);
  CHECK(*noised.summary.get_double("epsilon") < 20);
  const std::string claim = *noised.summary.get_string("privacy_claim");
  CHECK(claim.find("after 2 rounds; distributed Skellam noise") != std::string::npos);
  CHECK(claim.find("protects from the coordinator") != std::string::npos);
  CHECK(run(choices).adapter == noised.adapter);
}

TEST_CASE("worlds under tree and BLT noise learn, keep devices apart, and say what they claim") {
  for (const bool secure : {false, true}) {
    for (const std::string mechanism : {"tree", "blt"}) {
      CAPTURE(mechanism);
      tiny::Choices choices;
      choices.rounds = 8;
      choices.devices = 12;
      choices.goal = 3;
      choices.over_selection = 1;
      choices.weight_max = 1;
      choices.learning_rate = 0.02;
      choices.privacy = std::string(secure ? kSecure : "mode: robust") + ", dp: {mechanism: " + mechanism +
                        ", noise_multiplier: 0.02, separation: 4, delta: 1.0e-6, epsilon_max: 1000000}";
      const auto noised = run(choices);
      const double before = *noised.summary.find("base")->get_double("loss");
      const double after = *noised.summary.find("final")->get_double("loss");
      std::printf("%s, %s: loss %.4f -> %.4f, epsilon %.4g\n", mechanism.c_str(), secure ? "secure" : "robust", before,
                  after, *noised.summary.get_double("epsilon"));
      CHECK(after < before);
      int published = 0;
      for (const auto& round : noised.rounds) {
        published += *round.get_bool("published") ? 1 : 0;
        CHECK(*round.get_uint("refused") == 0);  // the coordinator does not call devices that would refuse
      }
      CHECK(published == 8);
      const std::string claim = *noised.summary.get_string("privacy_claim");
      CHECK(claim.find("DP-FTRL: " + std::string(mechanism == "tree" ? "tree" : "BLT")) != std::string::npos);
      CHECK(claim.find("not from the coordinator") != std::string::npos);
      CHECK(run(choices).adapter == noised.adapter);
    }
  }
}

TEST_CASE("secure rounds go on from version to version, and a world of them repeats bit for bit") {
  const auto first = run(secure_choices());
  REQUIRE(first.rounds.size() >= 3);
  for (const auto& round : first.rounds) CHECK(*round.get_bool("published"));
  const auto second = run(secure_choices());
  CHECK(second.adapter == first.adapter);
  CHECK(first.rounds.back().dump() == second.rounds.back().dump());
}

TEST_CASE("devices that die in a secure round cost it nothing but themselves") {
  auto choices = secure_choices();
  choices.dropout = 0.2;
  const auto result = run(choices);
  int published = 0;
  for (const auto& round : result.rounds) published += *round.get_bool("published") ? 1 : 0;
  CHECK(published == choices.rounds);
}

TEST_CASE("a secure round reports no loss and no tokens of single devices") {
  const auto result = run(secure_choices());
  for (const auto& round : result.rounds) {
    CHECK(round.find("train_loss_first")->is_null());
    CHECK(round.find("train_loss_last")->is_null());
    CHECK(round.find("tokens")->is_null());
  }
}

TEST_CASE("a grouped world publishes a median of group means, repeats bit for bit, and says what it claims") {
  tiny::Choices choices;
  choices.rounds = 2;
  choices.devices = choices.goal = 9;
  choices.over_selection = 1;
  choices.privacy = "mode: grouped, groups: 3, survivors_min: 2, phase_s: 20";
  choices.rule = "median";
  const auto first = run(choices);
  REQUIRE(first.rounds.size() == 2);
  for (const auto& round : first.rounds) {
    CHECK(*round.get_bool("published"));
    CHECK(*round.get_uint("contributed") == 9);
  }
  CHECK(*first.summary.find("final")->get_double("loss") < *first.summary.find("base")->get_double("loss"));
  CHECK(first.summary.get_string("privacy_claim")->starts_with("grouped (curious coordinator)"));
  CHECK(run(choices).adapter == first.adapter);
  choices.rule = "trimmed_mean";
  CHECK(run(choices).adapter != first.adapter);
}

TEST_CASE("a grouped world goes on where devices die, as long as enough groups keep their minimum") {
  tiny::Choices choices;
  choices.rounds = 2;
  choices.devices = 14;
  choices.goal = 9;
  choices.dropout = 0.3;
  choices.privacy = "mode: grouped, groups: 3, groups_min: 2, survivors_min: 2, phase_s: 20";
  choices.rule = "median";
  const auto world = run(choices);
  CHECK(*world.summary.find("final")->get_double("loss") < *world.summary.find("base")->get_double("loss"));
}

TEST_CASE("rounds drawn by sortition publish, with other devices each time, and the claim says so") {
  auto choices = secure_choices();
  choices.devices = 16;
  choices.goal = 4;
  choices.selection = "{policy: sortition, spare: 1.5}";
  const auto first = run(choices);
  std::size_t published = 0;
  for (const auto& round : first.rounds) published += *round.get_bool("published") ? 1 : 0;
  CHECK(published == 3);
  CHECK(run(choices).adapter == first.adapter);
  choices.selection = "{policy: uniform}";
  CHECK(run(choices).adapter != first.adapter);
  choices.privacy = "mode: robust";
  choices.selection = "{policy: sortition}";
  const auto refused = load_experiment(tiny::World::shared().experiment(choices));
  REQUIRE_OK(refused);
  CHECK_FALSE(run_world(*refused).ok());  // nobody would check it
}

// Whole small worlds in secure mode: the deployed state machines, every message through the real codec.
#include <algorithm>
#include <cmath>

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

TEST_CASE("a secure round makes the adapter that updates in the clear make, but for the chance of rounding") {
  tiny::Choices choices;
  choices.rounds = 1;
  choices.devices = choices.goal = 6;
  choices.over_selection = 1;  // everyone contributes: both worlds sum the same devices
  const auto clear = run(choices);
  choices.privacy = kSecure;
  const auto secure = run(choices);
  REQUIRE(secure.rounds.size() == 1);
  CHECK(*secure.rounds[0].get_uint("contributed") == 6);
  REQUIRE(secure.adapter.size() == clear.adapter.size());
  const float step = 10.0F / static_cast<float>((1 << 19) - 1);  // clip_norm over the largest 20-bit magnitude
  float worst = 0;
  for (std::size_t i = 0; i < clear.adapter.size(); ++i) {
    worst = std::max(worst, std::abs(secure.adapter[i] - clear.adapter[i]));
  }
  CHECK(worst > 0);  // each device rounds by dice of its own, and the two worlds throw them anew
  CHECK(worst <= step);
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

// A seeded task of security.md section 4's size, end to end: 100 devices, K = 4,096 candidates, secure mode, every
// frame of the deployed state machines through the real codec. Bytes are the same for two models (whose
// layouts' texts, part of the plan, have the same length), and the version is,
// bit for bit, what the same quantized scalars make in the clear.
#include <algorithm>
#include <cstdio>

#include "simulations/world.h"
#include "unit/simulations/tiny_world.h"

using namespace covey;
using namespace covey::simulations;

namespace {

constexpr std::uint64_t kDevices = 100;

WorldResult run(int hidden, const std::string& privacy) {
  tiny::Choices choices;
  choices.devices = choices.goal = static_cast<int>(kDevices);
  choices.over_selection = 1;
  choices.rounds = 1;
  choices.threads = 2;
  choices.hidden = hidden;
  choices.privacy = privacy;
  choices.method = "forward-gradient";
  choices.optimizer = "sgd";
  choices.candidates = 4096;
  choices.learning_rate = 0.05;
  choices.value_bits = 16;
  choices.weight_max = 1;
  choices.deadline_s = 3600;
  const auto experiment = load_experiment(tiny::World::shared().experiment(choices));
  REQUIRE_OK(experiment);
  auto result = run_world(*experiment);
  REQUIRE_OK(result);
  REQUIRE(result->rounds.size() == 1);
  REQUIRE(*result->rounds[0].get_uint("contributed") == kDevices);
  return *std::move(result);
}

struct Bytes2 {
  std::uint64_t update = 0;  ///< the encoded MaskedUpdate
  std::uint64_t up = 0;      ///< every frame that a device sends
  std::uint64_t both = 0;    ///< sends and receives: roster, plan and version's scalars included, base model not
};

/// Per device, on average.
Bytes2 bytes_of(const WorldResult& result) {
  const auto& round = result.rounds[0];
  return {*round.get_uint("update_bytes") / kDevices, *round.get_uint("bytes_up") / kDevices,
          *round.get_uint("bytes_total") / kDevices};
}

}  // namespace

TEST_CASE("a seeded round of 100 devices costs each of them kilobytes, the same for two models, and loses no bit") {
  const std::string secure = "mode: secure, survivors_min: 64, phase_s: 600";
  const auto narrow = run(32, secure);
  const auto wide = run(48, secure);
  const auto parameters = [](const WorldResult& result) { return *result.summary.get_uint("model_parameters"); };
  REQUIRE(2 * parameters(wide) > 3 * parameters(narrow));
  REQUIRE(wide.adapter.size() > narrow.adapter.size());
  for (const auto* result : {&narrow, &wide}) {
    const Bytes2 bytes = bytes_of(*result);
    std::printf(
        "n 100, K 4096, model of %llu parameters, adapter of %zu: masked update %llu bytes, a device sends %llu, "
        "both directions %llu\n",
        static_cast<unsigned long long>(parameters(*result)), result->adapter.size(),
        static_cast<unsigned long long>(bytes.update), static_cast<unsigned long long>(bytes.up),
        static_cast<unsigned long long>(bytes.both));
    CHECK(bytes.update <= 12'000);
    CHECK(bytes.up <= 21'000);
    CHECK(bytes.both <= 80'000);
  }
  const Bytes2 a = bytes_of(narrow);
  const Bytes2 b = bytes_of(wide);
  CHECK(a.update == b.update);
  CHECK(a.up == b.up);
  // Whose shares arrive when the sum is known already is told so in a frame of 35 bytes: a matter of who trains how
  // long.
  CHECK(std::max(a.both, b.both) - std::min(a.both, b.both) <= 35);
  CHECK(run(32, "mode: robust").adapter == narrow.adapter);
  CHECK(run(48, "mode: robust").adapter == wide.adapter);
}

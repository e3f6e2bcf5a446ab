#include "aggregation/server_optimizer.h"

#include <limits>

#include "core/base/rng.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;

namespace {

const std::vector<ServerOptimizerKind> kKinds = [] {
  std::vector<ServerOptimizerKind> out;
  for (const auto& name : server_optimizer_names()) out.push_back(server_optimizer_kind(name).value());
  return out;
}();

ServerOptimizer made(const ServerOptimizerConfig& config, std::size_t values) {
  auto optimizer = ServerOptimizer::create(config, values);
  REQUIRE_OK(optimizer);
  return *std::move(optimizer);
}

ServerOptimizerConfig config_of(ServerOptimizerKind kind) {
  ServerOptimizerConfig config;
  config.kind = kind;
  config.learning_rate = 0.5;
  config.momentum = 0.5;
  config.beta1 = 0.5;
  config.beta2 = 0.75;
  config.tau = 0.5;
  return config;
}

}  // namespace

TEST_CASE("each server optimizer follows its formula for three steps") {
  // x starts at 1 and sees the deltas 1, -2, 0.25 with the configuration above; computed apart from this code from the
  // formulas in the header (for one step by hand: fedadagrad m = 0.5, v = 0.25 + 1, x = 1 + 0.25 / (1.118 + 0.5)).
  struct Case {
    ServerOptimizerKind kind;
    double expected;
  };
  const Case cases[] = {{ServerOptimizerKind::fedavg, 0.625},
                        {ServerOptimizerKind::fedavgm, 0.5},
                        {ServerOptimizerKind::fedadagrad, 0.9755968194},
                        {ServerOptimizerKind::fedadam, 0.9053037016},
                        {ServerOptimizerKind::fedyogi, 0.9169390876},
                        {server_optimizer_kind("lion").value(), 0.5}};
  CHECK(std::size(cases) == kKinds.size());
  for (const Case& c : cases) {
    CAPTURE(std::string(to_string(c.kind)));
    ServerOptimizer optimizer = made(config_of(c.kind), 1);
    std::vector<float> x = {1};
    for (const float delta : {1.0F, -2.0F, 0.25F}) REQUIRE_OK(optimizer.step(x, std::vector<float>{delta}));
    CHECK(x[0] == doctest::Approx(c.expected).epsilon(1e-6));  // f32 state: a few units of 6e-8
    CHECK(optimizer.steps() == 3);
  }
}

TEST_CASE("the kinds that code names are the rules of these names, whose places stores keep") {
  CHECK(std::string(to_string(ServerOptimizerKind::fedavg)) == "fedavg");
  CHECK(std::string(to_string(ServerOptimizerKind::fedavgm)) == "fedavgm");
  CHECK(std::string(to_string(ServerOptimizerKind::fedadagrad)) == "fedadagrad");
  CHECK(std::string(to_string(ServerOptimizerKind::fedadam)) == "fedadam");
  CHECK(std::string(to_string(ServerOptimizerKind::fedyogi)) == "fedyogi");
}

TEST_CASE("fedavg with rate 1 arrives at the mean of the trained adapters") {
  ServerOptimizer optimizer = made({}, 3);
  std::vector<float> x = {1, 2, 3};
  REQUIRE_OK(optimizer.step(x, std::vector<float>{0.5F, -1, 0}));
  CHECK(x == std::vector<float>{1.5F, 1, 3});
}

TEST_CASE("a learning rate of 0 leaves the adapter unchanged in every optimizer") {
  for (const auto kind : kKinds) {
    auto config = config_of(kind);
    config.learning_rate = 0;
    ServerOptimizer optimizer = made(config, 100);
    std::vector<float> x(100);
    CounterRng(1).fill_normal(x);
    const std::vector<float> before = x;
    std::vector<float> delta(100);
    for (std::uint64_t round = 0; round < 5; ++round) {
      CounterRng(2, round).fill_normal(delta);
      REQUIRE_OK(optimizer.step(x, delta));
    }
    CHECK(x == before);
  }
}

TEST_CASE("a delta of zero moves nothing without momentum") {
  for (const auto kind : kKinds) {
    ServerOptimizer optimizer = made(config_of(kind), 2);
    std::vector<float> x = {1, -1};
    REQUIRE_OK(optimizer.step(x, std::vector<float>{0, 0}));
    CHECK(x == std::vector<float>{1, -1});
  }
}

TEST_CASE("yogi's second moment moves towards the square from both sides") {
  auto config = config_of(ServerOptimizerKind::fedyogi);
  config.beta1 = 0;
  config.learning_rate = 1;
  ServerOptimizer optimizer = made(config, 2);
  std::vector<float> x = {0, 0};
  // v = 0.25. First element: d^2 = 1 > v, v = 0.5, step 1 / (0.7071 + 0.5). Second: d^2 = 0.25 = v stays, step 0.5 / 1.
  REQUIRE_OK(optimizer.step(x, std::vector<float>{1, 0.5F}));
  CHECK(x[0] == doctest::Approx(0.828427).epsilon(1e-6));
  CHECK(x[1] == doctest::Approx(0.5));
}

TEST_CASE("a step whose result is not finite changes nothing") {
  for (const auto kind : kKinds) {
    ServerOptimizer optimizer = made(config_of(kind), 2);
    std::vector<float> x = {1, 1};
    REQUIRE_OK(optimizer.step(x, std::vector<float>{0.1F, 0.1F}));
    const std::vector<float> before = x;
    const Bytes state = optimizer.serialize();
    const float bad_values[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
    for (const float bad : bad_values) {
      CHECK_FALSE(optimizer.step(x, std::vector<float>{0.1F, bad}).ok());
      CHECK(x == before);
      CHECK(optimizer.serialize() == state);
    }
    CHECK_FALSE(optimizer.step(x, std::vector<float>{1}).ok());
    CHECK(optimizer.serialize() == state);
  }
}

TEST_CASE("a restored optimizer goes on bit for bit") {
  for (const auto kind : kKinds) {
    const auto config = config_of(kind);
    ServerOptimizer straight = made(config, 64);
    ServerOptimizer restarted = made(config, 64);
    std::vector<float> a(64, 1);
    std::vector<float> b(64, 1);
    std::vector<float> delta(64);
    for (std::uint64_t round = 0; round < 6; ++round) {
      CounterRng(3, round).fill_normal(delta);
      REQUIRE_OK(straight.step(a, delta));
      REQUIRE_OK(restarted.step(b, delta));
      auto back = ServerOptimizer::restore(config, 64, restarted.serialize());
      REQUIRE_OK(back);
      restarted = *std::move(back);
      CHECK(restarted.steps() == round + 1);
    }
    CHECK(a == b);
    CHECK(straight.serialize() == restarted.serialize());
  }
}

TEST_CASE("stored state of another optimizer, another shape or damaged is refused") {
  const auto config = config_of(ServerOptimizerKind::fedadam);
  const Bytes stored = made(config, 4).serialize();
  CHECK(ServerOptimizer::restore(config, 4, stored).ok());
  CHECK(ServerOptimizer::restore(config, 5, stored).error().code == ErrorCode::invalid_argument);
  const auto other = ServerOptimizer::restore(config_of(ServerOptimizerKind::fedavg), 4, stored);
  CHECK(other.error().message ==
        "stored optimizer: is fedadam of 4 values, the configuration says fedavg of 4; change it back or start a new "
        "task");
  for (std::size_t length = 0; length < stored.size(); ++length) {
    CHECK_FALSE(ServerOptimizer::restore(config, 4, std::span(stored).first(length)).ok());
  }
  for (const std::size_t byte : {0U, 4U, 8U, 12U, 16U}) {
    Bytes damaged = stored;
    damaged[byte] ^= 0x80;
    CHECK_FALSE(ServerOptimizer::restore(config, 4, damaged).ok());
  }
  Bytes negative = stored;
  negative.at(negative.size() - 1) ^= 0x80;  // the sign of the last second moment
  CHECK_FALSE(ServerOptimizer::restore(config, 4, negative).ok());
}

TEST_CASE("configurations out of range are refused by name") {
  const auto message = [](auto change) {
    ServerOptimizerConfig config;
    change(config);
    const Status checked = config.check();
    return checked.ok() ? std::string("ok") : checked.error().message;
  };
  CHECK(message([](auto&) {}) == "ok");
  CHECK(message([](auto& c) { c.learning_rate = -1; }) ==
        "server optimizer: learning_rate is -1; it must be from 0 to 1000");
  CHECK(message([](auto& c) { c.momentum = 1; }) == "server optimizer: momentum is 1; it must be from 0 to below 1");
  CHECK(message([](auto& c) { c.beta1 = 1.5; }) == "server optimizer: beta1 is 1.5; it must be from 0 to below 1");
  CHECK(message([](auto& c) { c.beta2 = std::numeric_limits<double>::quiet_NaN(); }) != "ok");
  CHECK(message([](auto& c) { c.tau = 0; }) != "ok");
  CHECK_FALSE(ServerOptimizer::create({}, 0).ok());
  CHECK(server_optimizer_kind("fedyogi").value() == ServerOptimizerKind::fedyogi);
  CHECK_FALSE(server_optimizer_kind("adam").ok());
  for (const auto kind : kKinds) CHECK(server_optimizer_kind(to_string(kind)).value() == kind);
}

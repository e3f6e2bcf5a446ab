// What a secure round costs a device in bytes, on the wire and with the real messages. The bounds are those of
// security.md section 4: expansion against P values of 16 bits, and a seeded update of K = 4,096 scalars, the same for
// any model.
#include <cstdio>
#include <cstdlib>

#include "core/wire/codec.h"
#include "simulations/secagg_world.h"
#include "support/support.h"

using namespace covey;
using namespace covey::aggregation;
using namespace covey::simulations;

namespace {

struct Cost {
  std::uint64_t vector = 0;  ///< the packed words alone
  WireBytes all;             ///< every frame of the secure phases and the upload
  SecAggParams params;
};

/// One device's bytes in a round of `devices`. The round runs on short vectors, since P changes the upload alone; a
/// twin of the measured device (same keys, same list, same inbox) then masks a vector of `values`.
Cost measure(std::uint32_t devices, std::size_t values, std::uint32_t value_bits, SecAggAssumptions assumptions) {
  SecAggWorldOptions options;
  options.devices = devices;
  options.values = 1;
  options.value_bits = value_bits;
  options.assumptions = assumptions;
  options.survivors_min = devices / 2;
  options.shuffle = false;
  SecAggWorld world(options);
  SecAggWorld::Device& device = world.devices[devices / 2];
  wire::SecureList list;
  wire::SecureInbox inbox;
  world.tamper = [&](std::uint32_t i, std::optional<wire::Message>& message) {
    if (&world.devices[i] != &device || !message) return;
    if (const auto* l = std::get_if<wire::SecureList>(&*message)) list = *l;
    if (const auto* b = std::get_if<wire::SecureInbox>(&*message)) inbox = *b;
  };
  REQUIRE_OK(world.run());
  WireBytes bytes = device.bytes;
  const WireBytes small = upload_cost(wire::encode(*device.masked).size());

  auto setup = world.setup;
  setup.spec.values = values;
  SecAggWorld::Device twin;
  twin.identity =
      std::make_unique<crypto::IdentityKey>(*crypto::IdentityKey::from_seed(device.identity->seed().span()));
  world.make_client(twin, setup, devices / 2);
  REQUIRE_OK(twin.client->advertise(twin.ledger));
  REQUIRE_OK(twin.client->share(list));
  const std::vector<std::uint32_t> words(1 + values, 3);
  const auto masked = twin.client->mask(inbox, words, twin.ledger);
  REQUIRE_OK(masked);
  CHECK(masked->session == device.masked->session);
  const WireBytes large = upload_cost(wire::encode(*masked).size());
  bytes.sent += large.sent - small.sent;
  bytes.received += large.received - small.received;
  return {masked->words.size(), bytes, world.server->params()};
}

unsigned long long shown(std::uint64_t value) {
  return value;
}

}  // namespace

TEST_CASE("expansion at n = 1,024, P = 2^20 and 16 bits stays within the stated figures") {
  const std::size_t values = std::size_t{1} << 20;
  std::vector<SecAggAssumptions> all = {{.1, .2}};
  if (std::getenv("COVEY_SECURE_WIDE") != nullptr) all.push_back({.05, .33});
  for (const auto& assumptions : all) {
    const Cost cost = measure(1024, values, 16, assumptions);
    const double plain = static_cast<double>(values) * 2;
    const double sent = static_cast<double>(cost.all.sent) / plain;
    const double both = static_cast<double>(cost.all.sent + cost.all.received) / plain;
    std::printf("n 1024, P 2^20, 16 bits, k %u, t %u: sent %llu bytes = %.4f x, with received %llu = %.4f x\n",
                cost.params.degree, cost.params.threshold, shown(cost.all.sent), sent, shown(cost.all.received), both);
    CHECK(sent <= 1.67);
    CHECK(both <= 1.80);
  }
}

TEST_CASE("a seeded update of 4,096 scalars at n = 100 costs kilobytes") {
  for (const bool complete : {false, true}) {
    const Cost cost = measure(100, 4096, 16, complete ? SecAggAssumptions{.4, .4} : SecAggAssumptions{.1, .2});
    REQUIRE(cost.params.complete == complete);
    std::printf("n 100, K 4096, %s graph (k %u, t %u): masked vector %llu bytes, upload %llu, both directions %llu\n",
                complete ? "complete" : "sparse", cost.params.degree, cost.params.threshold, shown(cost.vector),
                shown(cost.all.sent), shown(cost.all.sent + cost.all.received));
    CHECK(cost.vector <= 12'000);
    CHECK(cost.all.sent <= (complete ? 28'000 : 21'000));
    CHECK(cost.all.sent + cost.all.received <= 80'000);
  }
}

// The coordinator's memory: one vector of words for the running sum, never one for each device.
#include "core/wire/codec.h"
#include "property/counting_allocator.h"
#include "simulations/secagg_world.h"
#include "support/support.h"

using namespace covey;
using namespace covey::simulations;

TEST_CASE("adding an update and taking the masks off need memory for the sum alone, however many devices there are") {
  constexpr std::size_t kValues = 100'000;
  constexpr std::size_t kBesides = std::size_t{256} * 1024;
  for (const std::uint32_t n : {4U, 24U}) {
    SecAggWorldOptions options;
    options.devices = n;
    options.values = kValues;
    options.shuffle = false;
    options.drops.assign(n, DropAt::never);
    if (n > 4) options.drops[3] = DropAt::mask;  // its pairwise masks are expanded at the end
    SecAggWorld world(options);
    world.advertise();
    REQUIRE_OK(world.close_advertise());
    world.share();
    REQUIRE_OK(world.server->close_share());
    const DeviceId last = world.devices[1].id();
    world.mask_all_but(last);
    auto& device = world.devices[1];
    const auto inbox = std::get<wire::SecureInbox>(*world.server->due(last));
    const auto masked = device.client->mask(inbox, device.contribution, device.ledger);
    REQUIRE_OK(masked);
    test::start_counting_allocations();
    REQUIRE_OK(world.server->on_masked(last, *masked));
    // The update is encoded once more for its hash; no word of it is unpacked beside the sum.
    CHECK(test::peak_allocated_bytes() <= 2 * masked->words.size() + kBesides);

    REQUIRE_OK(world.server->close_mask());
    world.agree();
    REQUIRE_OK(world.server->close_agree());
    world.unmask();
    test::start_counting_allocations();
    REQUIRE_OK(world.server->finish(nullptr));
    const std::size_t peak = test::peak_allocated_bytes();
    CHECK_MESSAGE(peak <= 8 * kValues + kBesides, peak << " bytes for " << n << " devices");
    CHECK(peak >= 8 * kValues);  // the sum that is handed out: the count counts
  }
}

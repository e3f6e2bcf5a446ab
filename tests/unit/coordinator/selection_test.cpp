#include "coordinator/selection.h"

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

TEST_CASE("a full round draws nobody") {
  const Choice choice = draw_uniform({.seed = 1, .round = RoundId{1}, .wanted = 2, .taken = 2}, device_number(1), {});
  CHECK(!choice.drawn);
  CHECK(choice.reason == "uniform: all 2 places are taken");
}

}  // namespace covey::coordinator

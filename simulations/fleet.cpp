#include "simulations/fleet.h"

#include <cmath>
#include <numeric>

#include "core/base/rng.h"

namespace covey::simulations {

std::vector<DeviceClass> builtin_classes() {
  constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
  constexpr double kMbit = 1e6 / 8;
  return {
      {"flagship", 0.2, 40, 12 * kGiB, 40 * kMbit, 10 * kMbit, 40, 4.0, 1.2},
      {"midrange", 0.5, 15, 6 * kGiB, 20 * kMbit, 5 * kMbit, 60, 3.0, 1.2},
      {"budget", 0.3, 5, 3 * kGiB, 5 * kMbit, 1 * kMbit, 120, 2.5, 1.2},
  };
}

std::vector<std::size_t> draw_classes(const std::vector<DeviceClass>& classes, std::size_t devices,
                                      std::uint64_t seed) {
  const double total =
      std::accumulate(classes.begin(), classes.end(), 0.0, [](double sum, const auto& c) { return sum + c.share; });
  Rng rng(seed);
  std::vector<std::size_t> out(devices);
  for (auto& chosen : out) {
    double left = rng.uniform() * total;
    chosen = 0;
    while (chosen + 1 < classes.size() && left >= classes[chosen].share) left -= classes[chosen++].share;
  }
  return out;
}

std::int64_t training_ms(const DeviceClass& device, std::int64_t parameters, std::uint64_t tokens) {
  const double operations = 4.0 * static_cast<double>(parameters) * static_cast<double>(tokens);
  return static_cast<std::int64_t>(std::ceil(operations / (device.training_gflops * 1e6)));
}

std::int64_t transfer_ms(double bytes_per_s, std::uint64_t bytes) {
  return static_cast<std::int64_t>(std::ceil(static_cast<double>(bytes) * 1000.0 / bytes_per_s));
}

}  // namespace covey::simulations

/// The devices of a simulated world: what each can compute, hold, send and drain. All figures are modelled.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace covey::simulations {

/// One kind of device. Built-in figures are round numbers of the right order for phones, not measurements.
struct DeviceClass {
  std::string name;
  double share = 0;            ///< of the fleet, relative to the other classes' shares
  double training_gflops = 0;  ///< sustained in f32 training, 10^9 operations a second
  std::uint64_t memory_bytes = 0;
  double down_bytes_per_s = 0;
  double up_bytes_per_s = 0;
  std::int64_t latency_ms = 0;  ///< one way
  double training_watts = 0;
  double radio_watts = 0;
};

/// flagship, midrange, budget.
std::vector<DeviceClass> builtin_classes();

/// One class index per device, by the classes' shares, drawn from `seed`.
std::vector<std::size_t> draw_classes(const std::vector<DeviceClass>& classes, std::size_t devices, std::uint64_t seed);

/// Modelled duration of LoRA training: 4 operations per parameter and token (forward 2, input gradients 2; adapter
/// gradients are small beside them).
std::int64_t training_ms(const DeviceClass& device, std::int64_t parameters, std::uint64_t tokens);
std::int64_t transfer_ms(double bytes_per_s, std::uint64_t bytes);

}  // namespace covey::simulations

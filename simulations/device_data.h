/// What each virtual device has, and what the coordinator holds out: a dataset cut into devices and turned into rows.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/data/partition.h"
#include "core/text/tokenizer.h"
#include "core/train/rows.h"

namespace covey::simulations {

struct DataConfig {
  std::string file;               ///< empty: the household corpus that the project generates
  std::string format = "lines";   ///< lines (.txt or .jsonl by its ending), play (blocks "NAME:"), households
  std::string partition = "key";  ///< key (speaker, household, "key" of JSONL), iid, label, quantity, drift
  double alpha = 0.5;             ///< label, quantity, drift: of the Dirichlet distribution (core/data/partition.h)
  std::size_t phases = 1;         ///< drift: a device has other examples in each of them
  std::int64_t phase_ms = 0;      ///< drift: virtual time that each but the last one takes
  std::int64_t lines = 300;       ///< households: on average per device
  double held_out = 0.1;          ///< share of each device's examples that the coordinator evaluates on instead
  std::int64_t held_out_rows_max = 400;  ///< over all devices, drawn evenly; 0 = all
};

struct DeviceRows {
  std::string key;
  std::vector<train::TokenRow> rows;     ///< phase after phase
  std::vector<std::size_t> phase_begin;  ///< where each phase's rows begin, and the end; drift only

  /// What the device has in the given phase; all there is, where nothing drifts.
  [[nodiscard]] std::span<const train::TokenRow> in_phase(std::size_t phase) const;
};

struct SimulatedData {
  std::vector<DeviceRows> devices;
  std::vector<train::TokenRow> held_out;
  std::vector<std::uint32_t> held_out_of;  ///< the device whose examples each held-out row is of
};

/// Each device's examples, before anything is held out: [phase][device], one phase where nothing drifts.
/// @errors as load_device_data.
Result<std::vector<std::vector<data::Part>>> partition_devices(const DataConfig& config, std::size_t devices,
                                                               std::uint64_t seed);

/// The phase at a virtual time since the world's start.
std::size_t phase_at(const DataConfig& config, std::int64_t now_ms);

/// By key: the `devices` keys with the most examples, in the file's order.
/// @errors what the readers report; invalid_argument: fewer keys or examples than devices.
Result<SimulatedData> load_device_data(const DataConfig& config, std::size_t devices, int seq,
                                       const text::Tokenizer& tokenizer, std::uint64_t seed);

}  // namespace covey::simulations

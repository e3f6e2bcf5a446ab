/// What each virtual device has, and what the coordinator holds out: a dataset cut into devices and turned into rows.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/data/partition.h"
#include "core/text/tokenizer.h"
#include "core/train/rows.h"

namespace covey::simulations {

struct DataConfig {
  std::string file;                      ///< empty: the household corpus that the project generates
  std::string format = "lines";          ///< lines (.txt or .jsonl by its ending), play (blocks "NAME:"), households
  std::string partition = "key";         ///< key (speaker, household, "key" of JSONL), iid, label, quantity
  double alpha = 0.5;                    ///< label, quantity: of the Dirichlet distribution (core/data/partition.h)
  std::int64_t lines = 300;              ///< households: on average per device
  double held_out = 0.1;                 ///< share of each device's examples that the coordinator evaluates on instead
  std::int64_t held_out_rows_max = 400;  ///< over all devices, drawn evenly; 0 = all
};

struct DeviceRows {
  std::string key;
  std::vector<train::TokenRow> rows;
};

struct SimulatedData {
  std::vector<DeviceRows> devices;
  std::vector<train::TokenRow> held_out;
};

/// Each device's examples, before anything is held out.
/// @errors as load_device_data.
Result<std::vector<data::Part>> partition_devices(const DataConfig& config, std::size_t devices, std::uint64_t seed);

/// By key: the `devices` keys with the most examples, in the file's order.
/// @errors what the readers report; invalid_argument: fewer keys or examples than devices.
Result<SimulatedData> load_device_data(const DataConfig& config, std::size_t devices, int seq,
                                       const text::Tokenizer& tokenizer, std::uint64_t seed);

}  // namespace covey::simulations

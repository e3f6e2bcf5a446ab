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
#include "simulations/row_file.h"

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
  bool predict_end = true;               ///< the end-of-text token is a target, too; off, accuracy counts answers alone
};

/// What a world's devices have: names here, their rows on disk until somebody trains.
class DeviceRows {
 public:
  [[nodiscard]] std::size_t devices() const { return keys_.size(); }
  [[nodiscard]] std::size_t phases() const { return phases_; }
  [[nodiscard]] const std::string& key(std::size_t device) const { return keys_[device]; }
  /// How many rows, over all phases.
  [[nodiscard]] std::size_t count(std::size_t device) const;
  /// What the device has in the given phase; all there is, where nothing drifts. Thread-safe.
  /// @errors as RowFile::read.
  [[nodiscard]] Result<std::vector<train::TokenRow>> read(std::size_t device, std::size_t phase) const;

 private:
  friend class DeviceRowsWriter;
  std::vector<std::string> keys_;
  std::size_t phases_ = 1;
  std::vector<RowFile::Place> places_;  ///< (devices, phases)
  std::unique_ptr<RowFile> file_;
};

struct SimulatedData {
  DeviceRows devices;
  std::vector<train::TokenRow> held_out;
  std::vector<std::uint32_t> held_out_of;  ///< the device whose examples each held-out row is of
};

/// One device that has what all have, phase after phase. @errors as RowFile.
Result<DeviceRows> all_on_one(const DeviceRows& devices);

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

#include "simulations/device_data.h"

#include <algorithm>
#include <numeric>

#include "adapters/workbench.h"
#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/data/examples.h"
#include "core/data/household.h"

namespace covey::simulations {
namespace {

constexpr std::uint64_t kPartitionStream = 1;
constexpr std::uint64_t kHoldOutStream = 2;
constexpr std::uint64_t kSampleStream = 3;

data::HouseholdOptions household_options(std::size_t devices, std::int64_t lines, std::uint64_t seed) {
  data::HouseholdOptions options;
  options.households = static_cast<int>(devices);
  options.unseen = 0;
  options.lines_mean = static_cast<int>(lines);
  options.general_lines = 1;
  options.seed = seed;
  return options;
}

void append_lines(std::vector<data::Example>& out, const data::Household& household) {
  for (const auto& line : household.train) out.push_back({"", line, household.name});
}

Result<std::vector<data::Example>> household_examples(std::size_t devices, std::int64_t lines, std::uint64_t seed) {
  COVEY_ASSIGN(const auto corpus, data::make_household_corpus(household_options(devices, lines, seed)));
  std::vector<data::Example> out;
  for (const auto& household : corpus.households) append_lines(out, household);
  return out;
}

Result<std::vector<data::Example>> read(const DataConfig& config, std::size_t devices, std::uint64_t seed) {
  if (config.format == "households") return household_examples(devices, config.lines, seed);
  if (config.format == "play") {
    COVEY_ASSIGN(const std::string content, read_text_file(config.file));
    return data::parse_play(content, config.file);
  }
  return data::read_examples(config.file);
}

/// The largest `devices` parts, in the order in which they came.
Result<std::vector<data::Part>> largest(std::vector<data::Part> parts, std::size_t devices, const std::string& file) {
  if (parts.size() < devices) {
    return Error{ErrorCode::invalid_argument, file + ": has " + std::to_string(parts.size()) +
                                                  " keys, fewer than the " + std::to_string(devices) +
                                                  " devices; lower `devices` or set `data.partition: iid`"};
  }
  std::vector<std::size_t> order(parts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return parts[a].examples.size() > parts[b].examples.size(); });
  order.resize(devices);
  std::sort(order.begin(), order.end());
  std::vector<data::Part> out;
  for (const auto index : order) out.push_back(std::move(parts[index]));
  return out;
}

/// How examples become rows.
struct RowShape {
  int seq = 0;
  bool predict_end = true;
};

std::vector<train::TokenRow> rows_of(const text::Tokenizer& tokenizer, const std::vector<data::Example>& examples,
                                     const std::vector<std::size_t>& chosen, const RowShape& shape) {
  std::vector<adapters::TextExample> texts;
  for (const auto index : chosen) texts.push_back({examples[index].prompt, examples[index].text});
  auto rows = adapters::example_rows(tokenizer, texts, shape.seq);
  if (shape.predict_end || tokenizer.eos_id() < 0) return rows;
  for (auto& row : rows) {
    if (row.targets.size() < 2 || row.targets.back() != tokenizer.eos_id()) continue;
    row.ids.pop_back();
    row.targets.pop_back();
  }
  return rows;
}

/// A device's held-out rows of one phase, in the file beside the others until it is known which are drawn.
struct HeldOut {
  std::uint32_t device = 0;
  RowFile::Place place;
  std::size_t first_row = 0;  ///< of all held-out rows
};

/// At most `max` of the rows, drawn evenly; 0 = all.
Status draw_held_out(const RowFile& file, const std::vector<HeldOut>& held, std::size_t max, std::uint64_t seed,
                     SimulatedData& out) {
  std::vector<std::size_t> order(held.empty() ? 0 : held.back().first_row + held.back().place.rows);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (max > 0 && order.size() > max) {
    Rng rng(seed);
    rng.shuffle(order);
    order.resize(max);
  }
  out.held_out.resize(order.size());
  out.held_out_of.resize(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto at = std::prev(std::ranges::upper_bound(held, order[i], {}, &HeldOut::first_row));
    COVEY_ASSIGN(auto rows, file.read(at->place));
    out.held_out[i] = std::move(rows[order[i] - at->first_row]);
    out.held_out_of[i] = at->device;
  }
  return {};
}

}  // namespace

class DeviceRowsWriter {
 public:
  Status begin(std::size_t phases) {
    out_.phases_ = phases;
    COVEY_ASSIGN(out_.file_, RowFile::create());
    return {};
  }
  /// Phase after phase, device after device.
  Status add(std::span<const train::TokenRow> rows) {
    COVEY_ASSIGN(const auto place, out_.file_->append(rows));
    out_.places_.push_back(place);
    return {};
  }
  /// Rows that are no device's.
  Result<RowFile::Place> put_aside(std::span<const train::TokenRow> rows) { return out_.file_->append(rows); }
  void name(std::string key) { out_.keys_.push_back(std::move(key)); }
  Result<DeviceRows> finish() {
    COVEY_TRY(out_.file_->finish());
    return std::move(out_);
  }
  [[nodiscard]] static const RowFile& file_of(const DeviceRows& rows) { return *rows.file_; }

 private:
  DeviceRows out_;
};

std::size_t DeviceRows::count(std::size_t device) const {
  std::size_t out = 0;
  for (std::size_t phase = 0; phase < phases_; ++phase) out += places_[device * phases_ + phase].rows;
  return out;
}

Result<std::vector<train::TokenRow>> DeviceRows::read(std::size_t device, std::size_t phase) const {
  return file_->read(places_[device * phases_ + std::min(phase, phases_ - 1)]);
}

Result<DeviceRows> all_on_one(const DeviceRows& devices) {
  DeviceRowsWriter writer;
  COVEY_TRY(writer.begin(devices.phases()));
  for (std::size_t phase = 0; phase < devices.phases(); ++phase) {
    std::vector<train::TokenRow> all;
    for (std::size_t i = 0; i < devices.devices(); ++i) {
      COVEY_ASSIGN(auto rows, devices.read(i, phase));
      std::ranges::move(rows, std::back_inserter(all));
    }
    COVEY_TRY(writer.add(all));
  }
  writer.name("central");
  return writer.finish();
}

std::size_t phase_at(const DataConfig& config, std::int64_t now_ms) {
  if (config.phases < 2) return 0;
  return std::min(config.phases - 1, static_cast<std::size_t>(now_ms / config.phase_ms));
}

Result<std::vector<std::vector<data::Part>>> partition_devices(const DataConfig& config, std::size_t devices,
                                                               std::uint64_t seed) {
  using Phases = std::vector<std::vector<data::Part>>;
  COVEY_ASSIGN(const auto examples, read(config, devices, seed));
  if (config.partition == "key") {
    COVEY_ASSIGN(auto parts, largest(data::partition_by_key(examples), devices, config.file));
    return Phases{std::move(parts)};
  }
  if (examples.size() < devices * config.phases) {
    return Error{ErrorCode::invalid_argument,
                 config.file + ": has " + std::to_string(examples.size()) + " examples, fewer than the " +
                     std::to_string(devices) + " devices" +
                     (config.phases > 1 ? " in " + std::to_string(config.phases) + " phases" : "") +
                     "; lower `devices`"};
  }
  const std::uint64_t drawn = derive_seed(seed, kPartitionStream);
  if (config.partition == "drift") {
    auto phases = data::partition_drifting(examples, {devices, config.alpha, config.phases}, drawn);
    if (!phases.ok()) return Error{phases.error().code, config.file + ": " + phases.error().message};
    return phases;
  }
  auto parts = config.partition == "label"      ? data::partition_by_label(examples, devices, config.alpha, drawn)
               : config.partition == "quantity" ? data::partition_by_quantity(examples, devices, config.alpha, drawn)
                                                : data::partition_iid(examples, devices, drawn);
  if (!parts.ok()) return Error{parts.error().code, config.file + ": " + parts.error().message};
  return Phases{*std::move(parts)};
}

namespace {

/// Turns examples into rows, device after device and phase after phase; the examples themselves may go after each.
class RowsLoader {
 public:
  RowsLoader(const DataConfig& config, int seq, const text::Tokenizer& tokenizer, std::uint64_t seed)
      : config_(config), shape_{seq, config.predict_end}, tokenizer_(tokenizer), seed_(seed) {}

  Status begin(std::size_t phases) { return writer_.begin(phases); }
  void next_device(const std::string& key) {
    writer_.name(key);
    part_seed_ = derive_seed(derive_seed(seed_, kHoldOutStream), devices_++);
  }
  Status add(const std::vector<data::Example>& examples) {
    COVEY_ASSIGN(const auto split, data::hold_out(examples.size(), config_.held_out, part_seed_));
    COVEY_TRY(writer_.add(rows_of(tokenizer_, examples, split.train, shape_)));
    COVEY_ASSIGN(const auto aside, writer_.put_aside(rows_of(tokenizer_, examples, split.held_out, shape_)));
    if (aside.rows > 0) held_.push_back({static_cast<std::uint32_t>(devices_ - 1), aside, held_rows_});
    held_rows_ += aside.rows;
    return {};
  }
  Result<SimulatedData> finish() {
    SimulatedData out;
    COVEY_ASSIGN(out.devices, writer_.finish());
    COVEY_TRY(draw_held_out(DeviceRowsWriter::file_of(out.devices), held_,
                            static_cast<std::size_t>(config_.held_out_rows_max), derive_seed(seed_, kSampleStream),
                            out));
    return out;
  }

 private:
  const DataConfig& config_;
  RowShape shape_;
  const text::Tokenizer& tokenizer_;
  std::uint64_t seed_;
  std::uint64_t part_seed_ = 0;
  std::size_t devices_ = 0;
  DeviceRowsWriter writer_;
  std::vector<HeldOut> held_;
  std::size_t held_rows_ = 0;
};

}  // namespace

Result<SimulatedData> load_device_data(const DataConfig& config, std::size_t devices, int seq,
                                       const text::Tokenizer& tokenizer, std::uint64_t seed) {
  RowsLoader loader(config, seq, tokenizer, seed);
  if (config.format == "households" && config.partition == "key") {  // one household in memory, however many there are
    COVEY_TRY(loader.begin(1));
    const auto options = household_options(devices, config.lines, seed);
    for (std::size_t i = 0; i < devices; ++i) {
      COVEY_ASSIGN(const auto household, data::make_household(options, static_cast<int>(i) + 1));
      std::vector<data::Example> examples;
      append_lines(examples, household);
      loader.next_device(household.name);
      COVEY_TRY(loader.add(examples));
    }
    return loader.finish();
  }
  COVEY_ASSIGN(auto phases, partition_devices(config, devices, seed));
  COVEY_TRY(loader.begin(phases.size()));
  for (std::size_t i = 0; i < devices; ++i) {
    loader.next_device(phases[0][i].key);
    for (auto& parts : phases) {
      const auto examples = std::move(parts[i].examples);  // not needed again: the text goes with this turn
      COVEY_TRY(loader.add(examples));
    }
  }
  return loader.finish();
}

}  // namespace covey::simulations

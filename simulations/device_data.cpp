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

Result<std::vector<data::Example>> household_examples(std::size_t devices, std::int64_t lines, std::uint64_t seed) {
  data::HouseholdOptions options;
  options.households = static_cast<int>(devices);
  options.unseen = 0;
  options.lines_mean = static_cast<int>(lines);
  options.general_lines = 1;
  options.seed = seed;
  COVEY_ASSIGN(const auto corpus, data::make_household_corpus(options));
  std::vector<data::Example> out;
  for (const auto& household : corpus.households) {
    for (const auto& line : household.train) out.push_back({"", line, household.name});
  }
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

std::vector<train::TokenRow> rows_of(const text::Tokenizer& tokenizer, const std::vector<data::Example>& examples,
                                     const std::vector<std::size_t>& chosen, int seq) {
  std::vector<adapters::TextExample> texts;
  for (const auto index : chosen) texts.push_back({examples[index].prompt, examples[index].text});
  return adapters::example_rows(tokenizer, texts, seq);
}

/// Rows of which only some will be wanted: how many there are is known first, and those are made again.
struct HeldOut {
  std::uint32_t device = 0;
  std::vector<data::Example> examples;
  std::size_t first_row = 0;
  std::size_t rows = 0;
};

/// At most `max` of the rows, drawn evenly; 0 = all.
void draw_held_out(const text::Tokenizer& tokenizer, const std::vector<HeldOut>& held, int seq, std::size_t max,
                   std::uint64_t seed, SimulatedData& out) {
  std::vector<std::size_t> order(held.empty() ? 0 : held.back().first_row + held.back().rows);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (max > 0 && order.size() > max) {
    Rng rng(seed);
    rng.shuffle(order);
    order.resize(max);
  }
  out.held_out.resize(order.size());
  out.held_out_of.resize(order.size());
  std::vector<std::size_t> by_row(order.size());
  std::iota(by_row.begin(), by_row.end(), std::size_t{0});
  std::ranges::sort(by_row, {}, [&](std::size_t i) { return order[i]; });
  auto at = held.begin();
  std::vector<train::TokenRow> rows;
  for (const auto i : by_row) {
    const std::size_t row = order[i];
    if (rows.empty() || row >= at->first_row + at->rows) {
      at = std::prev(std::ranges::upper_bound(at, held.end(), row, {}, &HeldOut::first_row));
      std::vector<std::size_t> all(at->examples.size());
      std::iota(all.begin(), all.end(), std::size_t{0});
      rows = rows_of(tokenizer, at->examples, all, seq);
    }
    out.held_out[i] = rows[row - at->first_row];
    out.held_out_of[i] = at->device;
  }
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
  void name(std::string key) { out_.keys_.push_back(std::move(key)); }
  Result<DeviceRows> finish() {
    COVEY_TRY(out_.file_->finish());
    return std::move(out_);
  }

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

Result<SimulatedData> load_device_data(const DataConfig& config, std::size_t devices, int seq,
                                       const text::Tokenizer& tokenizer, std::uint64_t seed) {
  COVEY_ASSIGN(auto phases, partition_devices(config, devices, seed));
  DeviceRowsWriter writer;
  COVEY_TRY(writer.begin(phases.size()));
  std::vector<HeldOut> held;
  std::size_t held_rows = 0;
  for (std::size_t i = 0; i < devices; ++i) {
    const std::uint64_t part_seed = derive_seed(derive_seed(seed, kHoldOutStream), i);
    writer.name(phases[0][i].key);
    for (auto& parts : phases) {
      const auto examples = std::move(parts[i].examples);  // not needed again: the text goes with this turn
      COVEY_ASSIGN(const auto split, data::hold_out(examples.size(), config.held_out, part_seed));
      COVEY_TRY(writer.add(rows_of(tokenizer, examples, split.train, seq)));
      HeldOut part{
          static_cast<std::uint32_t>(i), {}, held_rows, rows_of(tokenizer, examples, split.held_out, seq).size()};
      for (const auto index : split.held_out) part.examples.push_back(examples[index]);
      held_rows += part.rows;
      if (part.rows > 0) held.push_back(std::move(part));
    }
  }
  SimulatedData out;
  draw_held_out(tokenizer, held, seq, static_cast<std::size_t>(config.held_out_rows_max),
                derive_seed(seed, kSampleStream), out);
  COVEY_ASSIGN(out.devices, writer.finish());
  return out;
}

}  // namespace covey::simulations

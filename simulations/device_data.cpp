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

}  // namespace

std::span<const train::TokenRow> DeviceRows::in_phase(std::size_t phase) const {
  if (phase_begin.empty()) return rows;
  return std::span(rows).subspan(phase_begin[phase], phase_begin[phase + 1] - phase_begin[phase]);
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
  COVEY_ASSIGN(const auto phases, partition_devices(config, devices, seed));
  SimulatedData out;
  for (std::size_t i = 0; i < devices; ++i) {
    const std::uint64_t part_seed = derive_seed(derive_seed(seed, kHoldOutStream), i);
    DeviceRows device{phases[0][i].key, {}, {}};
    for (const auto& parts : phases) {
      const auto& examples = parts[i].examples;
      COVEY_ASSIGN(const auto split, data::hold_out(examples.size(), config.held_out, part_seed));
      if (phases.size() > 1) device.phase_begin.push_back(device.rows.size());
      auto rows = rows_of(tokenizer, examples, split.train, seq);
      std::move(rows.begin(), rows.end(), std::back_inserter(device.rows));
      auto held = rows_of(tokenizer, examples, split.held_out, seq);
      out.held_out_of.insert(out.held_out_of.end(), held.size(), static_cast<std::uint32_t>(i));
      std::move(held.begin(), held.end(), std::back_inserter(out.held_out));
    }
    if (phases.size() > 1) device.phase_begin.push_back(device.rows.size());
    out.devices.push_back(std::move(device));
  }
  const auto max = static_cast<std::size_t>(config.held_out_rows_max);
  if (max > 0 && out.held_out.size() > max) {
    // The same permutation twice.
    Rng(derive_seed(seed, kSampleStream)).shuffle(out.held_out);
    Rng(derive_seed(seed, kSampleStream)).shuffle(out.held_out_of);
    out.held_out.resize(max);
    out.held_out_of.resize(max);
  }
  return out;
}

}  // namespace covey::simulations

#include "simulations/fleet_data.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/base/file.h"
#include "core/base/rng.h"
#include "core/formats/json.h"

namespace covey::simulations {
namespace {

struct Phone {
  double score = 0;
  double memory_gib = 0;
};

Result<double> number_in(const formats::Json& phone, const char* key, std::string_view unit, const std::string& where) {
  COVEY_ASSIGN(std::string text, phone.get_string(key));
  if (text.ends_with(unit)) text.resize(text.size() - unit.size());
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 1e-3 && value < 1e9)) {
    return Error{ErrorCode::invalid_argument, where + ": `" + key + "` is not a number from 0.001 to 10^9 of " +
                                                  (unit.empty() ? std::string("points") : std::string(unit)) +
                                                  "; correct it or remove the phone"};
  }
  return value;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

const DeviceClass& nearest_builtin(const std::vector<DeviceClass>& builtin, double gflops) {
  return *std::ranges::min_element(
      builtin, {}, [&](const DeviceClass& one) { return std::abs(std::log(one.training_gflops / gflops)); });
}

}  // namespace

Result<std::vector<DeviceClass>> classes_from_scores(std::string_view json, const std::string& where,
                                                     const ScoreOptions& options) {
  COVEY_ASSIGN(const auto list, formats::Json::parse(json, where));
  if (!list.is_array()) return Error{ErrorCode::invalid_argument, where + ": is not a list of phones"};
  std::vector<Phone> phones;
  for (std::size_t i = 0; i < list.items().size(); ++i) {
    const formats::Json& phone = list.items()[i];
    const std::string at = where + ": phone " + std::to_string(i + 1);
    if (!phone.is_object()) return Error{ErrorCode::invalid_argument, at + " is no object"};
    COVEY_ASSIGN(const double score, number_in(phone, "CPU_F_AI_Score", "", at));
    COVEY_ASSIGN(const double memory, number_in(phone, "RAM", "GB", at));
    phones.push_back({score, memory});
  }
  const auto count = static_cast<std::size_t>(options.classes);
  if (phones.size() < count) {
    return Error{ErrorCode::invalid_argument, where + ": has " + std::to_string(phones.size()) +
                                                  " phones, fewer than " + std::to_string(count) +
                                                  " classes; lower `score_classes`"};
  }
  std::ranges::sort(phones, {}, [](const Phone& phone) { return std::pair(phone.score, phone.memory_gib); });
  std::vector<double> scores;
  for (const auto& phone : phones) scores.push_back(phone.score);
  const double middle = median(scores);
  const auto builtin = builtin_classes();
  std::vector<DeviceClass> out;
  for (std::size_t c = 0; c < count; ++c) {
    const std::size_t begin = c * phones.size() / count;
    const std::size_t end = (c + 1) * phones.size() / count;
    std::vector<double> memory;
    for (std::size_t i = begin; i < end; ++i) memory.push_back(phones[i].memory_gib);
    const std::vector<double> own(scores.begin() + static_cast<std::ptrdiff_t>(begin),
                                  scores.begin() + static_cast<std::ptrdiff_t>(end));
    const double gflops = options.median_gflops * median(own) / middle;
    DeviceClass made = nearest_builtin(builtin, gflops);
    made.name = "score " + std::to_string(std::lround(own.front())) + "-" + std::to_string(std::lround(own.back()));
    made.share = static_cast<double>(end - begin);
    made.training_gflops = gflops;
    made.memory_bytes = static_cast<std::uint64_t>(median(memory) * static_cast<double>(std::uint64_t{1} << 30));
    made.training_watts = 3 * std::sqrt(std::sqrt(gflops / 15));
    out.push_back(made);
  }
  return out;
}

Result<std::vector<DeviceClass>> load_classes(const std::string& path, const ScoreOptions& options) {
  COVEY_ASSIGN(const std::string text, read_text_file(path));
  return classes_from_scores(text, path, options);
}

// ---- packet traces -------------------------------------------------------------------------------------------------

Result<PacketTrace> PacketTrace::parse(std::string_view text, const std::string& where) {
  PacketTrace out;
  std::size_t line = 0;
  while (!text.empty()) {
    ++line;
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view field = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (field.ends_with('\r')) field.remove_suffix(1);
    if (field.empty() && text.empty()) break;
    std::int64_t at_ms = 0;
    const auto [stop, error] = std::from_chars(field.data(), field.data() + field.size(), at_ms);
    const std::int64_t last = out.at_ms_.empty() ? 0 : out.at_ms_.back();
    if (error != std::errc() || stop != field.data() + field.size() || at_ms < last || at_ms > std::int64_t{1} << 40) {
      return Error{ErrorCode::invalid_argument,
                   where + ":" + std::to_string(line) +
                       ": is not a time in milliseconds, no less than the one before; a line holds one such number"};
    }
    if (out.at_ms_.size() == kPacketsMax) {
      return Error{ErrorCode::invalid_argument, where + ": has more than " + std::to_string(kPacketsMax) + " packets"};
    }
    out.at_ms_.push_back(at_ms);
  }
  if (out.at_ms_.empty()) return Error{ErrorCode::invalid_argument, where + ": has no packet; a line is one"};
  out.period_ms_ = std::max<std::int64_t>(1, out.at_ms_.back());
  return out;
}

std::int64_t PacketTrace::passed_ms(std::int64_t start_ms, std::uint64_t bytes) const {
  const auto packets = static_cast<std::int64_t>((bytes + kPacketBytes - 1) / kPacketBytes);
  if (packets == 0) return start_ms;
  const auto per_period = static_cast<std::int64_t>(at_ms_.size());
  const std::int64_t round = start_ms / period_ms_;
  const auto first = std::ranges::lower_bound(at_ms_, start_ms - round * period_ms_) - at_ms_.begin();
  const std::int64_t last = first + packets - 1;
  return (round + last / per_period) * period_ms_ + at_ms_[static_cast<std::size_t>(last % per_period)];
}

double PacketTrace::bytes_per_s() const {
  return static_cast<double>(at_ms_.size() * kPacketBytes) * 1000.0 / static_cast<double>(period_ms_);
}

Result<LinkTrace> load_link_trace(const std::string& path) {
  LinkTrace out;
  out.name = path.substr(path.find_last_of('/') + 1);
  COVEY_ASSIGN(const std::string up, read_text_file(path + ".up"));
  COVEY_ASSIGN(out.up, PacketTrace::parse(up, path + ".up"));
  COVEY_ASSIGN(const std::string down, read_text_file(path + ".down"));
  COVEY_ASSIGN(out.down, PacketTrace::parse(down, path + ".down"));
  return out;
}

std::int64_t Link::passed_ms(bool up, std::int64_t start_ms, std::uint64_t bytes) const {
  if (trace == nullptr) return start_ms + transfer_ms(up ? up_bytes_per_s : down_bytes_per_s, bytes);
  return (up ? trace->up : trace->down).passed_ms(start_ms + offset_ms, bytes) - offset_ms;
}

Link draw_link(const DeviceClass& device, const std::vector<LinkTrace>& traces, std::uint64_t seed,
               std::uint64_t index) {
  Link out;
  out.up_bytes_per_s = device.up_bytes_per_s;
  out.down_bytes_per_s = device.down_bytes_per_s;
  if (traces.empty()) return out;
  Rng rng(seed, index);
  out.trace = &traces[rng.below(traces.size())];
  out.offset_ms = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(out.trace->up.period_ms())));
  return out;
}

}  // namespace covey::simulations

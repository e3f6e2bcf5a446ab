#include "simulations/fleet_config.h"

#include <algorithm>

namespace covey::simulations {
namespace {

DeviceClass read_class(config::Section section) {
  DeviceClass device;
  device.name = section.text("name", config::required);
  device.share = section.real("share", config::required, 0, 1e9);
  device.training_gflops = section.real("training_gflops", config::required, 1e-3, 1e9);
  device.memory_bytes = static_cast<std::uint64_t>(section.int64("memory_mib", config::required, 1, 1 << 24)) << 20;
  device.down_bytes_per_s = section.real("down_mbit_per_s", config::required, 1e-3, 1e6) * 1e6 / 8;
  device.up_bytes_per_s = section.real("up_mbit_per_s", config::required, 1e-3, 1e6) * 1e6 / 8;
  device.latency_ms = section.int64("latency_ms", config::required, 0, 600'000);
  device.training_watts = section.real("training_watts", config::required, 0, 1e4);
  device.radio_watts = section.real("radio_watts", config::required, 0, 1e4);
  return device;
}

}  // namespace

std::vector<DeviceClass> read_classes(config::Section fleet, const Beside& beside) {
  std::vector<DeviceClass> out;
  for (const auto& entry : fleet.sections("classes")) out.push_back(read_class(entry));
  const std::string scores = beside(fleet.text("scores", ""));
  if (!scores.empty()) {
    ScoreOptions options;
    options.classes = static_cast<int>(fleet.int64("score_classes", options.classes, 1, 100));
    options.median_gflops = fleet.real("median_gflops", options.median_gflops, 1e-3, 1e6);
    if (!out.empty()) fleet.problem("scores", "stands beside `classes`; keep one of them");
    auto loaded = load_classes(scores, options);
    if (!loaded.ok()) fleet.problem("scores", "cannot be used: " + loaded.error().message);
    if (loaded.ok()) out = *std::move(loaded);
  }
  if (out.empty()) out = builtin_classes();
  const bool some = std::ranges::any_of(out, [](const auto& c) { return c.share > 0; });
  if (!some) fleet.problem("classes", "have no `share` above 0; give one to at least one class");
  return out;
}

std::vector<LinkTrace> read_traces(config::Section fleet, const Beside& beside) {
  std::vector<LinkTrace> out;
  for (const auto& path : fleet.texts("traces", std::vector<std::string>{})) {
    auto loaded = load_link_trace(beside(path));
    if (loaded.ok()) {
      out.push_back(*std::move(loaded));
    } else {
      fleet.problem("traces", "cannot be used: " + loaded.error().message);
    }
  }
  return out;
}

Availability read_availability(config::Section section) {
  Availability out;
  out.diurnal = section.choice("model", {"always", "diurnal"}, "always") == "diurnal";
  if (!out.diurnal) return out;
  out.charged = section.real("charged", out.charged, 0.01, 1);
  out.begin = section.real("begin_hour", out.begin, 0, 24);
  out.hours = section.real("hours", out.hours, 1, 16);
  out.spread = section.real("spread_hours", out.spread, 0, 6);
  out.zones = section.real("zones_hours", out.zones, 0, 24);
  return out;
}

std::optional<ModelledTraining> read_modelled(config::Section root, const coordinator::TaskConfig& task) {
  if (root.choice("training", {"real", "modelled"}, "real") == "real") return std::nullopt;
  auto section = root.section("modelled");
  ModelledTraining out;
  out.parameters = section.real("parameters", 0.0, 0, 1e12);
  out.update_bytes = static_cast<std::uint64_t>(section.int64("update_bytes", 0, 0, std::int64_t{1} << 40));
  out.examples = section.real("examples", out.examples, 1, 1e6);
  if (task.privacy.mode != wire::PrivacyMode::robust) {
    root.problem("training",
                 "modelled has no devices that take part in secure aggregation; set `privacy.mode: robust`");
  }
  return out;
}

}  // namespace covey::simulations

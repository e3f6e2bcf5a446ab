#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <numeric>

#include "core/base/file.h"
#include "core/formats/json.h"
#include "simulations/covey_sim.h"
#include "simulations/device_data.h"
#include "simulations/experiment.h"
#include "simulations/svg_chart.h"
#include "simulations/world.h"

namespace covey::simulations {
namespace {

using formats::Json;

constexpr std::size_t kLegendMax = 16;  ///< labels that a reader can tell apart by colour; more have the bars' tooltips
constexpr std::size_t kBarsMax = 400;
constexpr int kTerminalBars = 40;

struct Mix {
  std::vector<std::string> labels;               ///< most frequent first; one empty name where there are none
  std::vector<std::vector<std::size_t>> counts;  ///< per device and label
};

/// One for each phase, with the same labels in the same order.
std::vector<Mix> mixes_of(const std::vector<std::vector<data::Part>>& phases) {
  std::map<std::string, std::size_t> totals;
  for (const auto& parts : phases) {
    for (const auto& part : parts) {
      for (const auto& example : part.examples) ++totals[example.label.value_or("")];
    }
  }
  std::vector<std::string> labels;
  for (const auto& [label, count] : totals) labels.push_back(label);
  std::ranges::stable_sort(labels, std::ranges::greater(), [&](const auto& label) { return totals[label]; });
  std::map<std::string, std::size_t> place;
  for (std::size_t i = 0; i < labels.size(); ++i) place[labels[i]] = i;
  std::vector<Mix> out;
  for (const auto& parts : phases) {
    Mix& mix = out.emplace_back(Mix{labels, {}});
    for (const auto& part : parts) {
      auto& row = mix.counts.emplace_back(labels.size());
      for (const auto& example : part.examples) ++row[place[example.label.value_or("")]];
    }
  }
  return out;
}

std::size_t size_of(const std::vector<std::size_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::size_t{0});
}

/// How many labels a device's mix is worth: e to the power of its entropy.
double labels_in_effect(const std::vector<std::size_t>& counts) {
  const auto n = static_cast<double>(size_of(counts));
  double entropy = 0;
  for (const std::size_t count : counts) {
    if (count > 0) entropy -= static_cast<double>(count) / n * std::log(static_cast<double>(count) / n);
  }
  return std::exp(entropy);
}

/// 0: all have the same; towards 1: one has everything (Gini coefficient).
double inequality(std::vector<std::size_t> sizes) {
  std::ranges::sort(sizes);
  double weighted = 0;
  double total = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    weighted += static_cast<double>(i + 1) * static_cast<double>(sizes[i]);
    total += static_cast<double>(sizes[i]);
  }
  const auto n = static_cast<double>(sizes.size());
  return 2 * weighted / (n * total) - (n + 1) / n;
}

std::string colour(std::size_t label, std::size_t labels) {
  return "hsl(" + std::to_string(label * 360 / labels) + " 60% 55%)";
}

/// One stacked bar per device, one colour per label.
std::string bars_of(const std::vector<data::Part>& parts, const Mix& mix, std::size_t bars, std::size_t largest) {
  const double width = 900.0 / static_cast<double>(bars);
  std::string svg;
  std::array<char, 200> line{};
  for (std::size_t d = 0; d < bars; ++d) {
    double top = 300;
    for (std::size_t label = 0; label < mix.labels.size(); ++label) {
      const double height = 290.0 * static_cast<double>(mix.counts[d][label]) / static_cast<double>(largest);
      if (height <= 0) continue;
      top -= height;
      std::snprintf(line.data(), line.size(), "<rect x='%.2f' y='%.2f' width='%.2f' height='%.2f' fill='%s'><title>",
                    static_cast<double>(d) * width, top, width * 0.9, height, colour(label, mix.labels.size()).c_str());
      svg += line.data() + html_escaped(parts[d].key) + ": " + std::to_string(mix.counts[d][label]) + " " +
             html_escaped(mix.labels[label]) + "</title></rect>\n";
    }
  }
  return "<svg viewBox='0 0 900 305' role=img>" + svg + "</svg>";
}

/// The devices' bars, below each other for each phase; no script, nothing loaded from elsewhere.
std::string plot(const std::string& name, const std::vector<std::string>& figures,
                 const std::vector<std::vector<data::Part>>& phases, const std::vector<Mix>& mixes) {
  const std::size_t devices = phases.front().size();
  const std::size_t bars = std::min(devices, kBarsMax);
  std::size_t largest = 1;
  for (const Mix& mix : mixes) {
    for (std::size_t d = 0; d < bars; ++d) largest = std::max(largest, size_of(mix.counts[d]));
  }
  const auto& labels = mixes.front().labels;
  std::string legend;
  const bool named = labels.size() > 1 && labels.size() <= kLegendMax;
  for (std::size_t label = 0; named && label < labels.size(); ++label) {
    legend += "<span><i style='background:" + colour(label, labels.size()) + "'></i>" + html_escaped(labels[label]) +
              "</span> ";
  }
  const std::string cut = devices > bars ? " (the first " + std::to_string(bars) + " are drawn)" : "";
  std::string body;
  for (std::size_t k = 0; k < phases.size(); ++k) {
    if (phases.size() > 1) {
      body += "<h2>Phase " + std::to_string(k + 1) + " of " + std::to_string(phases.size()) + "</h2>";
    }
    body += "<p>" + figures[k] + cut + "</p>" + bars_of(phases[k], mixes[k], bars, largest);
  }
  return "<!doctype html><html lang=en><meta charset=utf-8><title>" + html_escaped(name) +
         "</title><style>:root{color-scheme:light dark}body{font:15px system-ui;max-width:940px;margin:2em "
         "auto;padding:0 1em}"
         "svg{width:100%;height:auto}i{display:inline-block;width:.8em;height:.8em;margin-right:.3em}span{margin-right:"
         "1em}"
         "</style><h1>" +
         html_escaped(name) + "</h1><p>Examples per device; tallest bar: " + std::to_string(largest) + ".</p>" + body +
         "<p>" + legend + "</p></html>\n";
}

struct Figures {
  std::vector<std::size_t> sizes;  ///< per device
  std::size_t all = 0;
  double effective = 0;  ///< labels in effect, mean over devices
  std::string words;
};

Figures figures_of(const Mix& mix) {
  Figures out;
  for (const auto& row : mix.counts) {
    out.sizes.push_back(size_of(row));
    out.effective += labels_in_effect(row) / static_cast<double>(mix.counts.size());
  }
  out.all = size_of(out.sizes);
  const auto [least, most] = std::ranges::minmax(out.sizes);
  std::array<char, 200> words{};
  std::snprintf(words.data(), words.size(),
                "%zu examples on %zu devices: %zu to %zu each (Gini %.2f); %zu labels, %.1f in effect on a device",
                out.all, out.sizes.size(), least, most, inequality(out.sizes), mix.labels.size(), out.effective);
  out.words = words.data();
  return out;
}

Json json_of(const std::vector<data::Part>& parts, const Mix& mix, const Figures& figures) {
  const auto [least, most] = std::ranges::minmax(figures.sizes);
  Json devices = Json::array();
  for (std::size_t d = 0; d < parts.size(); ++d) {
    devices.push_back(Json::object({{"key", parts[d].key},
                                    {"examples", figures.sizes[d]},
                                    {"labels_in_effect", labels_in_effect(mix.counts[d])}}));
  }
  return Json::object({{"devices", parts.size()},
                       {"examples", figures.all},
                       {"least", least},
                       {"most", most},
                       {"gini", inequality(figures.sizes)},
                       {"labels", mix.labels.size()},
                       {"labels_in_effect", figures.effective},
                       {"per_device", devices}});
}

void print_bars(const std::vector<data::Part>& parts, const Figures& figures) {
  const std::size_t most = std::ranges::max(figures.sizes);
  for (std::size_t d = 0; d < std::min<std::size_t>(parts.size(), 50); ++d) {
    const auto length = std::max<std::size_t>(1, figures.sizes[d] * kTerminalBars / std::max<std::size_t>(most, 1));
    std::printf("%-20.20s %7zu  %s\n", parts[d].key.c_str(), figures.sizes[d], std::string(length, '#').c_str());
  }
  if (parts.size() > 50) std::printf("... and %zu more devices\n", parts.size() - 50);
}

}  // namespace

Status partition_command(const PartitionOptions& options) {
  COVEY_ASSIGN(const auto experiment, load_experiment(options.experiment));
  // The seed that a run of this experiment draws its data from.
  COVEY_ASSIGN(const auto phases, partition_devices(experiment.data, experiment.devices, data_seed(experiment)));
  const auto mixes = mixes_of(phases);
  std::vector<std::string> words;
  Json list = Json::array();
  for (std::size_t k = 0; k < phases.size(); ++k) {
    const Figures figures = figures_of(mixes[k]);
    words.push_back(figures.words);
    list.push_back(json_of(phases[k], mixes[k], figures));
    if (options.json) continue;
    if (phases.size() > 1) std::printf("phase %zu of %zu\n", k + 1, phases.size());
    print_bars(phases[k], figures);
    std::printf("%s\n", figures.words.c_str());
  }
  if (options.json) {
    const Json out = phases.size() == 1 ? list.items().front() : Json::object({{"phases", list}});
    std::printf("%s\n", out.dump().c_str());
  }
  if (options.out.empty()) return {};
  return write_file_durably(options.out, plot(experiment.name, words, phases, mixes));
}

}  // namespace covey::simulations

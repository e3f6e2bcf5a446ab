#include "simulations/sweep.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <limits>

#include "core/base/rng.h"
#include "core/config/reader.h"

namespace covey::simulations {
namespace {

struct Axis {
  std::string key;
  std::vector<std::string> values;  ///< empty: drawn from [low, high]
  double low = 0;
  double high = 0;
  bool log = false;
  bool whole = false;
};

struct Variant {
  std::string name;
  std::vector<KeyValue> set;
};

Axis read_axis(config::Section section, bool random) {
  Axis out;
  out.key = section.text("key", config::required);
  if (!random || section.has("values")) {
    out.values = section.texts("values", config::required);
    if (out.values.empty()) section.problem("values", "has none; list at least one");
    return out;
  }
  out.low = section.real("low", config::required, -1e12, 1e12);
  out.high = section.real("high", config::required, -1e12, 1e12);
  out.log = section.choice("scale", {"linear", "log"}, "linear") == "log";
  out.whole = section.boolean("whole", false);
  if (out.low > out.high) section.problem("high", "is below `low`; exchange them");
  if (out.log && out.low <= 0) section.problem("low", "must be above 0 where `scale` is log");
  return out;
}

Variant read_variant(config::Section section) {
  Variant out;
  out.name = section.text("name", config::required);
  const bool plain = !out.name.empty() && out.name.size() <= 64 && std::ranges::all_of(out.name, [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
  if (!plain) section.problem("name", "names a folder: write letters, digits, - and _, at most 64");
  for (const auto& text : section.texts("set", std::vector<std::string>{})) {
    const auto pair = KeyValue::parse(text);
    if (pair.ok()) {
      out.set.push_back(*pair);
    } else {
      section.problem("set", "has " + pair.error().message);
    }
  }
  return out;
}

std::string sweep_number(double value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value).ptr;
  return {text, end};
}

std::string draw(const Axis& axis, Rng& rng) {
  if (!axis.values.empty()) return axis.values[rng.below(axis.values.size())];
  const double u = rng.uniform();
  double value = axis.log ? std::exp(std::log(axis.low) + u * (std::log(axis.high) - std::log(axis.low)))
                          : axis.low + u * (axis.high - axis.low);
  value = std::clamp(axis.whole ? std::round(value) : value, axis.low, axis.high);
  // Four digits: what a sweep finds is to be written into a file by people.
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, 4).ptr;
  if (axis.whole) return sweep_number(value);
  return {text, end};
}

/// The settings of the axes, one list a combination; one empty list where there is no axis.
std::vector<std::vector<KeyValue>> combinations(const std::vector<Axis>& axes, bool random, std::size_t samples,
                                                std::uint64_t seed) {
  std::vector<std::vector<KeyValue>> out;
  if (random) {
    Rng rng(seed);
    for (std::size_t i = 0; i < samples; ++i) {
      auto& set = out.emplace_back();
      for (const auto& axis : axes) set.push_back({axis.key, draw(axis, rng)});
    }
    return out;
  }
  out.emplace_back();
  for (const auto& axis : axes) {
    std::vector<std::vector<KeyValue>> longer;
    for (const auto& set : out) {
      for (const auto& value : axis.values) {
        if (longer.size() > kSweepPointsMax) return longer;
        longer.push_back(set);
        longer.back().push_back({axis.key, value});
      }
    }
    out = std::move(longer);
  }
  return out;
}

}  // namespace

Result<Sweep> load_sweep(const std::string& path) {
  COVEY_ASSIGN(auto document, config::Document::load(path));
  auto root = document.root();
  Sweep out;
  const std::string experiment = root.text("experiment", config::required);
  out.experiment = (std::filesystem::path(path).parent_path() / experiment).lexically_normal().string();
  const auto seeds = root.int64s("seeds", std::vector<std::int64_t>{1}, 0, std::numeric_limits<std::int64_t>::max());
  const bool random = root.choice("search", {"grid", "random"}, "grid") == "random";
  const auto samples = random ? static_cast<std::size_t>(root.int64("samples", 20, 1, kSweepPointsMax)) : 0;
  const auto seed = random ? static_cast<std::uint64_t>(root.int64("seed", 1, 0, 1LL << 62)) : 0;
  std::vector<Variant> variants;
  for (auto& section : root.sections("variants")) variants.push_back(read_variant(section));
  if (variants.empty()) variants.emplace_back();
  std::vector<Axis> axes;
  for (auto& section : root.sections("axes")) axes.push_back(read_axis(section, random));
  if (random && axes.empty()) root.problem("axes", "has none to draw from; add one or set `search: grid`");
  if (seeds.empty()) root.problem("seeds", "has none; list at least one");
  COVEY_TRY(document.finish());
  out.resolved = document.resolved();

  const auto sets = combinations(axes, random, samples, seed);
  if (sets.size() * variants.size() * seeds.size() > kSweepPointsMax) {
    return Error{ErrorCode::invalid_argument, path + ": more than " + std::to_string(kSweepPointsMax) +
                                                  " runs; take fewer values, or `search: random`"};
  }
  for (const auto& set : sets) {
    for (const auto& variant : variants) {
      SweepPoint point;
      point.variant = variant.name;
      point.set = variant.set;
      point.set.insert(point.set.end(), set.begin(), set.end());
      const auto readable = load_experiment(out.experiment, point.set);
      if (!readable.ok()) return readable.error().in(variant.name.empty() ? "sweep" : "variant " + variant.name);
      for (const auto one : seeds) {
        point.seed = static_cast<std::uint64_t>(one);
        const std::string number = std::to_string(out.points.size() + 1);
        point.name = std::string(4 - std::min<std::size_t>(4, number.size()), '0') + number +
                     (variant.name.empty() ? "" : "-" + variant.name) + "-s" + std::to_string(one);
        out.points.push_back(point);
      }
    }
  }
  return out;
}

}  // namespace covey::simulations

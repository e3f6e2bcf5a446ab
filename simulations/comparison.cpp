#include "simulations/comparison.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "simulations/report.h"
#include "simulations/report_page.h"

namespace covey::simulations {
namespace {

using formats::Json;

struct ComparedFigure {
  const char* name;     ///< in the files
  const char* section;  ///< of the summary; nullptr: itself
  const char* key;
  double factor = 1;
};
constexpr std::array kComparedFigures = {ComparedFigure{"loss", "final", "loss"},
                                         ComparedFigure{"perplexity", "final", "perplexity"},
                                         ComparedFigure{"accuracy", "final", "accuracy"},
                                         ComparedFigure{"base_perplexity", "base", "perplexity"},
                                         ComparedFigure{"base_accuracy", "base", "accuracy"},
                                         ComparedFigure{"rounds_published", nullptr, "rounds_published"},
                                         ComparedFigure{"virtual_s", nullptr, "virtual_hours", 3600},
                                         ComparedFigure{"bytes_up", nullptr, "bytes_up"},
                                         ComparedFigure{"bytes_down", nullptr, "bytes_down"},
                                         ComparedFigure{"training_bytes", nullptr, "training_bytes"},
                                         ComparedFigure{"joules", nullptr, "joules"},
                                         ComparedFigure{"co2_g", nullptr, "co2_g"},
                                         ComparedFigure{"epsilon", nullptr, "epsilon"},
                                         ComparedFigure{"wall_s", "measured", "wall_s"}};
constexpr std::array kTargetColumns = {"round", "virtual_s", "bytes_total", "joules_total"};

double figure_of(const ComparedRun& run, const ComparedFigure& figure) {
  const Json* from = figure.section == nullptr ? &run.summary : run.summary.find(figure.section);
  return figure.factor * json_double(from, figure.key);
}

Json interval_json(const Interval& interval) {
  return Json::object({{"mean", interval.mean}, {"half", interval.half}, {"n", interval.n}});
}

/// When each run first was at the target; those that never were are counted apart.
Json target_json(const ComparedGroup& group, const ComparedTarget& target) {
  std::size_t reached = 0;
  std::map<std::string, std::vector<double>> spent;
  for (const auto& run : group.runs) {
    const auto at = std::ranges::find_if(run.rounds, [&](const Json& round) {
      const double value = json_double(&round, target.accuracy ? "accuracy" : "loss");
      return target.accuracy ? value >= target.value : value <= target.value + 1e-12;
    });
    if (at == run.rounds.end()) continue;
    ++reached;
    for (const char* key : kTargetColumns) spent[key].push_back(json_double(&*at, key));
  }
  Json out = Json::object({{"reached", reached}});
  for (const char* key : kTargetColumns) out.set(key, interval_json(confidence(spent[key])));
  return out;
}

/// How far a setting is from the first one, as a part of it: over the seeds that both have, which share data and start.
Json against_json(const ComparedGroup& group, const ComparedGroup& first) {
  Json out = Json::object();
  for (const char* key : {"loss", "perplexity", "accuracy"}) {
    std::vector<double> parts;
    for (const auto& run : group.runs) {
      const auto same = std::ranges::find(first.runs, run.seed, &ComparedRun::seed);
      if (same == first.runs.end()) continue;
      parts.push_back(json_double(run.summary.find("final"), key) / json_double(same->summary.find("final"), key) - 1);
    }
    out.set(key, interval_json(confidence(parts)));
  }
  return out;
}

Json curve_json(const ComparedGroup& group) {
  Json out = Json::array();
  for (const auto& point : curve_of(group)) {
    out.push_back(Json::object({{"version", point.version},
                                {"round", point.round},
                                {"virtual_s", point.virtual_s},
                                {"bytes_total", point.bytes_total},
                                {"joules_total", point.joules_total},
                                {"epsilon", point.epsilon},
                                {"loss", interval_json(point.loss)},
                                {"perplexity", interval_json(point.perplexity)},
                                {"accuracy", interval_json(point.accuracy)}}));
  }
  return out;
}

void set_interval(Json& line, const std::string& name, const Json& interval) {
  line.set(name, *interval.find("mean")).set(name + "_half", *interval.find("half"));
}

}  // namespace

double student_t(std::size_t freedom) {
  constexpr std::array kExact = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281};
  if (freedom <= kExact.size()) return kExact[freedom - 1];
  // Cornish and Fisher's expansion around the normal quantile; from 11 degrees of freedom on right to 4 digits.
  const double z = 1.959964;
  const double n = static_cast<double>(freedom);
  const double z3 = z * z * z;
  const double z5 = z3 * z * z;
  const double z7 = z5 * z * z;
  return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n) +
         (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * n * n * n);
}

Interval confidence(const std::vector<double>& values) {
  Interval out{0, kNoFigure, 0};
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    out.mean += value;
    ++out.n;
  }
  const auto n = static_cast<double>(out.n);
  out.mean = out.n == 0 ? kNoFigure : out.mean / n;
  if (out.n < 2) return out;
  double squares = 0;
  for (const double value : values) {
    if (std::isfinite(value)) squares += (value - out.mean) * (value - out.mean);
  }
  out.half = student_t(out.n - 1) * std::sqrt(squares / (n - 1) / n);
  return out;
}

std::optional<ComparedTarget> default_target(const ComparedRuns& runs) {
  if (runs.groups.empty()) return std::nullopt;
  std::vector<double> targets;
  for (const auto& run : runs.groups.front().runs) {
    const double base = json_double(run.summary.find("base"), "loss");
    const double last = json_double(run.summary.find("final"), "loss");
    if (last < base) targets.push_back(base - 0.9 * (base - last));
  }
  if (targets.empty()) return std::nullopt;
  const double loss = confidence(targets).mean;
  return ComparedTarget{false, loss,
                        "held-out perplexity " + short_number(std::exp(loss), 4) +
                            " or less: nine tenths of the way "
                            "that " +
                            runs.groups.front().label + " takes the loss down"};
}

std::vector<CurvePoint> curve_of(const ComparedGroup& group) {
  std::vector<std::vector<Json>> runs;
  std::size_t shortest = static_cast<std::size_t>(-1);
  for (const auto& run : group.runs) {
    runs.push_back(measured_rounds(run.summary, run.rounds));
    shortest = std::min(shortest, runs.back().size());
  }
  std::vector<CurvePoint> out;
  for (std::size_t i = 0; i < shortest && !runs.empty(); ++i) {
    const auto over_seeds = [&](const char* key) {
      std::vector<double> values;
      for (const auto& run : runs) values.push_back(json_double(&run[i], key));
      return confidence(values);
    };
    out.push_back({i, over_seeds("round").mean, over_seeds("virtual_s").mean, over_seeds("bytes_total").mean,
                   over_seeds("joules_total").mean, over_seeds("epsilon").mean, over_seeds("loss"),
                   over_seeds("perplexity"), over_seeds("accuracy")});
  }
  return out;
}

Json comparison_json(const ComparedRuns& runs, const std::optional<ComparedTarget>& target) {
  Json settings = Json::array();
  for (const auto& group : runs.groups) {
    Json seeds = Json::array();
    Json sources = Json::array();
    for (const auto& run : group.runs) {
      seeds.push_back(run.seed);
      sources.push_back(run.source);
    }
    Json figures = Json::object();
    for (const auto& figure : kComparedFigures) {
      std::vector<double> values;
      for (const auto& run : group.runs) values.push_back(figure_of(run, figure));
      figures.set(figure.name, interval_json(confidence(values)));
    }
    Json one = Json::object({{"label", group.label}, {"seeds", seeds}, {"runs", sources}, {"figures", figures}});
    one.set("against_first", against_json(group, runs.groups.front()));
    one.set("target", target ? target_json(group, *target) : Json()).set("curve", curve_json(group));
    settings.push_back(std::move(one));
  }
  Json skipped = Json::array();
  for (const auto& folder : runs.skipped) skipped.push_back(folder);
  Json out = Json::object({{"confidence", 0.95}, {"skipped", skipped}, {"settings", settings}});
  out.set("target", target ? Json::object({{"metric", target->accuracy ? "accuracy" : "loss"},
                                           {"value", target->value},
                                           {"words", target->words}})
                           : Json());
  return out;
}

std::string comparison_csv(const Json& comparison) {
  std::vector<Json> lines;
  for (const auto& setting : comparison.find("settings")->items()) {
    Json line = Json::object({{"setting", *setting.find("label")}, {"seeds", setting.find("seeds")->size()}});
    for (const auto& [name, interval] : setting.find("figures")->members()) set_interval(line, name, interval);
    for (const auto& [name, interval] : setting.find("against_first")->members()) {
      set_interval(line, name + "_against_first", interval);
    }
    const Json& target = *setting.find("target");
    line.set("target_reached", target.is_object() ? *target.find("reached") : Json());
    for (const char* key : kTargetColumns) {
      const std::string name = std::string("target_") + key;
      line.set(name, Json()).set(name + "_half", Json());
      if (target.is_object()) set_interval(line, name, *target.find(key));
    }
    lines.push_back(std::move(line));
  }
  return metrics_csv(lines);
}

std::string curves_csv(const Json& comparison) {
  std::vector<Json> lines;
  for (const auto& setting : comparison.find("settings")->items()) {
    for (const auto& point : setting.find("curve")->items()) {
      Json line = Json::object({{"setting", *setting.find("label")}, {"seeds", setting.find("seeds")->size()}});
      for (const auto& [name, value] : point.members()) {
        if (value.is_object()) {
          set_interval(line, name, value);
        } else {
          line.set(name, value);
        }
      }
      lines.push_back(std::move(line));
    }
  }
  return metrics_csv(lines);
}

}  // namespace covey::simulations

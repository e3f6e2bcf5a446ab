#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

#include "simulations/comparison.h"
#include "simulations/report_page.h"

namespace covey::simulations {
namespace {

using formats::Json;

constexpr std::size_t kDrawnMax = 20;      ///< more lines in one chart tell nothing
constexpr std::size_t kCurveRowsMax = 24;  ///< of a setting, in the table below the charts

const Json& figure(const Json& setting, const char* name) {
  return *setting.find("figures")->find(name);
}
double mean_of(const Json& setting, const char* name) {
  return json_double(&figure(setting, name), "mean");
}

std::string with_half(const Json& interval, double factor, int digits) {
  const double half = json_double(&interval, "half");
  return short_number(factor * json_double(&interval, "mean"), digits) +
         (std::isfinite(half) ? " ± " + short_number(factor * half, 2) : std::string());
}

/// "+2.1 ± 0.4 %": how far a setting is from the first one, seed by seed.
std::string against(const Json& setting, const char* name) {
  const Json* part = setting.find("against_first")->find(name);
  const double mean = json_double(part, "mean");
  const double half = json_double(part, "half");
  if (!std::isfinite(mean)) return "–";
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), std::isfinite(half) ? "%+.1f ± %.1f" : "%+.1f", 100 * mean, 100 * half);
  return text.data();
}

HtmlTable finals_table(std::span<const Json> settings) {
  const std::string first = settings.empty() ? std::string() : json_text(settings.front(), "label");
  const bool with_epsilon =
      std::ranges::any_of(settings, [](const Json& setting) { return std::isfinite(mean_of(setting, "epsilon")); });
  HtmlTable table{"finals",
                  "± is half of the 95% interval of the mean over seeds; \"to " + first +
                      "\": the difference in %, taken seed by seed",
                  {"setting", "seeds", "perplexity", "to " + first, "accuracy %", "to " + first, "up", "down", "memory",
                   "virtual time", "energy", "CO2e"},
                  {},
                  {}};
  if (with_epsilon) table.head.emplace_back("epsilon");
  for (const auto& setting : settings) {
    const bool itself = &setting == &settings.front();
    auto& row = table.rows.emplace_back(std::vector<std::string>{
        json_text(setting, "label"), std::to_string(setting.find("seeds")->size()),
        with_half(figure(setting, "perplexity"), 1, 4), itself ? "–" : against(setting, "perplexity"),
        with_half(figure(setting, "accuracy"), 100, 4), itself ? "–" : against(setting, "accuracy"),
        byte_words(mean_of(setting, "bytes_up")), byte_words(mean_of(setting, "bytes_down")),
        byte_words(mean_of(setting, "training_bytes")), second_words(mean_of(setting, "virtual_s")),
        joule_words(mean_of(setting, "joules")), gram_words(mean_of(setting, "co2_g"))});
    if (with_epsilon) row.push_back(short_number(mean_of(setting, "epsilon")));
  }
  return table;
}

std::string target_section(const Json& comparison, std::span<const Json> settings) {
  const Json* target = comparison.find("target");
  if (target == nullptr || !target->is_object()) {
    return html_section("targets", "Time to target", html_note("No target: no setting has a loss that fell."));
  }
  HtmlTable table{"targets_table",
                  "First round at the target; means over the seeds that reached it",
                  {"setting", "reached", "rounds", "virtual time", "bytes", "energy"},
                  {},
                  {}};
  for (const auto& setting : settings) {
    const Json& at = *setting.find("target");
    const auto spent = [&](const char* key) { return json_double(at.find(key), "mean"); };
    table.rows.push_back({json_text(setting, "label"),
                          json_number(at, "reached", 9) + " of " + std::to_string(setting.find("seeds")->size()),
                          with_half(*at.find("round"), 1, 3), second_words(spent("virtual_s")),
                          byte_words(spent("bytes_total")), joule_words(spent("joules_total"))});
  }
  return html_section("targets", "Time to target",
                      html_note("The target: " + html_escaped(json_text(*target, "words")) + ".") + html_table(table));
}

/// One metric of all settings against one coordinate.
std::string curve(std::span<const Json> settings, const ReportAxis& axis, const char* metric,
                  const std::string& title) {
  // A point holds the means by the names of metrics.jsonl.
  double most = 0;
  double least = std::numeric_limits<double>::infinity();  // of the settings' last points
  for (const auto& setting : settings) {
    double last = 0;
    for (const auto& point : setting.find("curve")->items()) last = std::max(last, json_double(&point, axis.key));
    most = std::max(most, last);
    if (last > 0) least = std::min(least, last);
  }
  const AxisUnit& unit = axis_unit(axis, most);
  LineChart chart;
  chart.id = std::string(metric) + "_" + axis.id;
  chart.title = title + " against " + axis.words;
  chart.x_title = axis_title(axis, unit);
  const bool accuracy = std::string_view(metric) == "accuracy";
  const double factor = accuracy ? 100 : 1;
  chart.y_title = accuracy ? "% of next tokens" : metric;
  chart.x_logarithmic = most > 10 * least;  // a setting that needs little would lie in one corner
  chart.nothing = std::string_view(axis.key) == "epsilon" ? "No epsilon: none of these runs has differential privacy."
                                                          : "Nothing to draw: these runs have no such figure.";
  for (std::size_t i = 0; i < settings.size(); ++i) {
    auto& series = chart.series.emplace_back(ChartSeries{json_text(settings[i], "label"), {}, i});
    for (const auto& point : settings[i].find("curve")->items()) {
      const Json* value = point.find(metric);
      const double mean = factor * json_double(value, "mean");
      const double half = factor * json_double(value, "half");
      series.points.push_back({json_double(&point, axis.key) / unit.size, mean, mean - half, mean + half});
    }
  }
  return line_chart(chart);
}

/// Names of the lines, each with a box that hides it: style sheets alone, no script.
std::string series_key(std::span<const Json> settings) {
  std::string out =
      "<fieldset class=\"series-key\"><legend>Settings; a box hides its lines</legend><ul class=\"legend\">";
  std::string rules;
  for (std::size_t i = 0; i < settings.size(); ++i) {
    const std::string number = std::to_string(i);
    out += "<li><label><input type=\"checkbox\" id=\"show-" + number + "\" checked>" + series_sample(i) +
           html_escaped(json_text(settings[i], "label")) + "</label></li>";
    rules += "body:has(#show-" + number + ":not(:checked)) .n" + number + "{display:none}";
  }
  return "<style>" + rules + "</style>" + out + "</ul></fieldset>\n";
}

HtmlTable curves_table(std::span<const Json> settings) {
  HtmlTable table{
      "curves_table",
      "What the charts show as figures (every version is in the CSV of the curves)",
      {"setting", "version", "round", "perplexity", "accuracy %", "virtual time", "bytes", "energy", "epsilon"},
      {},
      {}};
  for (const auto& setting : settings) {
    const auto points = setting.find("curve")->items();
    const std::size_t rows = std::min(points.size(), kCurveRowsMax);
    for (std::size_t i = 0; i < rows; ++i) {
      const Json& point = points[rows < 2 ? 0 : i * (points.size() - 1) / (rows - 1)];
      table.rows.push_back({json_text(setting, "label"), json_number(point, "version", 9),
                            json_number(point, "round", 4), with_half(*point.find("perplexity"), 1, 4),
                            with_half(*point.find("accuracy"), 100, 4), second_words(json_double(&point, "virtual_s")),
                            byte_words(json_double(&point, "bytes_total")),
                            joule_words(json_double(&point, "joules_total")), json_number(point, "epsilon")});
    }
  }
  return table;
}

/// One figure of every setting, as a bar from 0 or, with an interval, as its bar.
std::string spans(std::span<const Json> settings, const char* name, const std::string& title,
                  const std::vector<AxisUnit>& units, const std::string& x_title, bool interval, double factor = 1) {
  double most = 0;
  for (const auto& setting : settings) most = std::max(most, factor * mean_of(setting, name));
  const AxisUnit* unit = &units.front();
  for (const auto& larger : units) {
    if (most >= 2 * larger.size) unit = &larger;
  }
  const double scale = factor / unit->size;
  SpanChart chart{std::string("final_") + name,
                  title,
                  std::string(unit->name) + (*unit->name == 0 ? "" : " ") + x_title,
                  {},
                  !interval};
  for (std::size_t i = 0; i < settings.size(); ++i) {
    const double mean = scale * mean_of(settings[i], name);
    const double half = scale * json_double(&figure(settings[i], name), "half");
    if (!std::isfinite(mean)) continue;
    SpanLine line{json_text(settings[i], "label"), interval ? mean - half : 0, mean, interval ? mean + half : mean};
    line.style = i;
    chart.lines.push_back(std::move(line));
  }
  return span_chart(chart);
}

std::string end_charts(std::span<const Json> settings) {
  const auto& axes = report_axes();
  const std::vector<AxisUnit> plain = {{1, ""}};
  return "<div class=\"charts\">\n" +
         spans(settings, "perplexity", "Perplexity at the end, with its interval", plain, "perplexity", true) +
         spans(settings, "accuracy", "Accuracy at the end, with its interval", plain, "% of next tokens", true, 100) +
         spans(settings, "bytes_up", "Uploaded by all devices", axes[2].units, "", false) +
         spans(settings, "training_bytes", "Device memory to train (modelled)", axes[2].units, "", false) +
         spans(settings, "virtual_s", "Virtual time (modelled)", axes[1].units, "", false) +
         spans(settings, "joules", "Energy of all devices (modelled)", axes[3].units, "", false) + "</div>\n";
}

/// Runs of one seed that do not start alike were not made with the same data and model.
bool start_alike(const ComparedRuns& runs) {
  for (const auto& group : runs.groups) {
    for (const auto& run : group.runs) {
      const auto& others = runs.groups.front().runs;
      const auto same = std::ranges::find(others, run.seed, &ComparedRun::seed);
      if (same == others.end()) continue;
      const double a = json_double(run.summary.find("base"), "loss");
      const double b = json_double(same->summary.find("base"), "loss");
      if (std::isfinite(a) && std::isfinite(b) && std::abs(a - b) > 1e-9 * std::abs(b)) return false;
    }
  }
  return true;
}

std::string caveats(const ComparedRuns& runs, const Json& comparison) {
  std::string out;
  if (!start_alike(runs)) {
    out += html_note(
        "<strong>Caution:</strong> runs of the same seed do not start from the same held-out loss, so they "
        "were not made with the same data and base model. Compare ways, not levels.");
  }
  const std::size_t skipped = comparison.find("skipped")->size();
  if (skipped > 0) {
    out += html_note("<strong>Left out:</strong> " + std::to_string(skipped) + (skipped == 1 ? " run" : " runs") +
                     " of the sweep that failed or did not come to an end.");
  }
  if (std::ranges::any_of(runs.groups, [](const auto& group) { return group.runs.size() == 1; })) {
    out += html_note("Settings with one seed have no interval: one run says nothing of the spread.");
  }
  return out;
}

std::string commands(const ComparedRuns& runs, const std::string& command) {
  HtmlTable table{"commands", "What made each run", {"setting", "seed", "command"}, {}, {2}};
  for (const auto& group : runs.groups) {
    for (const auto& run : group.runs) {
      const std::string made = json_text(run.summary, "command");
      table.rows.push_back({group.label, std::to_string(run.seed), made.empty() ? run.source : made});
    }
  }
  return html_section("repeat", "Repeat it",
                      "<pre class=\"wrap\" id=\"command\" tabindex=\"0\">" + html_escaped(command) + "</pre>\n" +
                          html_details("Every run", html_table(table)));
}

}  // namespace

std::string comparison_html(const ComparedRuns& runs, const Json& comparison, const std::string& command) {
  const auto settings = comparison.find("settings")->items();
  const auto drawn = settings.first(std::min(settings.size(), kDrawnMax));
  std::size_t count = 0;
  for (const auto& group : runs.groups) count += group.runs.size();
  std::string body =
      "<header><span class=\"eyebrow\">Covey comparison</span>\n<h1 id=\"title\">" + std::to_string(settings.size()) +
      (settings.size() == 1 ? " setting, " : " settings, ") + std::to_string(count) + (count == 1 ? " run" : " runs") +
      "</h1>\n<p>Runs that differ in their seed alone are one setting: its mean, and the 95% confidence "
      "interval of that mean over its seeds (Student's t; the number of seeds stands in the table).</p>\n" +
      origin_key() + "</header>\n";
  body += html_section("finals_section", "At the end",
                       caveats(runs, comparison) + html_table(finals_table(settings)) + end_charts(drawn));
  std::string main = "<div class=\"charts\">\n";
  std::string more = "<div class=\"charts\">\n";
  for (const auto& axis : report_axes()) {
    main += curve(drawn, axis, "perplexity", "Perplexity");
    (std::string_view(axis.key) == "round" ? main : more) += curve(drawn, axis, "accuracy", "Accuracy");
  }
  std::string note =
      "Means over the seeds with the band of the 95% interval; where the band is wider than the drawing it "
      "leaves it. Virtual time and energy are modelled.";
  if (settings.size() > drawn.size()) {
    note += " The first " + std::to_string(drawn.size()) + " settings are drawn; the tables have all.";
  }
  body += html_section("curves", "The metric against what it cost",
                       html_note(note) + series_key(drawn) + main + "</div>\n" +
                           html_details("Accuracy against the same", more + "</div>\n") +
                           html_details("The curves as a table", html_table(curves_table(settings))));
  body += target_section(comparison, settings) + commands(runs, command);
  return html_page("Covey: runs side by side", body);
}

}  // namespace covey::simulations

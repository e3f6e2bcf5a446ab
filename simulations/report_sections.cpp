#include "simulations/report_sections.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "simulations/report.h"
#include "simulations/report_page.h"

namespace covey::simulations::report {
namespace {

using formats::Json;

std::span<const Json> list_of(const Json& from, const char* key) {
  const Json* list = from.find(key);
  return list == nullptr ? std::span<const Json>() : list->items();
}

bool nothing_trained(const Json& summary) {
  return json_text(summary, "training") == "modelled";
}

/// One metric against one coordinate.
std::string curve(std::span<const Json> measured, const ReportAxis& axis, const char* metric, const std::string& title,
                  const std::string& y_title, std::size_t style) {
  double most = 0;
  for (const auto& round : measured) most = std::max(most, json_double(&round, axis.key));
  const AxisUnit& unit = axis_unit(axis, most);
  LineChart chart;
  chart.id = std::string(metric) + "_" + axis.id;
  chart.title = title;
  chart.x_title = axis_title(axis, unit);
  chart.y_title = y_title;
  auto& series = chart.series.emplace_back(ChartSeries{y_title, {}, style});
  for (const auto& round : measured) {
    series.points.push_back({json_double(&round, axis.key) / unit.size, json_double(&round, metric)});
  }
  if (std::string_view(axis.key) == "epsilon") {
    chart.nothing = "No epsilon: this run has no differential privacy, so nothing bounds what its versions tell.";
  }
  return line_chart(chart);
}

std::string number_member(const Json* from, const char* section, const char* key, int digits = 4) {
  return short_number(json_double(from == nullptr ? nullptr : from->find(section), key), digits);
}

}  // namespace

std::string curves(const Json& summary, std::span<const Json> rounds) {
  if (nothing_trained(summary)) {
    std::string charts = "<div class=\"charts\">\n";
    for (const auto& axis : report_axes()) {
      if (std::string_view(axis.key) == "round" || std::string_view(axis.key) == "epsilon") continue;
      charts += curve(rounds, axis, "version", std::string("Versions published against ") + axis.words, "versions", 0);
    }
    return html_section("curves", "Progress",
                        html_note("A scheduling experiment: the coordinator decides as deployed, devices train in "
                                  "virtual time only, and there is no metric.") +
                            charts + "</div>\n");
  }
  const auto measured = measured_rounds(summary, rounds);
  std::string main = "<div class=\"charts\">\n";
  std::string more = "<div class=\"charts\">\n";
  for (const auto& axis : report_axes()) {
    main += curve(measured, axis, "perplexity", std::string("Perplexity against ") + axis.words, "perplexity", 0);
    const std::string accuracy =
        curve(measured, axis, "accuracy", std::string("Accuracy against ") + axis.words, "accuracy", 1);
    (std::string_view(axis.key) == "round" ? main : more) += accuracy;
  }
  return html_section(
      "curves", "The metric against what it cost",
      html_note("On held-out examples of the devices, which only the coordinator sees. Losses, bytes and rounds are "
                "simulated: real training, real encoded messages. Virtual time and energy are modelled.") +
          main + "</div>\n" + html_details("Accuracy against the same", more + "</div>\n"));
}

std::string time_to_target(const Json& summary, std::span<const Json> rounds) {
  if (nothing_trained(summary)) return {};
  const double base = json_double(summary.find("base"), "loss");
  double best = base;
  for (const auto& round : rounds) {
    const double loss = json_double(&round, "loss");
    if (std::isfinite(loss)) best = std::min(best, loss);
  }
  if (!(best < base)) {
    return html_section("targets", "Time to target",
                        html_note("No version had a lower held-out loss than the start: no target was reached."));
  }
  HtmlTable table{"targets_table",
                  "First round at or below each target, and what had been spent by then",
                  {"of the way down", "perplexity", "round", "virtual time", "bytes", "energy", "epsilon"},
                  {},
                  {}};
  for (const double part : {0.5, 0.8, 0.9, 0.95, 1.0}) {
    const double target = base - part * (base - best);
    const auto reached =
        std::ranges::find_if(rounds, [&](const Json& round) { return json_double(&round, "loss") <= target + 1e-12; });
    if (reached == rounds.end()) continue;
    table.rows.push_back({percent_words(part), short_number(std::exp(target), 4), json_number(*reached, "round", 9),
                          second_words(json_double(&*reached, "virtual_s")),
                          byte_words(json_double(&*reached, "bytes_total")),
                          joule_words(json_double(&*reached, "joules_total")), json_number(*reached, "epsilon")});
  }
  return html_section("targets", "Time to target",
                      html_note("The whole way is from the held-out loss at the start to the lowest of the run. Bytes "
                                "are simulated, virtual time and energy modelled.") +
                          html_table(table));
}

std::string participation(const Json& summary, std::span<const Json> rounds) {
  BarChart chart{"participation_bars",
                 "What became of the invited devices",
                 "round",
                 "devices",
                 {"summed", "not needed: the goal was reached", "late", "refused", "update broke the plan",
                  "nothing by the deadline"},
                 {}};
  LineChart duration{"round_time", "How long a round took (modelled)", "round", "", {}, true};
  double longest = 0;
  for (const auto& round : rounds) longest = std::max(longest, json_double(&round, "round_s"));
  const AxisUnit& unit = axis_unit(report_axes()[1], longest);
  duration.y_title = std::string(unit.name) + ", virtual";
  auto& line = duration.series.emplace_back(ChartSeries{"a round", {}, 0});
  std::vector<std::pair<std::string, double>> refusals;
  double died = 0;
  double late = 0;
  for (const auto& round : rounds) {
    const auto figure = [&](const char* key) { return json_double(&round, key); };
    const double rest = figure("invited") - figure("contributed") - figure("refused") - figure("late");
    const bool told = std::isfinite(figure("silent"));  // lines of earlier versions and of modelled worlds do not say
    chart.bars.push_back({figure("round"),
                          {figure("contributed"), told ? figure("unneeded") : 0, figure("late"), figure("refused"),
                           told ? figure("rejected") : 0, told ? figure("silent") : rest}});
    line.points.push_back({figure("round"), figure("round_s") / unit.size});
    died += std::isfinite(figure("dropped")) ? figure("dropped") : 0;
    late += std::isfinite(figure("late")) ? figure("late") : 0;
    const Json* reasons = round.find("refused_for");
    for (const auto& [reason, count] :
         reasons == nullptr ? std::span<const formats::JsonMember>() : reasons->members()) {
      const auto known = std::ranges::find(refusals, reason, &std::pair<std::string, double>::first);
      const double more = count.is_number() ? *count.as_double() : 0;
      if (known == refusals.end()) {
        refusals.emplace_back(reason, more);
      } else {
        known->second += more;
      }
    }
  }
  if (!rounds.empty() && !std::isfinite(json_double(&rounds.front(), "silent"))) {
    chart.parts.back() = "not needed, or nothing by the deadline";
  }
  std::string words =
      "Devices died while training " + count_words(died) + " times (a device that comes back may still be summed).";
  for (const auto& [reason, count] : refusals) {
    words += " Refused for " + html_escaped(reason) + ": " + count_words(count) + ".";
  }
  words += " Staleness: rounds are synchronous, an update is trained on the version it is added to or it is late (" +
           count_words(late) + " here) and never summed, so every summed update is 0 versions old.";
  const Json* fleet = summary.find("fleet");
  if (fleet != nullptr) {
    words += " A device gave " + number_member(fleet, "updates", "mean") +
             " updates on average (the tenth part that "
             "gave least " +
             number_member(fleet, "updates", "p10") + " or fewer, the tenth that gave most " +
             number_member(fleet, "updates", "p90") + " or more); " + count_words(json_double(fleet, "never")) +
             " devices never had one summed.";
  }
  return html_section(
      "participation", "Participation, staleness, drop-outs",
      html_note(words) + "<div class=\"charts wide\">\n" + bar_chart(chart) + line_chart(duration) + "</div>\n");
}

std::string fairness(const Json& summary) {
  double devices = 0;
  double updates = 0;
  for (const auto& kind : list_of(summary, "classes")) {
    devices += json_double(&kind, "devices");
    updates += json_double(&kind, "contributions");
  }
  HtmlTable table{"classes",
                  "Device classes: who they are, and what the last version is worth to them",
                  {"class", "devices", "updates", "took part", "never", "own loss before", "own loss after",
                   "tenth to nine tenths", "own accuracy", "GFLOP/s", "memory", "down /s", "up /s", "training W"},
                  {},
                  {}};
  SpanChart losses{"own_loss", "Held-out loss on a class's own examples", "nats a token", {}};
  SpanChart shares{"took_part", "Updates of a device, by class", "updates summed", {}, true};
  for (const auto& kind : list_of(summary, "classes")) {
    const std::string name = json_text(kind, "name");
    const Json* loss = kind.find("own_loss");
    const double share = json_double(&kind, "contributions") / updates / (json_double(&kind, "devices") / devices);
    table.rows.push_back(
        {name, json_number(kind, "devices", 9), json_number(kind, "contributions", 9), short_number(share),
         json_number(kind, "never", 9), number_member(&kind, "own_loss_before", "mean"),
         number_member(&kind, "own_loss", "mean"),
         loss == nullptr ? "–"
                         : short_number(json_double(loss, "p10")) + " to " + short_number(json_double(loss, "p90")),
         percent_words(json_double(kind.find("own_accuracy"), "mean")), json_number(kind, "training_gflops"),
         byte_words(json_double(&kind, "memory_bytes")), byte_words(json_double(&kind, "down_bytes_per_s")),
         byte_words(json_double(&kind, "up_bytes_per_s")), json_number(kind, "training_watts")});
    if (loss == nullptr) continue;
    losses.lines.push_back({name, json_double(loss, "p10"), json_double(loss, "mean"), json_double(loss, "p90"),
                            json_double(kind.find("own_loss_before"), "mean")});
    const Json* given = kind.find("updates");
    shares.lines.push_back({name, json_double(given, "p10"), json_double(given, "mean"), json_double(given, "p90")});
  }
  std::string body = html_note(
      "Took part 1: the class gave as large a share of the summed updates as it has of the devices. Own loss: of the "
      "last version on held-out examples of the class's own devices, each device counting the same (simulated). "
      "Speeds, links, memory and watts are modelled: stated figures of each class.");
  if (!losses.lines.empty()) {
    body += "<div class=\"charts\">\n" + span_chart(losses) + span_chart(shares) + "</div>\n" +
            html_note(
                "Filled dot: mean of the class's devices, with the bar from their tenth to their nine tenths. "
                "Hollow dot: the base model before.");
  }
  return html_section("fairness", "Fairness per device class", body + html_table(table));
}

std::string memory(const Json& summary) {
  const std::string method = json_text(summary, "method");
  HtmlTable table{"memory_table",
                  "What a training step takes on a device, by method",
                  {"method", "in all", "model weights", "activations and buffers", "adapter and optimizer", "program"},
                  {},
                  {}};
  for (const auto& line : list_of(summary, "memory")) {
    const std::string name = json_text(line, "method");
    table.rows.push_back(
        {name + (name == method ? " (this run)" : ""), byte_words(json_double(&line, "total_bytes")),
         byte_words(json_double(&line, "weights_bytes")), byte_words(json_double(&line, "buffers_bytes")),
         byte_words(json_double(&line, "adapter_bytes")), byte_words(json_double(&line, "process_bytes"))});
  }
  if (table.rows.empty()) return {};
  return html_section("memory", "Memory per method",
                      html_note("For this model, adapter, batch and length of rows; the engine's own plan, which a "
                                "device holds against its budget before it accepts a round. Modelled here: the plan "
                                "is a calculation, not a measurement of this run.") +
                          html_table(table));
}

std::string energy(const Json& summary) {
  const double all = json_double(&summary, "joules");
  const double grid = json_double(&summary, "grid_g_per_kwh");
  std::string words =
      "Modelled: training time x training watts + link time x radio watts of each device's class: " + joule_words(all) +
      " in all.";
  if (std::isfinite(grid)) {
    words += " At an assumed grid factor of " + short_number(grid, 6) +
             " g CO2e per kWh (`fleet.grid_g_per_kwh` of the experiment; the default 480 is about the world's average "
             "of 2023, Ember, Global Electricity Review 2024) that is " +
             gram_words(json_double(&summary, "co2_g")) + " CO2e.";
  }
  words += " Not in it: charging losses, network equipment, the coordinator, making the devices.";
  HtmlTable table{"energy_table",
                  "Energy by device class (modelled)",
                  {"class", "training", "radio", "in all", "a device"},
                  {},
                  {}};
  for (const auto& kind : list_of(summary, "classes")) {
    const double training = json_double(&kind, "training_joules");
    const double radio = json_double(&kind, "radio_joules");
    if (!std::isfinite(training)) continue;
    table.rows.push_back({json_text(kind, "name"), joule_words(training), joule_words(radio),
                          joule_words(training + radio),
                          joule_words((training + radio) / json_double(&kind, "devices"))});
  }
  return html_section("energy", "Energy and CO2",
                      html_note(words) + (table.rows.empty() ? std::string() : html_table(table)));
}

std::string rounds_table(std::span<const Json> rounds) {
  constexpr std::size_t kRowsMax = 1000;
  HtmlTable table{
      "rounds",
      "Every round, what the charts show as figures",
      {"round", "outcome", "perplexity", "accuracy", "virtual time", "bytes so far", "energy so far", "epsilon",
       "invited", "summed", "not needed", "late", "refused", "rejected", "silent", "died", "took"},
      {},
      {1}};
  for (const auto& round : rounds.first(std::min(rounds.size(), kRowsMax))) {
    const Json* published = round.find("published");
    const bool yes = published != nullptr && published->is_bool() && *published->as_bool();
    const auto count = [&](const char* key) { return json_number(round, key, 9); };
    table.rows.push_back(
        {count("round"), yes ? "published" : "aborted: " + json_text(round, "reason"),
         json_number(round, "perplexity", 5), percent_words(json_double(&round, "accuracy")),
         second_words(json_double(&round, "virtual_s")), byte_words(json_double(&round, "bytes_total")),
         joule_words(json_double(&round, "joules_total")), json_number(round, "epsilon"), count("invited"),
         count("contributed"), count("unneeded"), count("late"), count("refused"), count("rejected"), count("silent"),
         count("dropped"), second_words(json_double(&round, "round_s"))});
  }
  std::string body = html_table(table);
  if (rounds.size() > kRowsMax) {
    body += html_note("The first " + count_words(kRowsMax) + " of " + count_words(static_cast<double>(rounds.size())) +
                      " rounds; metrics.csv has all.");
  }
  return html_section("rounds_section", "Rounds", body);
}

std::string own_cost(const Json& summary) {
  const Json* measured = summary.find("measured");
  if (measured == nullptr || !measured->is_object()) return {};
  std::vector<Figure> figures = {
      {second_words(json_double(measured, "wall_s")), "took", Origin::measured},
      {second_words(json_double(measured, "process_cpu_s")), "processor time", Origin::measured},
      {byte_words(json_double(measured, "peak_rss_bytes")), "memory of the simulation, peak", Origin::measured}};
  const double training = json_double(measured, "device_round_training_ms");
  if (std::isfinite(training)) {
    figures.push_back(
        {short_number(training) + "\u00a0ms", "processor time to train, a device-round", Origin::measured});
    figures.push_back({percent_words(json_double(measured, "device_round_overhead"), 2),
                       "what simulating it adds to that", Origin::measured});
  }
  return html_section(
      "own_cost", "What this run took here",
      html_note("On " + html_escaped(json_text(*measured, "processor")) + ", " + json_number(*measured, "threads", 9) +
                " threads; no result depends on these figures.") +
          html_figures(figures));
}

std::string repeat(const Json& summary) {
  return html_section(
      "repeat", "Repeat it",
      html_note("The same experiment and seed give the same bytes of metrics and adapter.") +
          "<pre class=\"wrap\" id=\"command\" tabindex=\"0\">" + html_escaped(json_text(summary, "command")) +
          "</pre>\n" +
          html_details("The configuration, with every default", html_verbatim("config", json_text(summary, "config"))));
}

}  // namespace covey::simulations::report

#include "simulations/report_sections.h"

#include <algorithm>
#include <cmath>
#include <map>
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
                  const std::string& y_title, std::size_t style, double factor = 1) {
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
    series.points.push_back({json_double(&round, axis.key) / unit.size, factor * json_double(&round, metric)});
  }
  if (std::string_view(axis.key) == "epsilon") {
    chart.nothing = "No epsilon: this run has no differential privacy, so nothing bounds what its versions tell.";
  }
  return line_chart(chart);
}

std::string number_member(const Json* from, const char* section, const char* key, int digits = 4) {
  return short_number(json_double(from == nullptr ? nullptr : from->find(section), key), digits);
}

/// What a class is assumed to be.
std::string stated_figures(const Json& summary) {
  HtmlTable table{"class_figures",
                  "What each class is assumed to be: stated figures, not measured on devices (modelled)",
                  {"class", "training GFLOP/s", "memory", "down /s", "up /s", "latency", "training W", "radio W"},
                  {},
                  {}};
  for (const auto& kind : list_of(summary, "classes")) {
    table.rows.push_back(
        {json_text(kind, "name"), json_number(kind, "training_gflops"), byte_words(json_double(&kind, "memory_bytes")),
         byte_words(json_double(&kind, "down_bytes_per_s")), byte_words(json_double(&kind, "up_bytes_per_s")),
         json_number(kind, "latency_ms") + "\u00a0ms", json_number(kind, "training_watts"),
         json_number(kind, "radio_watts")});
  }
  return html_table(table);
}

/// What became of the devices that each round invited.
std::string invited_chart(std::span<const Json> rounds) {
  // Lines of earlier versions and of modelled worlds do not tell those apart.
  const bool told = !rounds.empty() && std::isfinite(json_double(&rounds.front(), "silent"));
  BarChart chart{"participation_bars",
                 "What became of the invited devices",
                 "round",
                 "devices",
                 {"summed", "not needed: the goal was reached", "late", "refused", "update broke the plan",
                  told ? "nothing by the deadline" : "not needed, or nothing by the deadline"},
                 {}};
  for (const auto& round : rounds) {
    const auto figure = [&](const char* key) { return json_double(&round, key); };
    const double rest = figure("invited") - figure("contributed") - figure("refused") - figure("late");
    chart.bars.push_back({figure("round"),
                          {figure("contributed"), figure("unneeded"), figure("late"), figure("refused"),
                           figure("rejected"), told ? figure("silent") : rest}});
  }
  return bar_chart(chart);
}

std::string duration_chart(std::span<const Json> rounds) {
  const ReportAxis& time = report_axes()[1];
  double longest = 0;
  for (const auto& round : rounds) longest = std::max(longest, json_double(&round, "round_s"));
  const AxisUnit& unit = axis_unit(time, longest);
  LineChart chart{"round_time", "How long a round took (modelled)", "round", unit.name, {{"a round", {}, 0}}, true};
  for (const auto& round : rounds) {
    chart.series[0].points.push_back({json_double(&round, "round"), json_double(&round, "round_s") / unit.size});
  }
  return line_chart(chart);
}

/// How unevenly devices took part.
std::string updates_chart(const Json& summary) {
  SpanChart chart{"took_part", "Updates of a device, by class", "updates summed", {}, true};
  for (const auto& kind : list_of(summary, "classes")) {
    const Json* given = kind.find("updates");
    if (given == nullptr) continue;
    chart.lines.push_back(
        {json_text(kind, "name"), json_double(given, "p10"), json_double(given, "mean"), json_double(given, "p90")});
  }
  return chart.lines.empty() ? std::string() : span_chart(chart);
}

/// " Refused for memory: 3." for each reason there was.
std::string refusal_words(std::span<const Json> rounds) {
  std::map<std::string, double> refusals;
  for (const auto& round : rounds) {
    const Json* reasons = round.find("refused_for");
    if (reasons == nullptr) continue;
    for (const auto& [reason, count] : reasons->members())
      refusals[reason] += count.is_number() ? *count.as_double() : 0;
  }
  std::string out;
  for (const auto& [reason, count] : refusals) {
    out += " Refused for " + html_escaped(reason) + ": " + count_words(count) + ".";
  }
  return out;
}

double total_of(std::span<const Json> rounds, const char* key) {
  double out = 0;
  for (const auto& round : rounds) {
    const double value = json_double(&round, key);
    out += std::isfinite(value) ? value : 0;
  }
  return out;
}

/// Of a scheduling experiment: versions against what they cost.
std::string progress(std::span<const Json> rounds) {
  std::vector<Json> counted(rounds.begin(), rounds.end());
  std::uint64_t published = 0;
  for (auto& round : counted) {
    const Json* yes = round.find("published");
    published += yes != nullptr && yes->is_bool() && *yes->as_bool() ? 1 : 0;
    round.set("published_so_far", published);
  }
  std::string charts;
  for (const auto& axis : report_axes()) {
    if (std::string_view(axis.key) == "epsilon") continue;
    charts += curve(counted, axis, "published_so_far", std::string("Versions published against ") + axis.words,
                    "versions", 0);
  }
  return html_section(
      "curves", "Progress",
      html_note("A scheduling experiment: the coordinator decides as deployed, devices train in virtual "
                "time only, bytes are those of stated sizes, and there is no metric.") +
          "<div class=\"charts\">\n" + charts + "</div>\n");
}

}  // namespace

std::string curves(const Json& summary, std::span<const Json> rounds) {
  if (nothing_trained(summary)) return progress(rounds);
  const auto measured = measured_rounds(summary, rounds);
  std::string main = "<div class=\"charts\">\n";
  std::string more = "<div class=\"charts\">\n";
  for (const auto& axis : report_axes()) {
    main += curve(measured, axis, "perplexity", std::string("Perplexity against ") + axis.words, "perplexity", 0);
    const std::string accuracy =
        curve(measured, axis, "accuracy", std::string("Accuracy against ") + axis.words, "% of next tokens", 1, 100);
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
  std::string words = "Devices died while training " + count_words(total_of(rounds, "dropped")) +
                      " times; one that comes back may still be summed." + refusal_words(rounds);
  const Json* fleet = summary.find("fleet");
  if (fleet != nullptr) {
    words += " A device gave " + number_member(fleet, "updates", "mean") + " updates on average, one in ten gave " +
             number_member(fleet, "updates", "p10") + " or fewer and one in ten " +
             number_member(fleet, "updates", "p90") + " or more; " + count_words(json_double(fleet, "never")) +
             " never had one summed.";
  }
  const std::string staleness =
      "Staleness: 0 versions for every summed update. Rounds are synchronous: an update is trained on the version that "
      "it is added to, or it is late (" +
      count_words(total_of(rounds, "late")) + " here) and not summed.";
  return html_section("participation", "Participation, staleness, drop-outs",
                      html_note(words) + html_note(staleness) + "<div class=\"charts\">\n" + invited_chart(rounds) +
                          duration_chart(rounds) + updates_chart(summary) + "</div>\n");
}

std::string fairness(const Json& summary) {
  double devices = 0;
  double updates = 0;
  for (const auto& kind : list_of(summary, "classes")) {
    devices += json_double(&kind, "devices");
    updates += json_double(&kind, "contributions");
  }
  const bool trained = !nothing_trained(summary);
  HtmlTable table{"classes",
                  "Who took part, and what the last version is worth to them",
                  {"class", "devices", "updates", "took part"},
                  {},
                  {}};
  if (trained) {
    for (const char* head : {"never", "own loss before", "own loss after", "of the middle 80 %", "own accuracy"}) {
      table.head.emplace_back(head);
    }
  }
  SpanChart losses{"own_loss", "Held-out loss on a class's own examples", "nats a token", {}};
  SpanChart accuracies{"own_accuracy", "Accuracy on a class's own examples", "% of next tokens", {}};
  SpanChart burden{"burden", "Energy that a device of a class gave (modelled)", "J", {}, true};
  for (const auto& kind : list_of(summary, "classes")) {
    const std::string name = json_text(kind, "name");
    const Json* loss = kind.find("own_loss");
    const double share = json_double(&kind, "contributions") / updates / (json_double(&kind, "devices") / devices);
    auto& row = table.rows.emplace_back(std::vector<std::string>{
        name, json_number(kind, "devices", 9), json_number(kind, "contributions", 9), short_number(share)});
    if (trained) {
      row.push_back(json_number(kind, "never", 9));
      row.push_back(number_member(&kind, "own_loss_before", "mean"));
      row.push_back(number_member(&kind, "own_loss", "mean"));
      row.push_back(short_number(json_double(loss, "p10")) + " to " + short_number(json_double(loss, "p90")));
      row.push_back(percent_words(json_double(kind.find("own_accuracy"), "mean")));
    }
    if (loss == nullptr) continue;
    losses.lines.push_back({name, json_double(loss, "p10"), json_double(loss, "mean"), json_double(loss, "p90"),
                            json_double(kind.find("own_loss_before"), "mean")});
    const Json* right = kind.find("own_accuracy");
    accuracies.lines.push_back(
        {name, 100 * json_double(right, "p10"), 100 * json_double(right, "mean"), 100 * json_double(right, "p90")});
    const double joules = json_double(&kind, "training_joules") + json_double(&kind, "radio_joules");
    burden.lines.push_back({name, 0, joules / json_double(&kind, "devices"), joules / json_double(&kind, "devices")});
  }
  std::string body = html_note(
      std::string("Took part 1: the class gave as large a share of the summed updates as it has of the devices.") +
      (trained ? " Own loss: of the last version on held-out examples of the class's own devices, each device counting "
                 "the same (simulated)."
               : ""));
  if (!losses.lines.empty()) {
    body += "<div class=\"charts\">\n" + span_chart(losses) + span_chart(accuracies) + span_chart(burden) + "</div>\n" +
            html_note(
                "Filled dot: mean over the class's devices; its bar covers the middle 80 % of them. Hollow dot: "
                "the base model before.");
  }
  return html_section("fairness", "Fairness per device class", body + html_table(table) + stated_figures(summary));
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
             " g CO2e per kWh (<code>fleet.grid_g_per_kwh</code> of the experiment; the default 480 is about the "
             "world's average "
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

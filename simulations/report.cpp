#include "simulations/report.h"

#include <cmath>
#include <utility>

#include "simulations/report_page.h"
#include "simulations/report_sections.h"

namespace covey::simulations {
namespace {

using formats::Json;

std::string quoted(const std::string& words) {
  std::string out = "\"";
  for (const char c : words) out += c == '"' ? "\"\"" : std::string(1, c);
  return out + "\"";
}

std::vector<Figure> key_figures(const Json& summary) {
  const Json* base = summary.find("base");
  const Json* last = summary.find("final");
  const Origin bytes = json_text(summary, "training") == "modelled" ? Origin::modelled : Origin::simulated;
  std::vector<Figure> out;
  if (std::isfinite(json_double(last, "loss"))) {
    out.push_back(
        {short_number(json_double(base, "perplexity"), 4) + " → " + short_number(json_double(last, "perplexity"), 4),
         "held-out perplexity, before → after"});
    out.push_back({percent_words(json_double(base, "accuracy")) + " → " + percent_words(json_double(last, "accuracy")),
                   "next-token accuracy, before → after"});
  }
  out.push_back({count_words(json_double(&summary, "contributions")), "updates summed"});
  out.push_back({second_words(3600 * json_double(&summary, "virtual_hours")), "virtual time", Origin::modelled});
  out.push_back({byte_words(json_double(&summary, "bytes_up")), "uploaded, all devices", bytes});
  out.push_back({byte_words(json_double(&summary, "bytes_down")), "downloaded, all devices", bytes});
  out.push_back({joule_words(json_double(&summary, "joules")), "energy, all devices", Origin::modelled});
  if (std::isfinite(json_double(&summary, "co2_g"))) {
    out.push_back({gram_words(json_double(&summary, "co2_g")), "CO2e, all devices", Origin::modelled});
  }
  if (std::isfinite(json_double(&summary, "training_bytes"))) {
    out.push_back({byte_words(json_double(&summary, "training_bytes")), "device memory to train", Origin::modelled});
  }
  if (std::isfinite(json_double(&summary, "epsilon"))) {
    out.push_back({json_number(summary, "epsilon"), "epsilon spent, at delta " + json_number(summary, "delta")});
  }
  return out;
}

std::string lead(const Json& summary) {
  std::string out = count_words(json_double(&summary, "devices")) + " simulated devices; " +
                    count_words(json_double(&summary, "rounds_published")) + " of " +
                    count_words(json_double(&summary, "rounds")) + " rounds published; seed " +
                    json_number(summary, "seed", 19) + ".";
  const std::string attack = json_text(summary, "attack");
  if (!attack.empty()) {
    out += " " + count_words(json_double(&summary, "bad_devices")) + " devices are bad (" + attack + ").";
  }
  const std::string claim = json_text(summary, "privacy_claim");
  return "<p>" + html_escaped(out) + "</p>\n" +
         (claim.empty() ? std::string() : "<p class=\"fine\">Privacy mode " + html_escaped(claim) + ".</p>\n");
}

}  // namespace

std::string metrics_csv(std::span<const Json> rounds) {
  if (rounds.empty()) return {};
  std::string out;
  for (const auto& [key, value] : rounds.front().members()) out += (out.empty() ? "" : ",") + key;
  out += "\n";
  for (const auto& round : rounds) {
    std::string line;
    bool first = true;
    for (const auto& [key, value] : rounds.front().members()) {
      if (!std::exchange(first, false)) line += ',';
      const Json* cell = round.find(key);
      if (cell == nullptr || cell->is_null()) continue;
      const bool plain = cell->is_number() || cell->is_bool();
      const std::string words = cell->is_string() ? *cell->as_string() : cell->dump();
      if (plain && words == "null") continue;  // no figure
      line += plain ? words : quoted(words);
    }
    out += line + "\n";
  }
  return out;
}

std::vector<Json> measured_rounds(const Json& summary, std::span<const Json> rounds) {
  std::vector<Json> out;
  const Json* base = summary.find("base");
  if (std::isfinite(json_double(base, "loss"))) {
    Json start =
        Json::object({{"round", 0}, {"version", 0}, {"virtual_s", 0}, {"bytes_total", 0}, {"joules_total", 0}});
    for (const char* key : {"loss", "perplexity", "accuracy"}) {
      if (base->contains(key)) start.set(key, *base->find(key));
    }
    // Before its first round a task under differential privacy has spent nothing.
    if (!rounds.empty() && std::isfinite(json_double(&rounds.front(), "epsilon"))) start.set("epsilon", 0);
    out.push_back(std::move(start));
  }
  for (const auto& round : rounds) {
    if (std::isfinite(json_double(&round, "loss"))) out.push_back(round);
  }
  return out;
}

std::string render_report(const Json& summary, std::span<const Json> rounds) {
  const std::string name = json_text(summary, "name");
  std::string body = "<header><span class=\"eyebrow\">Covey simulation report</span>\n<h1 id=\"title\">" +
                     html_escaped(name.empty() ? "unnamed run" : name) + "</h1>\n" + lead(summary) + origin_key() +
                     "</header>\n" + html_figures(key_figures(summary));
  body += report::curves(summary, rounds) + report::time_to_target(summary, rounds) +
          report::participation(summary, rounds) + report::fairness(summary) + report::memory(summary) +
          report::energy(summary) + report::rounds_table(rounds) + report::own_cost(summary) + report::repeat(summary);
  body +=
      "<footer>Beside this page: metrics.csv and metrics.jsonl (a line a round), devices.csv (a line a device), "
      "summary.json, config.yaml, adapter/ (PEFT).</footer>\n";
  return html_page(name + ": Covey simulation report", body);
}

}  // namespace covey::simulations

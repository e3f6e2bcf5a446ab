#include "simulations/report.h"

#include <string_view>
#include <utility>

extern "C" {
extern const char covey_sim_chart_js[];
extern const char covey_sim_chart_js_end[];
extern const char covey_sim_report_html[];
extern const char covey_sim_report_html_end[];
}

namespace covey::simulations {
namespace {

/// JSON inside <script>: neither "</script>" nor "<!--<script>" in a string may change where the element ends. "<" is
/// only ever part of a string.
std::string script_safe(const std::string& json) {
  std::string out;
  out.reserve(json.size());
  for (const char c : json) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

void replace_once(std::string& text, std::string_view mark, std::string_view with) {
  const auto at = text.find(mark);
  if (at != std::string::npos) text.replace(at, mark.size(), with);
}

}  // namespace

std::string metrics_csv(std::span<const formats::Json> rounds) {
  if (rounds.empty()) return {};
  std::string out;
  for (const auto& [key, value] : rounds.front().members()) out += (out.empty() ? "" : ",") + key;
  out += "\n";
  for (const auto& round : rounds) {
    std::string line;
    bool first = true;
    for (const auto& [key, value] : rounds.front().members()) {
      if (!std::exchange(first, false)) line += ',';
      const formats::Json* cell = round.find(key);
      if (cell == nullptr || cell->is_null()) continue;
      if (!cell->is_string()) {
        line += cell->dump();
        continue;
      }
      line += '"';
      const std::string words = *cell->as_string();
      for (const char c : words) line += c == '"' ? "\"\"" : std::string(1, c);
      line += '"';
    }
    out += line + "\n";
  }
  return out;
}

std::string render_report(const formats::Json& summary, std::span<const formats::Json> rounds) {
  formats::Json lines = formats::Json::array();
  for (const auto& round : rounds) lines.push_back(round);
  formats::Json data;
  data.set("summary", summary).set("rounds", lines);
  std::string page(covey_sim_report_html, covey_sim_report_html_end);
  // The data last: what it holds is never searched for marks.
  replace_once(
      page, "/*COVEY_CHART_JS*/",
      std::string_view(covey_sim_chart_js, static_cast<std::size_t>(covey_sim_chart_js_end - covey_sim_chart_js)));
  replace_once(page, "/*COVEY_DATA*/null", script_safe(data.dump()));
  return page;
}

}  // namespace covey::simulations

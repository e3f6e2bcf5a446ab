#include "simulations/report.h"

#include <string_view>

extern "C" const char covey_chart_js[], covey_chart_js_end[], covey_report_html[], covey_report_html_end[];

namespace covey::simulations {
namespace {

/// JSON inside <script>: "</script>" in a string must not end the element.
std::string script_safe(std::string json) {
  for (std::size_t at = 0; (at = json.find("</", at)) != std::string::npos; at += 3) json.replace(at, 2, "<\\/");
  return json;
}

void replace_once(std::string& text, std::string_view mark, std::string_view with) {
  const auto at = text.find(mark);
  if (at != std::string::npos) text.replace(at, mark.size(), with);
}

}  // namespace

std::string render_report(const formats::Json& summary, std::span<const formats::Json> rounds) {
  formats::Json lines = formats::Json::array();
  for (const auto& round : rounds) lines.push_back(round);
  formats::Json data;
  data.set("summary", summary).set("rounds", lines);
  std::string page(covey_report_html, covey_report_html_end);
  // The data last: what it holds is never searched for marks.
  replace_once(page, "/*COVEY_CHART_JS*/",
               std::string_view(covey_chart_js, static_cast<std::size_t>(covey_chart_js_end - covey_chart_js)));
  replace_once(page, "/*COVEY_DATA*/null", script_safe(data.dump()));
  return page;
}

}  // namespace covey::simulations

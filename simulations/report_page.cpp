#include "simulations/report_page.h"

#include <algorithm>
#include <cmath>
#include <string_view>

extern "C" {
extern const char covey_sim_report_html[];
extern const char covey_sim_report_html_end[];
}

namespace covey::simulations {
namespace {

using formats::Json;

/// `with` is not searched again: what it holds may look like a mark.
void put_at_mark(std::string& text, std::string_view mark, std::string_view with) {
  const auto at = text.find(mark);
  if (at != std::string::npos) text.replace(at, mark.size(), with);
}

/// In the largest unit that leaves 1 or more.
std::string scaled(double value, const std::vector<AxisUnit>& units) {
  if (!std::isfinite(value)) return "–";
  const AxisUnit* unit = &units.front();
  for (const auto& larger : units) {
    if (std::abs(value) >= larger.size) unit = &larger;
  }
  return short_number(value / unit->size) + "\u00a0" + unit->name;
}

const std::vector<AxisUnit>& byte_units() {
  static const std::vector<AxisUnit> units = {{1, "B"}, {1e3, "kB"}, {1e6, "MB"}, {1e9, "GB"}, {1e12, "TB"}};
  return units;
}
const std::vector<AxisUnit>& joule_units() {
  static const std::vector<AxisUnit> units = {{1, "J"}, {1e3, "kJ"}, {1e6, "MJ"}, {1e9, "GJ"}};
  return units;
}
const std::vector<AxisUnit>& second_units() {
  static const std::vector<AxisUnit> units = {{1, "s"}, {60, "min"}, {3600, "h"}};
  return units;
}

}  // namespace

std::string html_page(const std::string& title, const std::string& body) {
  std::string page(covey_sim_report_html, covey_sim_report_html_end);
  put_at_mark(page, "COVEY_BODY", body);  // the later mark first: no title can bring it
  put_at_mark(page, "COVEY_TITLE", html_escaped(title));
  return page;
}

std::string origin_tag(Origin origin) {
  const char* name = origin == Origin::simulated ? "simulated" : origin == Origin::modelled ? "modelled" : "measured";
  return std::string("<span class=\"tag ") + name + "\">" + name + "</span>";
}

std::string origin_key() {
  return "<ul class=\"key\"><li>" + origin_tag(Origin::simulated) +
         "really trained, summed, evaluated and encoded by the code that is deployed</li><li>" +
         origin_tag(Origin::modelled) +
         "follows from stated figures (speeds, links, watts); no phone was there</li><li>" +
         origin_tag(Origin::measured) + "on the machine that ran this</li></ul>\n";
}

std::string html_table(const HtmlTable& table) {
  const auto left = [&](std::size_t column) { return column == 0 || std::ranges::count(table.words, column) > 0; };
  std::string out = "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"" + html_escaped(table.caption) +
                    "\"><table id=\"" + table.id + "\"><caption><span>" + html_escaped(table.caption) +
                    "</span></caption><thead><tr>";
  for (std::size_t i = 0; i < table.head.size(); ++i) {
    out +=
        std::string("<th scope=\"col\"") + (left(i) ? " class=\"text\">" : ">") + html_escaped(table.head[i]) + "</th>";
  }
  out += "</tr></thead><tbody>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string tag = i == 0 ? "th" : "td";
      out += "<" + tag + (i == 0 ? " scope=\"row\"" : "") + (left(i) ? " class=\"text\">" : ">") +
             html_escaped(row[i]) + "</" + tag + ">";
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string html_figures(const std::vector<Figure>& figures) {
  std::string out = "<dl class=\"figures\">";
  for (const auto& figure : figures) {
    const bool wide = figure.value.find("→") != std::string::npos;
    out += std::string("<div class=\"figure") + (wide ? " wide" : "") + "\"><dt>" + html_escaped(figure.name) +
           "</dt><dd><b>" + html_escaped(figure.value) + "</b>" + origin_tag(figure.origin) + "</dd></div>";
  }
  return out + "</dl>\n";
}

std::string html_section(const std::string& id, const std::string& title, const std::string& body) {
  return "<section id=\"" + id + "\" aria-labelledby=\"" + id + "-h\"><h2 id=\"" + id + "-h\">" + html_escaped(title) +
         "</h2>\n" + body + "</section>\n";
}

std::string html_note(const std::string& words) {
  return "<p class=\"note\">" + words + "</p>\n";
}

std::string html_verbatim(const std::string& id, const std::string& text) {
  return "<pre id=\"" + id + "\" tabindex=\"0\">" + html_escaped(text) + "</pre>\n";
}

std::string html_details(const std::string& summary, const std::string& body) {
  return "<details><summary>" + html_escaped(summary) + "</summary>\n" + body + "</details>\n";
}

std::string byte_words(double bytes) {
  return scaled(bytes, byte_units());
}
std::string joule_words(double joules) {
  return scaled(joules, joule_units());
}
std::string second_words(double seconds) {
  if (std::isfinite(seconds) && seconds >= 48 * 3600) return short_number(seconds / 86400) + "\u00a0days";
  return scaled(seconds, second_units());
}
std::string gram_words(double grams) {
  if (std::isfinite(grams) && grams > 0 && grams < 1) return short_number(grams * 1000) + "\u00a0mg";
  return scaled(grams, {{1, "g"}, {1e3, "kg"}, {1e6, "t"}});
}
std::string count_words(double count) {
  if (!std::isfinite(count)) return "–";
  std::string out = std::to_string(std::llround(std::clamp(count, -9e18, 9e18)));
  for (std::size_t at = out.size(); at > 3 && out[at - 4] != '-'; at -= 3) out.insert(at - 3, "\u202f");
  return out;
}
std::string percent_words(double share, int digits) {
  if (!std::isfinite(share)) return "–";
  return short_number(100 * share, digits) + "\u00a0%";
}

double json_double(const Json* from, const char* key) {
  const Json* value = from == nullptr ? nullptr : from->find(key);
  if (value == nullptr || !value->is_number()) return kNoFigure;
  return *value->as_double();
}

std::string json_number(const Json& from, const char* key, int digits) {
  return short_number(json_double(&from, key), digits);
}

std::string json_text(const Json& from, const char* key) {
  const Json* value = from.find(key);
  return value != nullptr && value->is_string() ? *value->as_string() : std::string();
}

const std::vector<ReportAxis>& report_axes() {
  static const std::vector<ReportAxis> axes = {
      {"by_round", "round", "rounds", "round", {{1, ""}}},
      {"by_time", "virtual_s", "virtual time", "virtual time (modelled)", second_units()},
      {"by_bytes", "bytes_total", "bytes", "moved by all devices, both directions", byte_units()},
      {"by_energy", "joules_total", "energy", "energy of all devices (modelled)", joule_units()},
      {"by_epsilon", "epsilon", "epsilon", "epsilon spent", {{1, ""}}},
  };
  return axes;
}

const AxisUnit& axis_unit(const ReportAxis& axis, double most) {
  const AxisUnit* out = &axis.units.front();
  for (const auto& unit : axis.units) {
    if (most >= 2 * unit.size) out = &unit;
  }
  return *out;
}

std::string axis_title(const ReportAxis& axis, const AxisUnit& unit) {
  const std::string name = unit.name;
  return name.empty() ? axis.title : std::string(axis.title) + ", " + name;
}

}  // namespace covey::simulations

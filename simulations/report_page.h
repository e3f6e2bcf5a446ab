/// The page around a report or a comparison: style, tables, figures, words for quantities, and what a metric is drawn
/// against. No script; nothing is loaded from elsewhere (the page's own Content-Security-Policy forbids it).
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/formats/json.h"
#include "simulations/svg_chart.h"

namespace covey::simulations {

/// A whole HTML page. @param body  markup: what came from outside is escaped already.
std::string html_page(const std::string& title, const std::string& body);

/// Where a figure comes from; said in words beside it.
enum class Origin { simulated, modelled, measured };
std::string origin_tag(Origin origin);
/// A line that explains the three.
std::string origin_key();

/// Cells are text and escaped here; the first column names the row.
struct HtmlTable {
  std::string id;
  std::string caption;
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
  std::vector<std::size_t> words;  ///< columns that are set to the left like the first one
};
std::string html_table(const HtmlTable& table);

/// A box of one value, with what it is.
struct Figure {
  std::string value;
  std::string name;
  Origin origin = Origin::simulated;
};
std::string html_figures(const std::vector<Figure>& figures);
std::string html_section(const std::string& id, const std::string& title, const std::string& body);
/// @param words  markup.
std::string html_note(const std::string& words);
/// Text as it stands, for commands and configurations.
std::string html_verbatim(const std::string& id, const std::string& text);
std::string html_details(const std::string& summary, const std::string& body);

// Quantities for people; "–" for what is not there.
std::string byte_words(double bytes);
std::string joule_words(double joules);
std::string second_words(double seconds);
std::string gram_words(double grams);
std::string count_words(double count);  ///< "4 900 000"
std::string percent_words(double share, int digits = 3);

/// A member as a number; kNoFigure where it is missing or something else.
double json_double(const formats::Json* from, const char* key);
std::string json_number(const formats::Json& from, const char* key, int digits = 4);
/// A member as text; empty where it is missing or something else.
std::string json_text(const formats::Json& from, const char* key);

/// A unit that an axis may be drawn in.
struct AxisUnit {
  double size = 1;
  const char* name = "";
};
/// One coordinate of "metric against ...".
struct ReportAxis {
  const char* id;
  const char* key;    ///< of a line of metrics.jsonl
  const char* words;  ///< "virtual time"
  const char* title;  ///< of the axis, before its unit
  std::vector<AxisUnit> units;
};
/// Rounds, virtual time, bytes, energy, epsilon.
const std::vector<ReportAxis>& report_axes();
/// The largest unit in which `most` is 2 or more; the smallest one otherwise.
const AxisUnit& axis_unit(const ReportAxis& axis, double most);
std::string axis_title(const ReportAxis& axis, const AxisUnit& unit);

}  // namespace covey::simulations

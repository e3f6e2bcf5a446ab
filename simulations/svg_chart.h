/// Charts as SVG text, drawn here: a page needs no script, prints well, and follows the reader's colour scheme, since
/// colours, line styles and fonts are the page's CSS (classes s0 ... s9; assets/report.html). Each chart is a <figure>
/// with a caption, a <title> and a <desc> that says in words what is drawn. All text is escaped here.
#pragma once

#include <cstddef>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace covey::simulations {

/// Text for HTML and for attributes in double or single quotes. Bytes that HTML forbids (control characters) go.
std::string html_escaped(std::string_view text);

/// A figure for people: at most `digits` significant digits, "–" for what is no number.
std::string short_number(double value, int digits = 3);

inline constexpr double kNoFigure = std::numeric_limits<double>::quiet_NaN();
/// Colours, each with dashes and a marker of its own; twice as many series differ by colour and dashes.
inline constexpr std::size_t kSeriesStyles = 10;
/// Longer series are thinned out to about so many points, first and last kept.
inline constexpr std::size_t kChartPointsMax = 400;

struct ChartPoint {
  double x = 0;
  double y = 0;
  double low = kNoFigure;  ///< of the band; drawn where both are figures
  double high = kNoFigure;
};

struct ChartSeries {
  std::string label;
  std::vector<ChartPoint> points;  ///< in the order of x; points that are not finite are left out
  std::size_t style = 0;           ///< its number among a page's series
};

struct LineChart {
  std::string id;  ///< of [a-z0-9_]
  std::string title;
  std::string x_title;
  std::string y_title;
  std::vector<ChartSeries> series;
  bool y_from_zero = false;
  bool x_logarithmic = false;                                             ///< leaves out points at 0
  std::string nothing = "Nothing to draw: this run has no such figure.";  ///< said where no series has a point
};
/// Where the values span more than a factor of 30, none of them 0 or less, the scale is logarithmic and says so. A band
/// does not stretch the scale to more than twice the span of the lines: it may leave the drawing.
std::string line_chart(const LineChart& chart);

struct StackedBar {
  double x = 0;
  std::vector<double> values;  ///< one for each part, from the bottom; what is no figure counts as 0
};
struct BarChart {
  std::string id;
  std::string title;
  std::string x_title;
  std::string y_title;
  std::vector<std::string> parts;
  std::vector<StackedBar> bars;  ///< more than 60 are put together, neighbours as their mean
};
std::string bar_chart(const BarChart& chart);

/// One line of horizontal bars: from `low` to `high` with a mark at `mid`, and a hollow mark at `before`.
struct SpanLine {
  std::string label;
  double low = kNoFigure;
  double mid = kNoFigure;
  double high = kNoFigure;
  double before = kNoFigure;
  std::size_t style = 0;  ///< as of a series
};
struct SpanChart {
  std::string id;
  std::string title;
  std::string x_title;
  std::vector<SpanLine> lines;
  bool x_from_zero = false;
};
std::string span_chart(const SpanChart& chart);

/// A short piece of a series' line with its marker.
std::string series_sample(std::size_t style);

/// At most `most` + 1 round numbers that lie in [low, high].
std::vector<double> round_ticks(double low, double high, int most);

}  // namespace covey::simulations

#include "simulations/svg_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "simulations/svg_parts.h"

namespace covey::simulations {
namespace svg {

void Range::take(double value) {
  if (!std::isfinite(value)) return;
  low = std::min(low, value);
  high = std::max(high, value);
}

void Range::widen() {
  if (empty() || low < high) return;
  const double by = std::max(std::abs(low) * 0.1, 1e-9);
  low -= by;
  high += by;
}

double Axis::at(double value) const {
  const auto place = [this](double v) { return logarithmic ? std::log(v) : v; };
  return from + (place(value) - place(range.low)) / (place(range.high) - place(range.low)) * (to - from);
}

std::vector<double> Axis::ticks(int most) const {
  if (!logarithmic) return round_ticks(range.low, range.high, most);
  std::vector<double> out;
  const int first = static_cast<int>(std::floor(std::log10(range.low)));
  const int last = static_cast<int>(std::ceil(std::log10(range.high)));
  const bool few = last - first <= 2;
  for (int power = first; power <= last; ++power) {
    for (const double factor : {1.0, 3.0}) {
      const double tick = factor * std::pow(10, power);
      if (tick >= range.low && tick <= range.high && (few || factor == 1.0)) out.push_back(tick);
    }
  }
  return out;
}

std::string text(const char* format, double a, double b, double c, double d) {
  std::array<char, 200> out{};
  std::snprintf(out.data(), out.size(), format, a, b, c, d);
  return out.data();
}

std::string frame(const Axis& x, const Axis& y, const std::string& x_title, const std::string& y_title) {
  std::string out;
  for (const double tick : y.ticks(5)) {
    const double place = y.at(tick);
    out += text("<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", kLeft, kWidth - kRight, place,
                place);
    out += text("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", kLeft - 6, place + 4) + short_number(tick, 4) +
           "</text>";
  }
  const double bottom = y.from;
  for (const double tick : x.ticks(5)) {
    const double place = x.at(tick);
    out += text("<line class=\"tick\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", place, place, bottom,
                bottom + 4);
    out += text("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", place, bottom + 17) + short_number(tick, 4) +
           "</text>";
  }
  out += text("<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", kLeft, kWidth - kRight, bottom,
              bottom);
  out += text("<text class=\"axis-title\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", (kLeft + kWidth - kRight) / 2,
              bottom + 36) +
         html_escaped(x_title) + "</text>";
  if (y_title.empty()) return out;
  return out +
         text("<text class=\"axis-title\" transform=\"translate(13.5 %.1f) rotate(-90)\" text-anchor=\"middle\">",
              (y.from + y.to) / 2) +
         html_escaped(y_title) + "</text>";
}

std::string open(const std::string& id, const std::string& title, const std::string& description, double height) {
  return "<figure class=\"chart\" id=\"" + id + "\"><figcaption>" + html_escaped(title) +
         text("</figcaption><svg viewBox=\"0 0 %.0f %.0f\" role=\"img\"", kWidth, height) + " aria-labelledby=\"" + id +
         "-t " + id + "-d\"><title id=\"" + id + "-t\">" + html_escaped(title) + "</title><desc id=\"" + id + "-d\">" +
         html_escaped(description) + "</desc>";
}

std::string close(const std::string& below) {
  return "</svg>" + below + "</figure>\n";
}

std::string without_drawing(const std::string& id, const std::string& title, const std::string& words) {
  return "<figure class=\"chart empty\" id=\"" + id + "\"><figcaption>" + html_escaped(title) + "</figcaption><p>" +
         html_escaped(words) + "</p></figure>\n";
}

}  // namespace svg

namespace {

constexpr double kLogarithmicFrom = 30;  ///< factor between largest and smallest value
constexpr std::size_t kMarkersMax = 40;

bool drawable(const ChartPoint& point) {
  return std::isfinite(point.x) && std::isfinite(point.y);
}

bool has_band(const ChartPoint& point) {
  return std::isfinite(point.low) && std::isfinite(point.high) && point.low < point.high;
}

/// First, last and evenly between.
std::vector<ChartPoint> thinned(const std::vector<ChartPoint>& points, bool above_zero) {
  std::vector<ChartPoint> good;
  std::ranges::copy_if(points, std::back_inserter(good),
                       [&](const ChartPoint& point) { return drawable(point) && (!above_zero || point.x > 0); });
  if (good.size() <= kChartPointsMax) return good;
  std::vector<ChartPoint> out;
  for (std::size_t i = 0; i < kChartPointsMax; ++i) {
    out.push_back(good[i * (good.size() - 1) / (kChartPointsMax - 1)]);
  }
  return out;
}

/// A small shape around a place, by style: what tells series apart for whom colours do not.
std::string marker(std::size_t style, double x, double y) {
  using svg::text;
  switch (style % 5) {
    case 0:
      return text("<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\"/>", x, y);
    case 1:
      return text("<path class=\"dot\" d=\"M%.1f %.1fh5v5h-5z\"/>", x - 2.5, y - 2.5);
    case 2:
      return text("<path class=\"dot\" d=\"M%.1f %.1fl3.2 5.6h-6.4z\"/>", x, y - 3.4);
    case 3:
      return text("<path class=\"dot\" d=\"M%.1f %.1fl3.4 3.4l-3.4 3.4l-3.4 -3.4z\"/>", x, y - 3.4);
    default:
      return text("<path class=\"cross\" d=\"M%.1f %.1fl5 5m0 -5l-5 5\"/>", x - 2.5, y - 2.5);
  }
}

/// From the eleventh on colours come again, with other dashes.
std::string series_class(std::size_t style) {
  return "s" + std::to_string(style % kSeriesStyles) + (style / kSeriesStyles % 2 == 1 ? " again" : "");
}

struct Scales {
  svg::Axis x;
  svg::Axis y;
};

Scales scales_of(const LineChart& chart, const std::vector<std::vector<ChartPoint>>& series) {
  Scales out;
  svg::Range bands;
  for (const auto& points : series) {
    for (const auto& point : points) {
      out.x.range.take(point.x);
      out.y.range.take(point.y);
      if (!has_band(point)) continue;
      bands.take(point.low);
      bands.take(point.high);
    }
  }
  out.x.range.widen();
  out.y.range.widen();
  svg::Range& y = out.y.range;
  if (!bands.empty()) {
    const double room = y.high - y.low;
    y.low = std::max(std::min(y.low, bands.low), y.low - room / 2);
    y.high = std::min(std::max(y.high, bands.high), y.high + room / 2);
  }
  if (chart.y_from_zero) y.low = std::min(0.0, y.low);
  out.x.logarithmic = chart.x_logarithmic;
  out.y.logarithmic = y.low > 0 && y.high / y.low > kLogarithmicFrom;
  out.x.from = svg::kLeft + 4;
  out.x.to = svg::kWidth - svg::kRight - 4;
  out.y.from = svg::kHeight - svg::kBottom;
  out.y.to = svg::kTop;
  return out;
}

std::string drawn(const std::vector<ChartPoint>& points, std::size_t style, const Scales& scales) {
  std::string upper;
  std::vector<std::string> lower;
  std::string line;
  std::string dots;
  for (const auto& point : points) {
    const double x = scales.x.at(point.x);
    const double y = scales.y.at(point.y);
    line += svg::text(line.empty() ? "M%.1f %.1f" : "L%.1f %.1f", x, y);
    if (points.size() <= kMarkersMax) dots += marker(style, x, y);
    if (!has_band(point)) continue;
    // Cut off well outside of the drawing, which clips it: a logarithm has no place for 0.
    const double bottom = scales.y.logarithmic ? std::max(point.low, scales.y.range.low / 10) : point.low;
    upper += svg::text("%.1f,%.1f ", x, scales.y.at(point.high));
    lower.push_back(svg::text("%.1f,%.1f ", x, scales.y.at(bottom)));
  }
  std::string out = "<g class=\"series " + series_class(style) + " n" + std::to_string(style) + "\">";
  if (!upper.empty()) {
    out += "<polygon class=\"band\" points=\"" + upper;
    for (auto at = lower.rbegin(); at != lower.rend(); ++at) out += *at;
    out += "\"/>";
  }
  return out + "<path class=\"curve\" d=\"" + line + "\"/>" + dots + "</g>";
}

std::string described(const LineChart& chart) {
  std::string out = chart.y_title + " against " + chart.x_title + ".";
  for (const auto& series : chart.series) {
    svg::Range values;
    const ChartPoint* last = nullptr;
    for (const auto& point : series.points) {
      if (!drawable(point)) continue;
      values.take(point.y);
      last = &point;
    }
    if (last == nullptr) continue;
    out += " " + series.label + ": " + short_number(last->y, 4) + " at " + short_number(last->x, 4) + ", lowest " +
           short_number(values.low, 4) + ", highest " + short_number(values.high, 4) + ".";
  }
  return out;
}

}  // namespace

std::string html_escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') out += c;
    }
  }
  return out;
}

std::string short_number(double value, int digits) {
  if (!std::isfinite(value)) return "–";
  std::array<char, 64> text{};
  const double size = std::abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-4)) {
    std::snprintf(text.data(), text.size(), "%.*g", digits, value);
    return text.data();
  }
  const int before = size >= 1 ? static_cast<int>(std::floor(std::log10(size))) + 1 : 0;
  // Below 1 the zeros behind the point are no digits.
  const int zeros = size > 0 && size < 1 ? static_cast<int>(-std::floor(std::log10(size))) - 1 : 0;
  std::snprintf(text.data(), text.size(), "%.*f", std::clamp(digits - before + zeros, 0, 8), value);
  std::string out = text.data();
  if (out.find('.') != std::string::npos) {
    out.erase(out.find_last_not_of('0') + 1);
    if (out.ends_with('.')) out.pop_back();
  }
  return out == "-0" ? "0" : out;
}

std::vector<double> round_ticks(double low, double high, int most) {
  std::vector<double> out;
  if (!(low < high) || most < 1) return out;
  const double raw = (high - low) / most;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  double step = power * 10;
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (power * factor >= raw * (1 - 1e-9)) {
      step = power * factor;
      break;
    }
  }
  const double first = std::ceil(low / step - 1e-9);
  for (int i = 0; i <= most; ++i) {
    const double tick = (first + i) * step;
    if (tick > high + step * 1e-6) break;
    out.push_back(std::abs(tick) < step * 1e-6 ? 0 : tick);
  }
  return out;
}

std::string series_sample(std::size_t style) {
  return "<svg class=\"sample " + series_class(style) +
         "\" viewBox=\"0 0 36 12\" aria-hidden=\"true\"><path class=\"curve\" d=\"M1 6L35 6\"/>" +
         marker(style, 18, 6) + "</svg>";
}

std::string line_chart(const LineChart& chart) {
  std::vector<std::vector<ChartPoint>> series;
  for (const auto& one : chart.series) series.push_back(thinned(one.points, chart.x_logarithmic));
  const Scales scales = scales_of(chart, series);
  if (scales.x.range.empty()) return svg::without_drawing(chart.id, chart.title, chart.nothing);
  const std::string unit = scales.y.logarithmic ? chart.y_title + ", logarithmic" : chart.y_title;
  std::string out = svg::open(chart.id, chart.title, described(chart), svg::kHeight);
  out += "<clipPath id=\"" + chart.id + "-c\">" +
         svg::text("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/></clipPath>", svg::kLeft, svg::kTop - 6,
                   svg::kWidth - svg::kLeft - svg::kRight + 6, svg::kHeight - svg::kTop - svg::kBottom + 6);
  out += svg::frame(scales.x, scales.y, chart.x_title + (chart.x_logarithmic ? ", logarithmic" : ""), unit) +
         "<g clip-path=\"url(#" + chart.id + "-c)\">";
  for (std::size_t i = 0; i < series.size(); ++i) {
    if (!series[i].empty()) out += drawn(series[i], chart.series[i].style, scales);
  }
  return out + "</g>" + svg::close("");
}

}  // namespace covey::simulations

#include <algorithm>
#include <cmath>

#include "simulations/svg_chart.h"
#include "simulations/svg_parts.h"

namespace covey::simulations {
namespace {

constexpr std::size_t kBarsMax = 60;
constexpr double kSpanTop = 14;

double figure_or_zero(double value) {
  return std::isfinite(value) && value > 0 ? value : 0;
}

/// Neighbours as their mean, so that at most kBarsMax are left.
std::vector<StackedBar> merged(const BarChart& chart) {
  const std::size_t together = (chart.bars.size() + kBarsMax - 1) / kBarsMax;
  if (together <= 1) return chart.bars;
  std::vector<StackedBar> out;
  for (std::size_t first = 0; first < chart.bars.size(); first += together) {
    const std::size_t count = std::min(together, chart.bars.size() - first);
    StackedBar bar{chart.bars[first].x, std::vector<double>(chart.parts.size())};
    for (std::size_t i = first; i < first + count; ++i) {
      for (std::size_t part = 0; part < chart.parts.size() && part < chart.bars[i].values.size(); ++part) {
        bar.values[part] += figure_or_zero(chart.bars[i].values[part]) / static_cast<double>(count);
      }
    }
    out.push_back(std::move(bar));
  }
  return out;
}

/// To what fits beside the bars, in whole characters.
std::string shortened(const std::string& label) {
  constexpr std::size_t kCharactersMax = 15;
  std::size_t characters = 0;
  for (std::size_t i = 0; i < label.size(); ++i) {
    const bool begins = (static_cast<unsigned char>(label[i]) & 0xC0) != 0x80;
    if (begins && ++characters > kCharactersMax) return label.substr(0, i) + "…";
  }
  return label;
}

double total_of_part(const BarChart& chart, std::size_t part) {
  double out = 0;
  for (const auto& bar : chart.bars) out += part < bar.values.size() ? figure_or_zero(bar.values[part]) : 0;
  return out;
}

/// Of the parts that there are.
std::string legend_of(const BarChart& chart) {
  std::string out = "<ul class=\"legend\">";
  for (std::size_t part = 0; part < chart.parts.size(); ++part) {
    if (total_of_part(chart, part) <= 0) continue;
    out += "<li><i class=\"p" + std::to_string(part) + "\"></i>" + html_escaped(chart.parts[part]) + "</li>";
  }
  return out + "</ul>";
}

std::string described(const BarChart& chart) {
  std::string out = chart.y_title + " for each " + chart.x_title + ", stacked. In all:";
  for (std::size_t part = 0; part < chart.parts.size(); ++part) {
    out += (part == 0 ? " " : ", ") + short_number(total_of_part(chart, part), 9) + " " + chart.parts[part];
  }
  return out + ".";
}

}  // namespace

std::string bar_chart(const BarChart& chart) {
  const auto bars = merged(chart);
  svg::Axis x;
  svg::Axis y;
  y.range.take(0);
  for (const auto& bar : bars) {
    x.range.take(bar.x);
    double sum = 0;
    for (const double value : bar.values) sum += figure_or_zero(value);
    y.range.take(sum);
  }
  if (bars.empty() || y.range.high <= 0) {
    return svg::without_drawing(chart.id, chart.title, "Nothing to draw: no round has such a figure.");
  }
  const double span = svg::kWidth - svg::kLeft - svg::kRight;
  const double slot = span / static_cast<double>(bars.size());
  x.range.widen();
  x.from = svg::kLeft + slot / 2;
  x.to = svg::kWidth - svg::kRight - slot / 2;
  if (bars.size() == 1) x.from = x.to = svg::kLeft + slot / 2;
  y.from = svg::kHeight - svg::kBottom;
  y.to = svg::kTop;
  std::string out =
      svg::open(chart.id, chart.title, described(chart), svg::kHeight) + svg::frame(x, y, chart.x_title, chart.y_title);
  const double width = std::min(slot * 0.82, 40.0);
  for (const auto& bar : bars) {
    double top = 0;
    for (std::size_t part = 0; part < bar.values.size(); ++part) {
      const double value = figure_or_zero(bar.values[part]);
      if (value <= 0) continue;
      const double upper = y.at(top + value);
      out += "<rect class=\"p" + std::to_string(part) +
             svg::text("\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\">", x.at(bar.x) - width / 2, upper,
                       width, y.at(top) - upper) +
             "<title>" +
             html_escaped(chart.x_title + " " + short_number(bar.x, 9) + ": " + short_number(value, 4) + " " +
                          chart.parts[part]) +
             "</title></rect>";
      top += value;
    }
  }
  return out + svg::close(legend_of(chart));
}

std::string span_chart(const SpanChart& chart) {
  svg::Axis x;
  for (const auto& line : chart.lines) {
    for (const double value : {line.low, line.mid, line.high, line.before}) x.range.take(value);
  }
  if (x.range.empty()) {
    return svg::without_drawing(chart.id, chart.title, "Nothing to draw: no device has such a figure.");
  }
  if (chart.x_from_zero) x.range.take(0);
  x.range.widen();
  constexpr double kLabels = 104;
  // Few lines fill a drawing as high as the others; many make it higher.
  const double line_height = std::clamp(165.0 / static_cast<double>(chart.lines.size()), 22.0, 55.0);
  const double bottom = kSpanTop + line_height * static_cast<double>(chart.lines.size());
  x.from = kLabels + 8;
  x.to = svg::kWidth - svg::kRight - 4;
  std::string words;
  std::string drawn;
  for (std::size_t i = 0; i < chart.lines.size(); ++i) {
    const auto& line = chart.lines[i];
    const double y = kSpanTop + line_height * (static_cast<double>(i) + 0.5);
    drawn += "<g class=\"s" + std::to_string(line.style % kSeriesStyles) + " n" + std::to_string(line.style) + "\">";
    drawn += svg::text("<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", kLabels,
                       svg::kWidth - svg::kRight, y, y);
    drawn += svg::text("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", kLabels - 8, y + 4) +
             html_escaped(shortened(line.label)) + "</text>";
    if (std::isfinite(line.low) && std::isfinite(line.high)) {
      drawn += svg::text("<path class=\"span\" d=\"M%.1f %.1fL%.1f %.1f\"/>", x.at(line.low), y, x.at(line.high), y);
    }
    if (std::isfinite(line.mid))
      drawn += svg::text("<circle class=\"mid\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>", x.at(line.mid), y);
    if (std::isfinite(line.before)) {
      drawn += svg::text("<circle class=\"before\" cx=\"%.1f\" cy=\"%.1f\" r=\"4.5\"/>", x.at(line.before), y);
    }
    drawn += "</g>";
    words += " " + line.label + ": " + short_number(line.mid, 4) + ", from " + short_number(line.low, 4) + " to " +
             short_number(line.high, 4) +
             (std::isfinite(line.before) ? ", before " + short_number(line.before, 4) : std::string()) + ".";
  }
  for (const double tick : x.ticks(5)) {
    drawn += svg::text("<line class=\"tick\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x.at(tick), x.at(tick),
                       bottom, bottom + 4);
    drawn += svg::text("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", x.at(tick), bottom + 17) +
             short_number(tick, 4) + "</text>";
  }
  drawn += svg::text("<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", kLabels,
                     svg::kWidth - svg::kRight, bottom, bottom);
  drawn += svg::text("<text class=\"axis-title\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">",
                     (kLabels + svg::kWidth - svg::kRight) / 2, bottom + 36) +
           html_escaped(chart.x_title) + "</text>";
  return svg::open(chart.id, chart.title, chart.x_title + "." + words, bottom + svg::kBottom) + drawn + svg::close("");
}

}  // namespace covey::simulations

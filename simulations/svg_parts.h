/// What svg_chart.cpp and svg_bars.cpp share: the frame of a chart and where data lies on it.
#pragma once

#include <string>
#include <vector>

#include "simulations/svg_chart.h"

namespace covey::simulations::svg {

// The drawing's own units; CSS scales it to the column's width.
inline constexpr double kWidth = 400;
inline constexpr double kHeight = 250;
inline constexpr double kLeft = 62;
inline constexpr double kRight = 14;
inline constexpr double kTop = 12;
inline constexpr double kBottom = 44;

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void take(double value);  ///< what is no figure is left out
  [[nodiscard]] bool empty() const { return !(low <= high); }
  /// A single value gets something to stand in the middle of.
  void widen();
};

/// One axis: from values to the drawing.
struct Axis {
  Range range;
  double from = 0;  ///< where range.low lies
  double to = 1;
  bool logarithmic = false;
  [[nodiscard]] double at(double value) const;
  [[nodiscard]] std::vector<double> ticks(int most) const;
};

/// printf for numbers.
std::string text(const char* format, double a, double b = 0, double c = 0, double d = 0);
/// Grid, ticks and titles. `y_title` is empty where the lines have labels of their own.
std::string frame(const Axis& x, const Axis& y, const std::string& x_title, const std::string& y_title);
/// <figure>, caption, <svg> with title and description, up to what is drawn; close() ends it.
std::string open(const std::string& id, const std::string& title, const std::string& description, double height);
std::string close(const std::string& below);
/// The figure with words in place of a drawing.
std::string without_drawing(const std::string& id, const std::string& title, const std::string& words);

}  // namespace covey::simulations::svg

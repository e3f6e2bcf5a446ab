#include "adapters/loss_curve.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

namespace covey::adapters {
namespace {

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void add(double x) {
    low = std::min(low, x);
    high = std::max(high, x);
  }
  /// In [0, 1].
  [[nodiscard]] double place(double x) const { return high > low ? (x - low) / (high - low) : 0.5; }
};

/// Means of `count` equal runs; runs without a finite number are left out.
std::vector<double> means_of_runs(std::span<const double> values, std::size_t count) {
  std::vector<double> out;
  const std::size_t runs = std::min(count, values.size());
  for (std::size_t i = 0; i < runs; ++i) {
    double sum = 0;
    int finite = 0;
    for (const double x :
         values.subspan(i * values.size() / runs, (i + 1) * values.size() / runs - i * values.size() / runs)) {
      if (!std::isfinite(x)) continue;
      sum += x;
      ++finite;
    }
    if (finite > 0) out.push_back(sum / finite);
  }
  return out;
}

std::string number(const char* format, double value) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), format, value);
  return text.data();
}

}  // namespace

std::string sparkline(std::span<const double> losses, int width) {
  static constexpr std::array<const char*, 8> kBlocks = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  const auto means = means_of_runs(losses, static_cast<std::size_t>(std::max(width, 0)));
  Range range;
  for (const double x : means) range.add(x);
  std::string out;
  for (const double x : means) out += kBlocks[static_cast<std::size_t>(std::lround(range.place(x) * 7))];
  return out;
}

std::string loss_plot(std::span<const LossPoint> training, std::span<const LossPoint> held_out, int width, int height) {
  if (width < 2 || height < 2) return {};
  Range steps;
  Range losses;
  int finite = 0;
  const auto columns = static_cast<std::size_t>(width);
  std::vector<double> sum(columns);
  std::vector<int> count(columns);
  for (const auto& points : {training, held_out}) {
    for (const auto& [step, loss] : points) {
      if (std::isfinite(loss)) steps.add(static_cast<double>(step));
    }
  }
  const auto column = [&](std::int64_t step) {
    return static_cast<std::size_t>(std::lround(steps.place(static_cast<double>(step)) * (width - 1)));
  };
  for (const auto& [step, loss] : training) {
    if (!std::isfinite(loss)) continue;
    sum[column(step)] += loss;
    ++count[column(step)];
    ++finite;
  }
  for (std::size_t i = 0; i < columns; ++i) {
    if (count[i] > 0) losses.add(sum[i] / count[i]);
  }
  for (const auto& [step, loss] : held_out) {
    if (!std::isfinite(loss)) continue;
    losses.add(loss);
    ++finite;
  }
  if (finite < 2) return {};
  std::vector<std::string> rows(static_cast<std::size_t>(height), std::string(columns, ' '));
  const auto row = [&](double loss) {
    return static_cast<std::size_t>(std::lround((1 - losses.place(loss)) * (height - 1)));
  };
  for (std::size_t i = 0; i < columns; ++i) {
    if (count[i] > 0) rows[row(sum[i] / count[i])][i] = '.';
  }
  for (const auto& [step, loss] : held_out) {
    if (std::isfinite(loss)) rows[row(loss)][column(step)] = 'o';
  }
  std::string out;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const bool end = i == 0 || i + 1 == rows.size();
    out += (end ? number("%9.4f", i == 0 ? losses.high : losses.low) : std::string(9, ' ')) + " |" + rows[i] + "\n";
  }
  const std::string first = number("%.0f", steps.low);
  const std::string last = "step " + number("%.0f", steps.high);
  const auto gap =
      std::max<std::size_t>(1, columns > first.size() + last.size() ? columns - first.size() - last.size() : 1);
  out += std::string(10, ' ') + "+" + std::string(columns, '-') + "\n" + std::string(11, ' ') + first +
         std::string(gap, ' ') + last + "\n" + std::string(11, ' ') + ". training" +
         (held_out.empty() ? "" : "   o held out") + "\n";
  return out;
}

std::string duration_text(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "?";
  const auto whole = static_cast<long long>(std::llround(seconds));
  std::array<char, 32> text{};
  if (whole >= 3600) {
    std::snprintf(text.data(), text.size(), "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
  } else {
    std::snprintf(text.data(), text.size(), "%lld:%02lld", whole / 60, whole % 60);
  }
  return text.data();
}

}  // namespace covey::adapters

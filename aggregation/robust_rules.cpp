#include "aggregation/robust_rules.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "aggregation/clip.h"

namespace covey::aggregation {
namespace {

Error bad(const std::string& what) {
  return {ErrorCode::invalid_argument, "robust rule: " + what};
}

/// The rows in the order of their values: sums of doubles then have one order too.
using Ordered = std::vector<const std::vector<float>*>;

Result<Ordered> ordered(Rows rows) {
  if (rows.empty()) return bad("there is no update");
  Ordered out;
  for (const auto& row : rows) {
    if (row.size() != rows.front().size()) return bad("updates of different length");
    if (!std::ranges::all_of(row, [](float x) { return std::isfinite(x); })) return bad("a value is not finite");
    out.push_back(&row);
  }
  std::ranges::sort(out, [](const auto* a, const auto* b) { return *a < *b; });
  return out;
}

double squared_distance(std::span<const float> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return sum;
}

/// Of an even count the mean of the two in the middle.
double middle(std::span<double> sorted) {
  const std::size_t half = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

double median_of(std::vector<double> values) {
  std::ranges::sort(values);
  return middle(values);
}

std::vector<float> narrow(std::span<const double> values) {
  return {values.begin(), values.end()};
}

/// f(sorted column) for each coordinate.
template <typename F>
std::vector<float> by_column(const Ordered& rows, F&& f) {
  std::vector<float> out(rows.front()->size());
  std::vector<double> column(rows.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    for (std::size_t r = 0; r < rows.size(); ++r) column[r] = (*rows[r])[i];
    std::ranges::sort(column);
    out[i] = static_cast<float>(f(std::span<double>(column)));
  }
  return out;
}

/// sum of w[r] rows[r] / sum of w.
std::vector<double> weighted_mean(const Ordered& rows, std::span<const double> weights) {
  std::vector<double> out(rows.front()->size());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += weights[r] * double{(*rows[r])[i]};
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& value : out) value /= total;
  return out;
}

std::vector<double> distances(const Ordered& rows, std::span<const double> from) {
  std::vector<double> out;
  for (const auto* row : rows) out.push_back(std::sqrt(squared_distance(*row, from)));
  return out;
}

}  // namespace

Result<std::vector<float>> coordinate_median(Rows rows) {
  COVEY_ASSIGN(const Ordered in, ordered(rows));
  return by_column(in, middle);
}

Result<std::vector<float>> trimmed_mean(Rows rows, double beta) {
  COVEY_ASSIGN(const Ordered in, ordered(rows));
  if (!(beta >= 0 && beta < 0.5)) return bad("a trimmed share is from 0 to below 0.5");
  // The small addition keeps 0.2 x 5 from being cut to 0.
  const auto cut = static_cast<std::size_t>(std::floor(beta * static_cast<double>(in.size()) + 1e-9));
  return by_column(in, [cut](std::span<double> column) {
    const auto kept = column.subspan(cut, column.size() - 2 * cut);
    return std::accumulate(kept.begin(), kept.end(), 0.0) / static_cast<double>(kept.size());
  });
}

Result<std::vector<float>> multi_krum(Rows rows, std::size_t f, std::size_t select) {
  COVEY_ASSIGN(const Ordered in, ordered(rows));
  const std::size_t n = in.size();
  if (f > n || n < 2 * f + 3) {
    return bad("Krum against " + std::to_string(f) + " bad updates needs " + std::to_string(2 * f + 3) +
               ", there are " + std::to_string(n));
  }
  if (select < 1 || select > n - f) return bad("Multi-Krum keeps 1 to n - f updates");
  std::vector<double> squared(n * n);
  for (std::size_t a = 0; a < n; ++a) {
    const std::vector<double> wide(in[a]->begin(), in[a]->end());
    for (std::size_t b = 0; b < a; ++b) squared[a * n + b] = squared[b * n + a] = squared_distance(*in[b], wide);
  }
  std::vector<double> score(n);
  for (std::size_t a = 0; a < n; ++a) {
    std::vector<double> others;
    for (std::size_t b = 0; b < n; ++b) {
      if (b != a) others.push_back(squared[a * n + b]);
    }
    std::ranges::sort(others);
    score[a] = std::accumulate(others.begin(), others.begin() + static_cast<std::ptrdiff_t>(n - f - 2), 0.0);
  }
  std::vector<std::size_t> best(n);
  std::iota(best.begin(), best.end(), 0);
  std::ranges::stable_sort(best, {}, [&](std::size_t row) { return score[row]; });
  std::vector<double> weights(n);
  for (std::size_t i = 0; i < select; ++i) weights[best[i]] = 1;
  return narrow(weighted_mean(in, weights));
}

Result<std::vector<float>> geometric_median(Rows rows, const WeiszfeldOptions& options) {
  COVEY_ASSIGN(const Ordered in, ordered(rows));
  // From the coordinate median, not the mean: far rows can neither carry the start away nor set the scale.
  COVEY_ASSIGN(const auto start, coordinate_median(rows));
  std::vector<double> at(start.begin(), start.end());
  const double unit = median_of(distances(in, at));
  if (unit == 0) return start;  // more than half of the rows lie here
  std::vector<double> weights(in.size());
  for (int iteration = 0; iteration < options.iterations_max; ++iteration) {
    const std::vector<double> apart = distances(in, at);
    for (std::size_t r = 0; r < in.size(); ++r) weights[r] = 1 / std::max(apart[r], options.smoothing * unit);
    const std::vector<double> next = weighted_mean(in, weights);
    double moved = 0;
    for (std::size_t i = 0; i < at.size(); ++i) moved += (next[i] - at[i]) * (next[i] - at[i]);
    at = next;
    if (std::sqrt(moved) <= options.tolerance * unit) break;
  }
  return narrow(at);
}

Result<std::vector<float>> norm_bounded_mean(Rows rows, double bound) {
  COVEY_ASSIGN(const Ordered in, ordered(rows));
  if (!(bound >= 0) || !std::isfinite(bound)) return bad("a norm bound is 0 or more");
  std::vector<double> norms;
  for (const auto* row : in) norms.push_back(l2_norm(*row));
  if (bound == 0) bound = median_of(norms);
  std::vector<double> out(in.front()->size());
  for (std::size_t r = 0; r < in.size(); ++r) {
    const double factor = (norms[r] > bound ? bound / norms[r] : 1.0) / static_cast<double>(in.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += factor * double{(*in[r])[i]};
  }
  return narrow(out);
}

Result<std::vector<float>> centred_clipping(Rows rows, double radius, int iterations) {
  COVEY_ASSIGN(const Ordered in, ordered(rows));
  if (!(radius >= 0) || !std::isfinite(radius) || iterations < 1) return bad("a clipping radius is 0 or more");
  COVEY_ASSIGN(const auto start, coordinate_median(rows));
  std::vector<double> at(start.begin(), start.end());
  if (radius == 0) radius = median_of(distances(in, at));
  for (int iteration = 0; iteration < iterations; ++iteration) {
    const std::vector<double> apart = distances(in, at);
    std::vector<double> step(at.size());
    for (std::size_t r = 0; r < in.size(); ++r) {
      const double factor = (apart[r] > radius ? radius / apart[r] : 1.0) / static_cast<double>(in.size());
      for (std::size_t i = 0; i < at.size(); ++i) step[i] += factor * (double{(*in[r])[i]} - at[i]);
    }
    for (std::size_t i = 0; i < at.size(); ++i) at[i] += step[i];
  }
  return narrow(at);
}

}  // namespace covey::aggregation

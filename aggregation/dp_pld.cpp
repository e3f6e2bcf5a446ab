#include "aggregation/dp_pld.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <numbers>
#include <optional>
#include <string>

namespace covey::aggregation::dp {
namespace {

using Complex = std::complex<double>;

Error bad(const std::string& what) {
  return {ErrorCode::invalid_argument, "privacy loss: " + what};
}

/// In place, a power of two of points; inverse without the division by their number.
void fourier(std::vector<Complex>& a, bool inverse) {
  const std::size_t n = a.size();
  for (std::size_t i = 1, j = 0; i < n; ++i) {
    std::size_t bit = n >> 1;
    for (; (j & bit) != 0; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) std::swap(a[i], a[j]);
  }
  std::vector<Complex> roots(n / 2);  // each from its own angle: no error builds up
  for (std::size_t i = 0; i < n / 2; ++i) {
    roots[i] = std::polar(1.0, (inverse ? 2 : -2) * std::numbers::pi * static_cast<double>(i) / static_cast<double>(n));
  }
  for (std::size_t length = 2; length <= n; length *= 2) {
    const std::size_t stride = n / length;
    for (std::size_t start = 0; start < n; start += length) {
      for (std::size_t k = 0; k < length / 2; ++k) {
        const Complex odd = a[start + k + length / 2] * roots[k * stride];
        a[start + k + length / 2] = a[start + k] - odd;
        a[start + k] += odd;
      }
    }
  }
}

/// P[X <= x] and P[X > x] of the noise, each with its own digits.
double below(PldRelease::Noise noise, double x) {
  if (noise == PldRelease::Noise::gaussian) return std::erfc(-x / std::numbers::sqrt2) / 2;
  return x < 0 ? std::exp(x) / 2 : 1 - std::exp(-x) / 2;
}
double above(PldRelease::Noise noise, double x) {
  return below(noise, -x);
}
double between(PldRelease::Noise noise, double a, double b) {
  if (a >= b) return 0;
  return a > 0 ? above(noise, a) - above(noise, b) : below(noise, b) - below(noise, a);
}

/// The mixture (the target there) against the noise alone (not there).
class Pair {
 public:
  explicit Pair(const PldRelease& release) : release_(release) {}

  /// log of mixture's over noise's density, growing in x.
  [[nodiscard]] double log_ratio(double x) const {
    double top = -std::numeric_limits<double>::infinity();
    std::vector<double> terms;
    for (std::size_t j = 0; j < release_.shifts.size(); ++j) {
      if (release_.chances[j] == 0) continue;
      terms.push_back(std::log(release_.chances[j]) + shift_ratio(release_.shifts[j], x));
      top = std::max(top, terms.back());
    }
    double sum = 0;
    for (const double term : terms) sum += std::exp(term - top);
    return top + std::log(sum);
  }
  /// The largest x in [from, high] with log_ratio(x) <= loss; `from` where there is none.
  [[nodiscard]] double where(double loss, double from, double high) const {
    if (const auto x = inverse(loss)) return std::clamp(*x, from, high);
    if (log_ratio(high) <= loss) return high;
    if (log_ratio(from) > loss) return from;
    double step = 1e-4 * release_.scale;
    while (from + step < high && log_ratio(from + step) <= loss) step *= 2;
    high = std::min(high, from + step);
    for (int i = 0; i < 80 && high - from > 1e-15 * std::max(1.0, std::abs(high)); ++i) {
      const double middle = from + (high - from) / 2;
      (log_ratio(middle) <= loss ? from : high) = middle;
    }
    return from;
  }
  [[nodiscard]] double noise_between(double a, double b) const {
    return between(release_.noise, a / release_.scale, b / release_.scale);
  }
  [[nodiscard]] double mixture_between(double a, double b) const {
    double sum = 0;
    for (std::size_t j = 0; j < release_.shifts.size(); ++j) {
      sum += release_.chances[j] * noise_between(a - release_.shifts[j], b - release_.shifts[j]);
    }
    return sum;
  }
  [[nodiscard]] double largest_shift() const { return *std::ranges::max_element(release_.shifts); }

 private:
  /// In closed form for the Gaussian with at most one shift above 0.
  [[nodiscard]] std::optional<double> inverse(double loss) const {
    if (release_.noise != PldRelease::Noise::gaussian || release_.shifts.size() > 2) return std::nullopt;
    const bool plain = release_.shifts.size() == 1;
    if (!plain && release_.shifts.front() != 0) return std::nullopt;
    const double shift = release_.shifts.back();
    const double q = release_.chances.back();
    const double sigma = release_.scale;
    // log((e^loss - (1 - q)) / q), without losing digits near 0 or overflowing.
    const double missing = plain ? 0 : std::expm1(loss) + q;
    if (!plain && missing <= 0) return -std::numeric_limits<double>::infinity();
    const double log_shift = plain       ? loss
                             : loss > 30 ? loss + std::log1p((q - 1) * std::exp(-loss)) - std::log(q)
                                         : std::log(missing / q);
    return sigma * sigma * log_shift / shift + shift / 2;
  }
  [[nodiscard]] double shift_ratio(double shift, double x) const {
    const double b = release_.scale;
    if (release_.noise == PldRelease::Noise::gaussian) return shift * (2 * x - shift) / (2 * b * b);
    return (std::abs(x) - std::abs(x - shift)) / b;
  }
  const PldRelease& release_;
};

/// Masses on the grid loss = (first + i) interval.
struct Masses {
  std::int64_t first = 0;
  std::vector<double> mass;
  double infinite = 0;
};

/// How far out the noise has more than `tail` of its mass, in units of its scale.
double reach(PldRelease::Noise noise, double tail) {
  if (noise == PldRelease::Noise::laplace) return -std::log(2 * tail);
  double x = 1;
  while (above(noise, x) > tail) x += 0.01;
  return x;
}

/// The losses of one release on the grid. Between two grid points lies the mass p under the one distribution and q
/// under the other; a + b = p and a e^-low + b e^-high = q split it without changing either.
Masses discretize(const PldRelease& release, bool removed, const PldOptions& options) {
  const Pair pair(release);
  const double far = reach(release.noise, options.tail) * release.scale;
  const double low_x = -far;
  const double high_x = far + pair.largest_shift();
  const double h = options.interval;
  const double outside = std::numeric_limits<double>::infinity();
  const auto first = static_cast<std::int64_t>(std::floor(pair.log_ratio(low_x) / h));
  const auto last = static_cast<std::int64_t>(std::ceil(pair.log_ratio(high_x) / h));
  const auto size = static_cast<std::size_t>(last - first + 1);
  Masses out;
  out.first = removed ? first : -last;
  out.mass.assign(size, 0.0);
  double from = -outside;
  double bracket = low_x;
  for (std::int64_t cell = first; cell < last; ++cell) {  // x's whose log ratio is in (cell h, cell h + h]
    const double to = cell + 1 == last ? high_x : pair.where(static_cast<double>(cell + 1) * h, bracket, high_x);
    const double mixture = pair.mixture_between(from, to);
    const double noise = pair.noise_between(from, to);
    from = bracket = to;
    const double p = removed ? mixture : noise;
    const double q = removed ? noise : mixture;
    const std::int64_t low = removed ? cell : -(cell + 1);  // the cell's lower loss, in the direction asked for
    const double low_loss = static_cast<double>(low) * h;
    const double b = std::clamp((p - std::exp(low_loss + std::log(std::max(q, 1e-300)))) / -std::expm1(-h), 0.0, p);
    out.mass[static_cast<std::size_t>(low - out.first)] += p - b;
    out.mass[static_cast<std::size_t>(low - out.first) + 1] += b;
  }
  const double beyond = removed ? pair.mixture_between(high_x, outside) : pair.noise_between(high_x, outside);
  if (removed) {
    out.infinite += beyond;
  } else {
    out.mass.front() += beyond;  // losses below the grid may be counted as its first point: larger than they are
  }
  return out;
}

/// log E[e^(t loss)].
double log_mgf(const Masses& one, double t, double h) {
  double top = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < one.mass.size(); ++i) {
    if (one.mass[i] <= 0) continue;
    top = std::max(top, std::log(one.mass[i]) + t * h * static_cast<double>(one.first + static_cast<std::int64_t>(i)));
  }
  double sum = 0;
  for (std::size_t i = 0; i < one.mass.size(); ++i) {
    if (one.mass[i] <= 0) continue;
    sum += one.mass[i] * std::exp(t * h * static_cast<double>(one.first + static_cast<std::int64_t>(i)) - top);
  }
  return top + std::log(sum);
}

struct Window {
  double low = 0;
  double high = 0;
};

/// Losses between which all but 2 x `tail` of the composition lies, by Chernoff's bound.
Window window_of(std::span<const Masses> parts, std::span<const PldRelease> releases, double h, double tail) {
  double hardest_low = 0;
  double hardest_high = 0;
  for (std::size_t r = 0; r < parts.size(); ++r) {
    const auto count = static_cast<double>(releases[r].count);
    hardest_low += count * h * static_cast<double>(parts[r].first);
    hardest_high +=
        count * h * static_cast<double>(parts[r].first + static_cast<std::int64_t>(parts[r].mass.size()) - 1);
  }
  Window out{hardest_low, hardest_high};
  for (double t = 1e-3; t < 2e3; t *= 1.5) {
    double up = -std::log(tail);
    double down = -std::log(tail);
    for (std::size_t r = 0; r < parts.size(); ++r) {
      up += static_cast<double>(releases[r].count) * log_mgf(parts[r], t, h);
      down += static_cast<double>(releases[r].count) * log_mgf(parts[r], -t, h);
    }
    if (std::isfinite(up)) out.high = std::min(out.high, up / t);
    if (std::isfinite(down)) out.low = std::max(out.low, -down / t);
  }
  return out;
}

constexpr double kCompositionTail = 1e-16;

}  // namespace

struct PldBuilder {
  static Result<PldCurve::Side> side(std::span<const PldRelease> releases, bool removed, const PldOptions& options) {
    const double h = options.interval;
    std::vector<Masses> parts;
    double log_finite = 0;
    for (const PldRelease& release : releases) {
      parts.push_back(discretize(release, removed, options));
      log_finite += static_cast<double>(release.count) * std::log1p(-parts.back().infinite);
    }
    const Window window = window_of(parts, releases, h, kCompositionTail);
    const auto low = static_cast<std::int64_t>(std::floor(window.low / h));
    const auto wanted = static_cast<std::size_t>(std::ceil(window.high / h)) - static_cast<std::size_t>(low) + 2;
    std::size_t size = 16;
    while (size < wanted) size *= 2;
    for (const Masses& part : parts) {
      while (size < part.mass.size()) size *= 2;
    }
    if (size > options.points_max) {
      return Error{ErrorCode::resource_exhausted,
                   "privacy loss: the grid needs " + std::to_string(size) + " points; take a wider interval"};
    }
    // The cyclic convolution folds what lies outside of the window into it: at most 2 x kCompositionTail of mass.
    std::vector<Complex> product(size, 1.0);
    std::int64_t origin = 0;
    for (std::size_t r = 0; r < parts.size(); ++r) {
      std::vector<Complex> one(size);
      for (std::size_t i = 0; i < parts[r].mass.size(); ++i) one[i] += parts[r].mass[i];
      fourier(one, false);
      for (std::size_t i = 0; i < size; ++i) {
        product[i] *= std::pow(one[i], static_cast<double>(releases[r].count));
      }
      origin += static_cast<std::int64_t>(releases[r].count) * parts[r].first;
    }
    fourier(product, true);
    PldCurve::Side out;
    out.interval = h;
    out.first = static_cast<double>(low) * h;
    out.mass.resize(size);
    const auto wrap = static_cast<std::int64_t>(size);
    for (std::int64_t i = 0; i < wrap; ++i) {
      const std::int64_t from = (((low + i - origin) % wrap) + wrap) % wrap;
      out.mass[static_cast<std::size_t>(i)] =
          std::max(0.0, product[static_cast<std::size_t>(from)].real() / static_cast<double>(size));
    }
    out.infinite = -std::expm1(log_finite) + 2 * kCompositionTail;
    return out;
  }
};

PldRelease PldRelease::poisson(Noise noise, double q, double scale, std::uint64_t count) {
  if (q >= 1) return {noise, scale, {1}, {1}, count};
  return {noise, scale, {0, 1}, {1 - q, q}, count};
}

Result<PldCurve> PldCurve::compose(std::span<const PldRelease> releases, const PldOptions& options) {
  if (releases.empty()) return bad("nothing is released");
  for (const PldRelease& release : releases) {
    const double total = [&] {
      double sum = 0;
      for (const double chance : release.chances) sum += chance;
      return sum;
    }();
    const bool sound = release.scale > 0 && std::isfinite(release.scale) && !release.shifts.empty() &&
                       release.shifts.size() == release.chances.size() && std::abs(total - 1) < 1e-9 &&
                       std::ranges::all_of(release.chances, [](double c) { return c >= 0; }) &&
                       std::ranges::all_of(release.shifts, [](double s) { return s >= 0 && std::isfinite(s); }) &&
                       *std::ranges::max_element(release.shifts) > 0 && release.count > 0;
    if (!sound) return bad("a release needs a scale above 0, shifts of 0 or more and chances that sum to 1");
  }
  PldCurve out;
  for (const bool removed : {true, false}) {
    COVEY_ASSIGN(auto side, PldBuilder::side(releases, removed, options));
    out.sides_.push_back(std::move(side));
  }
  return out;
}

double PldCurve::Side::delta(double epsilon) const {
  double sum = 0;
  for (std::size_t i = mass.size(); i-- > 0;) {  // from the smallest terms on
    const double loss = first + interval * static_cast<double>(i);
    if (loss <= epsilon) break;
    sum += mass[i] * -std::expm1(epsilon - loss);
  }
  return sum + infinite;
}

double PldCurve::Side::epsilon(double delta_wanted) const {
  if (infinite > delta_wanted) return std::numeric_limits<double>::infinity();
  if (delta(0) <= delta_wanted) return 0;
  double low = 0;
  double high = first + interval * static_cast<double>(mass.size());
  for (int i = 0; i < 100 && high - low > 1e-12 * std::max(1.0, high); ++i) {
    const double middle = low + (high - low) / 2;
    (delta(middle) > delta_wanted ? low : high) = middle;
  }
  return high;
}

double PldCurve::delta(double epsilon) const {
  double worst = 0;
  for (const Side& side : sides_) worst = std::max(worst, side.delta(epsilon));
  return worst;
}

double PldCurve::epsilon(double delta) const {
  double worst = 0;
  for (const Side& side : sides_) worst = std::max(worst, side.epsilon(delta));
  return worst;
}

}  // namespace covey::aggregation::dp

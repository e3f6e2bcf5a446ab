/// Privacy loss distributions: numeric accounting that is tight to its grid and never too small. Sources: Meiser,
/// Mohammadi 2018; Koskela, Jaelkoe, Honkela 2020 (FFT composition); Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022
/// ("connect the dots": mass between two grid points goes to both so that both distributions keep their mass).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/result.h"

namespace covey::aggregation::dp {

/// One release, repeated `count` times: an unlimited participant's value is 0, the target's is `shifts[j]` with
/// probability `chances[j]`, behind additive noise.
struct PldRelease {
  enum class Noise : std::uint8_t { gaussian, laplace } noise = Noise::gaussian;
  double scale = 1;             ///< sigma, or Laplace's b; > 0
  std::vector<double> shifts;   ///< distinct, >= 0
  std::vector<double> chances;  ///< sum 1
  std::uint64_t count = 1;

  /// Poisson-subsampled with probability q in (0, 1]; sensitivity 1.
  static PldRelease poisson(Noise noise, double q, double scale, std::uint64_t count);
};

struct PldOptions {
  double interval = 1e-4;  ///< of the grid of losses
  double tail = 1e-15;     ///< of one release: cut off above, counted as infinite loss
  std::size_t points_max = std::size_t{1} << 23;
};

/// The composition of releases, in both directions (a participant added, and removed).
class PldCurve {
 public:
  /// @errors invalid_argument: a release is not as it says. resource_exhausted: the grid would pass points_max.
  /// @cost O(N log N) with N points of the composed grid.
  static Result<PldCurve> compose(std::span<const PldRelease> releases, const PldOptions& options = {});

  /// The larger of both directions.
  [[nodiscard]] double delta(double epsilon) const;
  /// The smallest epsilon >= 0; infinity where delta is below the mass of infinite loss.
  [[nodiscard]] double epsilon(double delta) const;

 private:
  struct Side {
    double first = 0;  ///< loss of mass[0]
    double interval = 0;
    std::vector<double> mass;
    double infinite = 0;
    [[nodiscard]] double delta(double epsilon) const;
    [[nodiscard]] double epsilon(double delta) const;
  };
  friend struct PldBuilder;
  std::vector<Side> sides_;
};

}  // namespace covey::aggregation::dp

/// Rules that survive a share of bad updates, on n single updates of P values. Sources: Yin et al. 2018 (coordinate
/// median, trimmed mean); Blanchard et al. 2017 (Krum, Multi-Krum); Pillutla et al. 2022, "Robust aggregation for
/// federated learning" (RFA: smoothed Weiszfeld); Sun et al. 2019 (norm bound); Karimireddy et al. 2021 (centred
/// clipping). Deviations: README.md.
///
/// Every device counts once: a weight is claimed by its device, so a bad one would claim the largest.
/// Rows are taken in the order of their values, whatever the order they come in: the same rows give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/result.h"

namespace covey::aggregation {

/// n rows of P finite floats each. Borrowed.
using Rows = std::span<const std::vector<float>>;

/// All: n >= 1, equal P; @return shape (P); O(P) memory beside the rows unless stated. @errors invalid_argument.

/// The middle value of each coordinate; of an even n the mean of the two middle ones. Survives < n / 2 bad rows.
/// @cost O(n log n) time per coordinate.
Result<std::vector<float>> coordinate_median(Rows rows);

/// The mean of each coordinate without its floor(beta n) smallest and largest values. beta in [0, 0.5).
Result<std::vector<float>> trimmed_mean(Rows rows, double beta);

/// The mean of the `select` rows whose n - f - 2 nearest others lie nearest (sum of squared distances); select = 1 is
/// Krum. @errors invalid_argument: n < 2 f + 3, or select is not from 1 to n - f.
/// @cost O(n^2 P) time, O(n^2) memory.
Result<std::vector<float>> multi_krum(Rows rows, std::size_t f, std::size_t select);

/// Lengths are in units of the median distance from the coordinate median, where the search starts.
struct WeiszfeldOptions {
  double smoothing = 1e-4;  ///< distances below it count as it
  int iterations_max = 100;
  double tolerance = 1e-6;  ///< a shorter step is the last
};
/// The point with the smallest sum of distances to the rows. @cost O(n P) time per iteration.
Result<std::vector<float>> geometric_median(Rows rows, const WeiszfeldOptions& options = {});

/// The mean of the rows, each scaled down to the norm `bound`; 0: the median of their norms.
Result<std::vector<float>> norm_bounded_mean(Rows rows, double bound);

/// v <- v + mean of (x - v) min(1, radius / ||x - v||), `iterations` times from the coordinate median; radius 0: the
/// median of the distances to the start.
Result<std::vector<float>> centred_clipping(Rows rows, double radius, int iterations);

}  // namespace covey::aggregation

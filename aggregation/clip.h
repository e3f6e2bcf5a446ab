/// L2 clipping of a flat vector. Source: McMahan et al. 2018, "Learning differentially private recurrent language
/// models": x min(1, C / ||x||).
#pragma once

#include <span>

#include "core/base/result.h"

namespace covey::aggregation {

/// The L2 norm, summed in double in the order of the elements: the same bits on every machine.
double l2_norm(std::span<const float> x);

/// The factor min(1, C / ||x||) that brings x (P) to the norm `clip_norm` > 0.
/// @errors invalid_argument: an element is not finite.
Result<double> clip_factor(std::span<const float> x, double clip_norm);

}  // namespace covey::aggregation

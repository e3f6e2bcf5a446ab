/// Random rotation before quantization: x -> H D x / sqrt(N), with D random signs and H the Walsh-Hadamard matrix. It
/// spreads a vector's norm evenly, so that rounding to m bits costs what the norm, not the largest element, dictates.
/// Source: Suresh, Yu, Kumar, McMahan 2017, "Distributed mean estimation with limited communication", section 3.
/// Orthonormal: norms stay, and the sum of rotated vectors is the rotated sum, so it goes with secure aggregation too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/result.h"

namespace covey::aggregation {

/// The next power of two: what P values are padded to with zeros.
std::size_t rotated_size(std::size_t values);

/// @param x  shape (P). @return shape (rotated_size(P)). The seed is the round's, the same for all its devices; it
/// hides nothing. @cost O(N log N) time, 4 N bytes.
std::vector<float> rotate(std::span<const float> x, std::uint64_t seed);

/// The inverse, cut to `values`. @errors invalid_argument: `rotated` has not rotated_size(values) elements.
Result<std::vector<float>> rotate_back(std::span<const float> rotated, std::size_t values, std::uint64_t seed);

}  // namespace covey::aggregation

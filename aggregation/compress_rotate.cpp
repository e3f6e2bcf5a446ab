#include "aggregation/compress_rotate.h"

#include <bit>
#include <cmath>
#include <string>

#include "core/base/rng.h"

namespace covey::aggregation {
namespace {

/// In place, unnormalized; its own inverse up to the factor N.
void walsh_hadamard(std::span<float> x) {
  for (std::size_t half = 1; half < x.size(); half *= 2) {
    for (std::size_t start = 0; start < x.size(); start += 2 * half) {
      for (std::size_t i = start; i < start + half; ++i) {
        const float a = x[i];
        const float b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    }
  }
}

void flip_signs(std::span<float> x, std::uint64_t seed) {
  const CounterRng rng(seed);
  std::uint32_t word = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    if (i % 32 == 0) word = rng.bits(i / 32);
    if ((word >> (i % 32) & 1) != 0) x[i] = -x[i];
  }
}

void scale_down(std::span<float> x) {
  const auto factor = static_cast<float>(1 / std::sqrt(static_cast<double>(x.size())));
  for (float& value : x) value *= factor;
}

}  // namespace

std::size_t rotated_size(std::size_t values) {
  return std::bit_ceil(values);
}

std::vector<float> rotate(std::span<const float> x, std::uint64_t seed) {
  std::vector<float> out(rotated_size(x.size()));
  std::copy(x.begin(), x.end(), out.begin());
  flip_signs(out, seed);
  walsh_hadamard(out);
  scale_down(out);
  return out;
}

Result<std::vector<float>> rotate_back(std::span<const float> rotated, std::size_t values, std::uint64_t seed) {
  if (values == 0 || rotated.size() != rotated_size(values)) {
    return Error{ErrorCode::invalid_argument, "rotation: " + std::to_string(rotated.size()) +
                                                  " elements are not what " + std::to_string(values) +
                                                  " values turn into"};
  }
  std::vector<float> out(rotated.begin(), rotated.end());
  walsh_hadamard(out);
  scale_down(out);
  flip_signs(out, seed);
  out.resize(values);
  return out;
}

}  // namespace covey::aggregation

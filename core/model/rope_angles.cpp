#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/model/config.h"

namespace covey::model {
namespace {

/// Where between kept (0) and stretched (1) YaRN puts each frequency: it rises with the element, between those that
/// turn beta_fast and beta_slow times in the original context. Source: Peng et al., 2023; Hugging Face,
/// modeling_rope_utils.
struct YarnRamp {
  double begin, end;

  YarnRamp(const RopeConfig& rope, int turning) {
    const auto element = [&](double turns) {
      return turning * std::log(rope.original_context / (turns * 2 * std::numbers::pi)) / (2 * std::log(rope.theta));
    };
    begin = element(rope.beta_fast);
    end = element(rope.beta_slow);
    if (rope.truncate) {
      begin = std::floor(begin);
      end = std::ceil(end);
    }
    begin = std::max(begin, 0.0);
    end = std::min(end, turning - 1.0);
    if (begin == end) end += 0.001;
  }
  [[nodiscard]] double at(std::size_t i) const {
    return std::clamp((static_cast<double>(i) - begin) / (end - begin), 0.0, 1.0);
  }
};

}  // namespace

std::vector<float> rope_angles(const ModelConfig& config, int positions, bool long_sequence) {
  const RopeConfig& rope = config.rope;
  const int turning = rope.rotary_dim > 0 ? rope.rotary_dim : config.head_dim;
  std::vector<float> inverse(static_cast<std::size_t>(turning / 2));
  for (std::size_t i = 0; i < inverse.size(); ++i) {
    double f = 1.0 / std::pow(rope.theta, 2.0 * static_cast<double>(i) / turning);
    if (rope.scaling == RopeScaling::linear) f /= rope.factor;
    if (rope.scaling == RopeScaling::yarn) {
      const double stretched = YarnRamp(rope, turning).at(i);
      f = stretched * f / rope.factor + (1 - stretched) * f;
    }
    if (rope.scaling == RopeScaling::longrope) f /= (long_sequence ? rope.long_factor : rope.short_factor)[i];
    if (rope.scaling == RopeScaling::llama3) {
      // Long waves are stretched by `factor`, short ones kept, those between blended. Source: Hugging Face,
      // modeling_rope_utils.py.
      const double turns = rope.original_context * f / (2 * std::numbers::pi);
      const double blend =
          std::clamp((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0);
      f = (1 - blend) * f / rope.factor + blend * f;
    }
    inverse[i] = static_cast<float>(f);
  }
  std::vector<float> angles;
  angles.reserve(static_cast<std::size_t>(positions) * inverse.size());
  for (int p = 0; p < positions; ++p) {
    for (const float f : inverse) angles.push_back(static_cast<float>(p) * f);
  }
  return angles;
}

}  // namespace covey::model

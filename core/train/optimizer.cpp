#include "core/train/optimizer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "core/base/assert.h"
#include "core/base/rng.h"

namespace covey::train {
namespace {

static_assert(std::endian::native == std::endian::little, "serialized states are little-endian copies");

/// base^exponent by squaring: the same bits with any C library.
double power(double base, std::int64_t exponent) {
  double out = 1;
  for (; exponent > 0; exponent >>= 1, base *= base) {
    if ((exponent & 1) != 0) out *= base;
  }
  return out;
}

bool in_unit(double x) {
  return x >= 0 && x < 1;
}

std::uint64_t blocks_of(std::int64_t parameters) {
  return static_cast<std::uint64_t>((parameters + kOptimizerBlock - 1) / kOptimizerBlock);
}

/// A number in [0, 1] as a small float: 3 bits of mantissa, `codes` values up to 1, and zero.
template <std::uint32_t codes>
struct SmallFloat {
  static constexpr std::uint32_t kDropped = 20;  ///< bits of the float's mantissa that are not kept
  static constexpr std::uint32_t kOne = 127U << 3;
  static constexpr std::uint32_t kBase = kOne - codes;  ///< code 0 stands for zero instead

  static float decode(std::uint32_t code) {
    return code == 0 ? 0.0F : std::bit_cast<float>((kBase + code) << kDropped);
  }
  /// Rounds to one of the two neighbours, each as likely as x is near to it, so that an average that moves by less
  /// than a step still moves in the mean. `random`: 16 uniform bits.
  static std::uint32_t encode(float x, std::uint32_t random) {
    const std::uint32_t kept = (std::bit_cast<std::uint32_t>(x) + (random << 4)) >> kDropped;
    if (kept > kBase) return std::min(kept - kBase, codes);
    return x * 65536.0F > decode(1) * static_cast<float>(random) ? 1 : 0;
  }
};
using SignedMagnitude = SmallFloat<127>;  // beside a sign: down to 2^-15
using Unsigned = SmallFloat<255>;         // down to 2^-31

struct Header {
  std::array<char, 4> magic{'C', 'V', 'O', '1'};
  std::uint32_t kind = 0;
  std::int64_t parameters = 0;
  std::int64_t steps = 0;
};

}  // namespace

Status OptimizerConfig::check() const {
  if (!in_unit(momentum)) return Error{ErrorCode::invalid_argument, "momentum: must be in [0, 1)"};
  if (!in_unit(beta1)) return Error{ErrorCode::invalid_argument, "beta1: must be in [0, 1)"};
  if (!in_unit(beta2)) return Error{ErrorCode::invalid_argument, "beta2: must be in [0, 1)"};
  if (!(epsilon > 0) || !std::isfinite(epsilon)) return Error{ErrorCode::invalid_argument, "epsilon: must be above 0"};
  if (!(weight_decay >= 0) || !std::isfinite(weight_decay)) {
    return Error{ErrorCode::invalid_argument, "weight_decay: must be 0 or more"};
  }
  return {};
}

const std::vector<std::string>& optimizer_names() {
  static const std::vector<std::string> names{"sgd", "adamw", "adamw8bit"};
  return names;
}

std::optional<OptimizerKind> optimizer_named(std::string_view name) {
  const auto found = std::find(optimizer_names().begin(), optimizer_names().end(), name);
  if (found == optimizer_names().end()) return std::nullopt;
  return static_cast<OptimizerKind>(found - optimizer_names().begin());
}

int OptimizerConfig::floats_per_parameter() const {
  if (kind == OptimizerKind::adamw) return 2;
  if (kind == OptimizerKind::adamw8bit) return 1;
  return momentum > 0 ? 1 : 0;
}

std::uint64_t OptimizerConfig::state_bytes(std::int64_t parameters) const {
  const auto count = static_cast<std::uint64_t>(parameters);
  if (kind == OptimizerKind::adamw8bit) return 2 * count + 2 * sizeof(float) * blocks_of(parameters);
  return count * sizeof(float) * static_cast<std::uint64_t>(floats_per_parameter());
}

Optimizer::Optimizer(const OptimizerConfig& config, std::int64_t parameters)
    : config_(config), parameters_(parameters) {
  COVEY_ASSERT(config.check().ok() && parameters >= 0);
  const int vectors = config.floats_per_parameter();
  if (config.kind == OptimizerKind::adamw8bit) {
    first_.resize(blocks_of(parameters));
    second_.resize(first_.size());
    codes_.resize(2 * static_cast<std::size_t>(parameters));
    return;
  }
  if (vectors > 0) first_.resize(static_cast<std::size_t>(parameters));
  if (vectors > 1) second_.resize(static_cast<std::size_t>(parameters));
}

void Optimizer::step(std::span<float> values, std::span<const float> gradient, double lr) {
  begin_step();
  update(0, values, gradient, lr);
}

void Optimizer::update_sgd(std::int64_t offset, std::span<float> values, std::span<const float> gradient, double lr,
                           double weight_decay) {
  const std::size_t n = values.size();
  float* const p = values.data();
  const float* const g = gradient.data();
  const auto wd = static_cast<float>(weight_decay);
  const auto rate = static_cast<float>(lr);
  if (config_.momentum > 0) {
    float* const buffer = first_.data() + offset;
    // torch starts the buffer with the first gradient itself; a zero buffer gives the same without dampening.
    const auto momentum = static_cast<float>(config_.momentum);
    for (std::size_t i = 0; i < n; ++i) {
      buffer[i] = buffer[i] * momentum + (g[i] + wd * p[i]);
      p[i] -= rate * buffer[i];
    }
  } else {
    for (std::size_t i = 0; i < n; ++i) p[i] -= rate * (g[i] + wd * p[i]);
  }
}

// A block is opened whole, even where only a part of it is updated: it has one scale.
void Optimizer::update_adamw8bit(std::int64_t offset, std::span<float> values, std::span<const float> gradient,
                                 double lr, double weight_decay) {
  constexpr std::uint64_t kRounding = 0x726F756E64;  // seed of the rounding: each step is a stream of its own
  const CounterRng rng(kRounding, static_cast<std::uint64_t>(steps_));
  const double correction1 = 1 - power(config_.beta1, steps_);
  const double root2 = std::sqrt(1 - power(config_.beta2, steps_));
  const auto keep = static_cast<float>(1 - lr * weight_decay);
  const auto beta1 = static_cast<float>(config_.beta1);
  const auto beta2 = static_cast<float>(config_.beta2);
  const auto rate = static_cast<float>(lr / correction1);
  const auto epsilon = static_cast<float>(config_.epsilon);
  const std::int64_t end = offset + static_cast<std::int64_t>(values.size());
  for (std::int64_t block = offset / kOptimizerBlock; block * kOptimizerBlock < end; ++block) {
    const std::int64_t first = block * kOptimizerBlock;
    const auto count = static_cast<std::size_t>(std::min(kOptimizerBlock, parameters_ - first));
    std::uint8_t* const code1 = codes_.data() + first;
    std::uint8_t* const code2 = codes_.data() + parameters_ + first;
    float& scale1 = first_[static_cast<std::size_t>(block)];
    float& scale2 = second_[static_cast<std::size_t>(block)];
    std::array<float, kOptimizerBlock> m{};
    std::array<float, kOptimizerBlock> v{};
    float largest1 = 0;
    float largest2 = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const float size = scale1 * SignedMagnitude::decode(code1[i] & 127U);
      m[i] = (code1[i] & 128U) != 0 ? -size : size;
      v[i] = scale2 * Unsigned::decode(code2[i]);
      const std::int64_t at = first + static_cast<std::int64_t>(i);
      if (at >= offset && at < end) {
        float& p = values[static_cast<std::size_t>(at - offset)];
        const float g = gradient[static_cast<std::size_t>(at - offset)];
        m[i] = m[i] * beta1 + (1 - beta1) * g;
        v[i] = v[i] * beta2 + (1 - beta2) * g * g;
        p = p * keep - rate * (m[i] / (std::sqrt(v[i]) / static_cast<float>(root2) + epsilon));
      }
      largest1 = std::max(largest1, std::abs(m[i]));
      largest2 = std::max(largest2, v[i]);
    }
    scale1 = largest1;
    scale2 = largest2;
    std::array<std::uint32_t, 4> words{};
    for (std::size_t i = 0; i < count; ++i) {
      if (i % 4 == 0) words = rng.block((static_cast<std::uint64_t>(first) + i) / 4);
      const std::uint32_t random = words[i % 4];
      const std::uint32_t size = largest1 > 0 ? SignedMagnitude::encode(std::abs(m[i]) / largest1, random >> 16) : 0;
      code1[i] = static_cast<std::uint8_t>(size | (m[i] < 0 ? 128U : 0U));
      const std::uint32_t square = largest2 > 0 ? Unsigned::encode(v[i] / largest2, random & 0xFFFF) : 0;
      // A second moment that vanished would let the first one run off.
      code2[i] = static_cast<std::uint8_t>(v[i] > 0 ? std::max(square, 1U) : 0U);
    }
  }
}

// The scalars are rounded to float where torch rounds them: when they meet a float32 tensor.
void Optimizer::update(std::int64_t offset, std::span<float> values, std::span<const float> gradient, double lr,
                       bool decay) {
  COVEY_ASSERT(steps_ > 0 && values.size() == gradient.size());
  COVEY_ASSERT(offset >= 0 && offset + static_cast<std::int64_t>(values.size()) <= parameters_);
  const std::size_t n = values.size();
  const double weight_decay = decay ? config_.weight_decay : 0;
  if (config_.kind == OptimizerKind::sgd) return update_sgd(offset, values, gradient, lr, weight_decay);
  if (config_.kind == OptimizerKind::adamw8bit) return update_adamw8bit(offset, values, gradient, lr, weight_decay);
  float* const p = values.data();
  const float* const g = gradient.data();
  float* const m = first_.data() + offset;
  float* const v = second_.data() + offset;
  const double correction1 = 1 - power(config_.beta1, steps_);
  const double correction2 = 1 - power(config_.beta2, steps_);
  const auto keep = static_cast<float>(1 - lr * weight_decay);
  const auto beta1 = static_cast<float>(config_.beta1);
  const auto beta2 = static_cast<float>(config_.beta2);
  const auto new1 = static_cast<float>(1 - config_.beta1);
  const auto new2 = static_cast<float>(1 - config_.beta2);
  const auto root2 = static_cast<float>(std::sqrt(correction2));
  const auto rate = static_cast<float>(lr / correction1);
  const auto epsilon = static_cast<float>(config_.epsilon);
  for (std::size_t i = 0; i < n; ++i) {
    m[i] = m[i] * beta1 + new1 * g[i];
    v[i] = v[i] * beta2 + new2 * g[i] * g[i];
    p[i] = p[i] * keep - rate * (m[i] / (std::sqrt(v[i]) / root2 + epsilon));
  }
}

Bytes Optimizer::serialize() const {
  const Header header{.kind = static_cast<std::uint32_t>(config_.kind), .parameters = parameters_, .steps = steps_};
  Bytes out(sizeof header + (first_.size() + second_.size()) * sizeof(float) + codes_.size());
  std::memcpy(out.data(), &header, sizeof header);
  std::uint8_t* at = out.data() + sizeof header;
  if (!first_.empty()) std::memcpy(at, first_.data(), first_.size() * sizeof(float));
  at += first_.size() * sizeof(float);
  if (!second_.empty()) std::memcpy(at, second_.data(), second_.size() * sizeof(float));
  at += second_.size() * sizeof(float);
  if (!codes_.empty()) std::memcpy(at, codes_.data(), codes_.size());
  return out;
}

Status Optimizer::restore(ByteSpan bytes) {
  Header header;
  const std::size_t expected = sizeof header + (first_.size() + second_.size()) * sizeof(float) + codes_.size();
  if (bytes.size() != expected) return Error{ErrorCode::corrupt_data, "optimizer state: wrong size"};
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.magic != Header{}.magic || header.kind != static_cast<std::uint32_t>(config_.kind) ||
      header.parameters != parameters_ || header.steps < 0) {
    return Error{ErrorCode::corrupt_data, "optimizer state: made by another optimizer"};
  }
  steps_ = header.steps;
  const std::uint8_t* at = bytes.data() + sizeof header;
  if (!first_.empty()) std::memcpy(first_.data(), at, first_.size() * sizeof(float));
  at += first_.size() * sizeof(float);
  if (!second_.empty()) std::memcpy(second_.data(), at, second_.size() * sizeof(float));
  at += second_.size() * sizeof(float);
  if (!codes_.empty()) std::memcpy(codes_.data(), at, codes_.size());
  return {};
}

double l2_norm(std::span<const float> values) {
  std::array<double, 8> lanes{};  // fixed lanes: vectorizes, and the order of the sum never changes
  std::size_t i = 0;
  for (; i + lanes.size() <= values.size(); i += lanes.size()) {
    for (std::size_t k = 0; k < lanes.size(); ++k) {
      lanes[k] += static_cast<double>(values[i + k]) * static_cast<double>(values[i + k]);
    }
  }
  double sum = 0;
  for (; i < values.size(); ++i) sum += static_cast<double>(values[i]) * static_cast<double>(values[i]);
  for (const double lane : lanes) sum += lane;
  return std::sqrt(sum);
}

double clip_by_norm(std::span<float> gradient, double max_norm) {
  const double norm = l2_norm(gradient);
  const double factor = max_norm / (norm + 1e-6);
  if (factor < 1) {
    for (float& g : gradient) g *= static_cast<float>(factor);
  }
  return norm;
}

void add_proximal(std::span<float> gradient, std::span<const float> values, std::span<const float> reference,
                  double mu) {
  COVEY_ASSERT(gradient.size() == values.size() && values.size() == reference.size());
  const auto weight = static_cast<float>(mu);
  for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] += weight * (values[i] - reference[i]);
}

}  // namespace covey::train

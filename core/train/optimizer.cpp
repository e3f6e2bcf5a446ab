#include "core/train/optimizer.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <string>

#include "core/base/assert.h"

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

int OptimizerConfig::floats_per_parameter() const {
  if (kind == OptimizerKind::adamw) return 2;
  return momentum > 0 ? 1 : 0;
}

Optimizer::Optimizer(const OptimizerConfig& config, std::int64_t parameters)
    : config_(config), parameters_(parameters) {
  COVEY_ASSERT(config.check().ok() && parameters >= 0);
  const int vectors = config.floats_per_parameter();
  if (vectors > 0) first_.resize(static_cast<std::size_t>(parameters));
  if (vectors > 1) second_.resize(static_cast<std::size_t>(parameters));
}

void Optimizer::step(std::span<float> values, std::span<const float> gradient, double lr) {
  begin_step();
  update(0, values, gradient, lr);
}

// The scalars are rounded to float where torch rounds them: when they meet a float32 tensor.
void Optimizer::update(std::int64_t offset, std::span<float> values, std::span<const float> gradient, double lr,
                       bool decay) {
  COVEY_ASSERT(steps_ > 0 && values.size() == gradient.size());
  COVEY_ASSERT(offset >= 0 && offset + static_cast<std::int64_t>(values.size()) <= parameters_);
  const std::size_t n = values.size();
  const double weight_decay = decay ? config_.weight_decay : 0;
  float* const p = values.data();
  const float* const g = gradient.data();
  if (config_.kind == OptimizerKind::sgd) {
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
    return;
  }
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
  Bytes out(sizeof header + (first_.size() + second_.size()) * sizeof(float));
  std::memcpy(out.data(), &header, sizeof header);
  std::uint8_t* at = out.data() + sizeof header;
  if (!first_.empty()) std::memcpy(at, first_.data(), first_.size() * sizeof(float));
  at += first_.size() * sizeof(float);
  if (!second_.empty()) std::memcpy(at, second_.data(), second_.size() * sizeof(float));
  return out;
}

Status Optimizer::restore(ByteSpan bytes) {
  Header header;
  const std::size_t expected = sizeof header + (first_.size() + second_.size()) * sizeof(float);
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

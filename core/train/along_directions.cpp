#include "core/train/along_directions.h"

#include <algorithm>

#include "core/base/rng.h"

namespace covey::train {
namespace {

constexpr std::int64_t kVarianceValues = 4096;  // a late layer's worth of values to measure the variance on

}  // namespace

Result<Estimate> AlongDirections::estimate(const model::TokenBatch& batch, std::uint64_t seed) {
  const auto parts = parts_of(batch, rows_);
  const int drawn = config_.directions_used();
  const int most = config_.variance_max > 0 ? std::max(drawn, config_.directions_max) : drawn;
  Estimate out;
  double loss_sum = 0;
  for (int k = 0; k < most; ++k) {
    const std::uint64_t direction = seed_of_ ? seed_of_(seed, k) : derive_seed(seed, static_cast<std::uint64_t>(k));
    COVEY_ASSIGN(const model::JvpResult along, derivative(parts, direction));
    loss_sum += along.loss.loss_sum;
    out.loss = along.loss;
    out.terms.push_back({.seed = direction, .weight = static_cast<float>(along.derivative)});
    if ((k + 1) % drawn == 0 && settled(out.terms)) break;
  }
  const auto count = static_cast<double>(out.terms.size());
  out.loss.loss_sum = loss_sum / count;
  for (SeededTerm& term : out.terms) term.weight = static_cast<float>(static_cast<double>(term.weight) / count);
  return out;
}

bool AlongDirections::settled(std::span<const SeededTerm> terms) const {
  if (config_.variance_max <= 0) return true;
  // An adapter's last values that train.
  const Piece& last = parameters_.pieces().back();
  const bool adapter = parameters_.is_adapter();
  const std::int64_t end = adapter ? last.offset + static_cast<std::int64_t>(last.values.size()) : parameters_.size();
  const std::int64_t size = std::min(kVarianceValues, end - (adapter ? last.offset : 0));
  return variance_between_halves(terms, end - size, size) <= config_.variance_max;
}

Result<model::JvpResult> CentralDifference::derivative(std::span<const model::TokenBatch> parts, std::uint64_t seed) {
  const auto epsilon = static_cast<float>(config_.epsilon_used(parameters_.is_adapter()));
  const std::span<const Piece> pieces = parameters_.pieces();
  add_direction(pool_, pieces, seed, epsilon);
  const auto above = loss_of(parts);
  if (!above.ok()) {
    add_direction(pool_, pieces, seed, -epsilon);
    return above.error();
  }
  add_direction(pool_, pieces, seed, -2 * epsilon);
  const auto below = loss_of(parts);
  add_direction(pool_, pieces, seed, epsilon);
  if (!below.ok()) return below.error();
  model::JvpResult out;
  out.loss = *below;
  out.loss.loss_sum = (above->loss_sum + below->loss_sum) / 2;
  out.derivative = (above->mean() - below->mean()) / (2 * static_cast<double>(epsilon));
  return out;
}

Result<model::LossResult> CentralDifference::loss_of(std::span<const model::TokenBatch> parts) {
  model::LossResult out;
  for (const model::TokenBatch& part : parts) {
    COVEY_ASSIGN(const auto loss, parameters_.loss(*engine_, part));
    out.loss_sum += loss.loss_sum;
    out.targets += loss.targets;
    out.correct += loss.correct;
  }
  return out;
}

}  // namespace covey::train

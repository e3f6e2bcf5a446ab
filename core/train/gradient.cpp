#include "core/train/gradient.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/rng.h"

namespace covey::train {
namespace {

constexpr std::int64_t kVarianceValues = 4096;  // a late layer's worth of values to measure the variance on

Error bad(const char* what) {
  return Error{ErrorCode::invalid_argument, what};
}

class Backprop final : public GradientSource {
 public:
  Backprop(Parameters& parameters, const GradientConfig& config, std::unique_ptr<model::Engine> engine, int rows)
      : GradientSource(std::move(engine)),
        parameters_(parameters),
        rows_(rows),
        rounding_(config.stochastic_rounding),
        gradient_(static_cast<std::size_t>(parameters.size())) {}

  Result<Estimate> estimate(const model::TokenBatch& batch, std::uint64_t seed) override {
    if (rounding_) engine_->seed_rounding(derive_seed(*rounding_, seed));
    std::fill(gradient_.begin(), gradient_.end(), 0.0F);
    const auto parts = parts_of(batch, rows_);
    const auto all = static_cast<double>(count_targets(batch));
    Estimate out;
    for (const model::TokenBatch& part : parts) {
      // The engine's gradient is of its own part's mean; together they must be the mean over the whole batch.
      const auto share = parts.size() == 1 ? 1.0F : static_cast<float>(static_cast<double>(count_targets(part)) / all);
      COVEY_ASSIGN(const auto loss, parameters_.add_gradient(*engine_, part, gradient_, share));
      out.loss.loss_sum += loss.loss_sum;
      out.loss.targets += loss.targets;
      out.loss.correct += loss.correct;
    }
    out.dense = gradient_;
    return out;
  }

 private:
  Parameters& parameters_;
  int rows_;
  std::optional<std::uint64_t> rounding_;
  std::vector<float> gradient_;
};

/// A derivative along each of a few seeded directions.
class AlongDirections : public GradientSource {
 public:
  AlongDirections(Parameters& parameters, const GradientConfig& config, std::unique_ptr<model::Engine> engine, int rows,
                  ThreadPool& pool, SeedOf seed_of)
      : GradientSource(std::move(engine)),
        parameters_(parameters),
        config_(config),
        rows_(rows),
        pool_(pool),
        seed_of_(std::move(seed_of)) {}

  Result<Estimate> estimate(const model::TokenBatch& batch, std::uint64_t seed) override {
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

 protected:
  /// Loss of all parts, and the derivative of their common mean along direction `seed`.
  virtual Result<model::JvpResult> derivative(std::span<const model::TokenBatch> parts, std::uint64_t seed) = 0;

  Parameters& parameters_;
  GradientConfig config_;
  int rows_;
  ThreadPool& pool_;

 private:
  [[nodiscard]] bool settled(std::span<const SeededTerm> terms) const {
    if (config_.variance_max <= 0) return true;
    // An adapter's last values that train.
    const Piece& last = parameters_.pieces().back();
    const bool adapter = parameters_.is_adapter();
    const std::int64_t end = adapter ? last.offset + static_cast<std::int64_t>(last.values.size()) : parameters_.size();
    const std::int64_t size = std::min(kVarianceValues, end - (adapter ? last.offset : 0));
    return variance_between_halves(terms, end - size, size) <= config_.variance_max;
  }
  SeedOf seed_of_;
};

class ExactForward final : public AlongDirections {
 public:
  using AlongDirections::AlongDirections;

 protected:
  Result<model::JvpResult> derivative(std::span<const model::TokenBatch> parts, std::uint64_t seed) override {
    direction_.resize(static_cast<std::size_t>(parameters_.size()));
    std::fill(direction_.begin(), direction_.end(), 0.0F);
    for (const Piece& piece : parameters_.pieces()) {  // what is frozen does not move
      const Piece part{
          .offset = piece.offset,
          .values = std::span(direction_).subspan(static_cast<std::size_t>(piece.offset), piece.values.size())};
      add_direction(pool_, {&part, 1}, seed, 1);
    }
    model::JvpResult out;
    double sum = 0;
    for (const model::TokenBatch& part : parts) {
      COVEY_ASSIGN(const auto along, parameters_.jvp(*engine_, part, direction_));
      out.loss.loss_sum += along.loss.loss_sum;
      out.loss.targets += along.loss.targets;
      out.loss.correct += along.loss.correct;
      sum += along.derivative * static_cast<double>(along.loss.targets);
    }
    if (out.loss.targets > 0) out.derivative = sum / static_cast<double>(out.loss.targets);
    return out;
  }

 private:
  std::vector<float> direction_;  ///< (P) of an adapter
};

class CentralDifference final : public AlongDirections {
 public:
  using AlongDirections::AlongDirections;

 protected:
  Result<model::JvpResult> derivative(std::span<const model::TokenBatch> parts, std::uint64_t seed) override {
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

 private:
  Result<model::LossResult> loss_of(std::span<const model::TokenBatch> parts) {
    model::LossResult out;
    for (const model::TokenBatch& part : parts) {
      COVEY_ASSIGN(const auto loss, parameters_.loss(*engine_, part));
      out.loss_sum += loss.loss_sum;
      out.targets += loss.targets;
      out.correct += loss.correct;
    }
    return out;
  }
};

}  // namespace

Status GradientConfig::check() const {
  if (directions < 0 || directions > 4096) return bad("directions: must be in [1, 4096], or 0 for the method's own");
  if (!(epsilon >= 0) || epsilon > 1) return bad("epsilon: must be in (0, 1], or 0 for the method's own");
  if (!(variance_max >= 0) || !std::isfinite(variance_max)) return bad("variance_max: must be 0 (off) or more");
  if (directions_max < 1 || directions_max > 4096) return bad("directions_max: must be in [1, 4096]");
  if (method == Method::backprop && (directions > 0 || epsilon > 0 || variance_max > 0)) {
    return bad("directions, epsilon, variance_max: backprop has none; leave them out, or choose another method");
  }
  if (method == Method::zeroth_order && variance_max > 0) return bad("variance_max: is forward-gradient's alone");
  if (variance_max > 0 && directions_used() < 2) return bad("directions: variance_max needs at least 2");
  if (method != Method::backprop && checkpoint_activations) {
    return bad("checkpoint_activations: only backprop keeps activations; leave it out");
  }
  if (method != Method::backprop && stochastic_rounding) {
    return bad("stochastic_rounding: only backprop rounds gradients; leave it out");
  }
  return {};
}

int GradientConfig::directions_used() const {
  if (method == Method::backprop) return 0;
  if (directions > 0) return directions;
  return method == Method::forward_gradient ? 8 : 1;
}

int GradientConfig::forward_passes() const {
  return method == Method::backprop ? 2 : 2 * directions_used();
}

double GradientConfig::epsilon_used(bool adapter) const {
  if (epsilon > 0) return epsilon;
  return adapter ? 1e-2 : 1e-3;
}

model::EngineOptions GradientConfig::engine(int rows, int seq, int prompt_tokens, int target_seq) const {
  model::EngineOptions out;
  const bool exact = method == Method::forward_gradient && derivative == Derivative::exact;
  out.batch_max = exact ? (rows + 1) / 2 : rows;
  out.seq_max = seq;
  out.training = method == Method::backprop;
  out.checkpoint = out.training && checkpoint_activations;
  out.prompt_tokens_max = prompt_tokens;
  out.target_seq_max = target_seq;
  out.tangent = exact;
  out.stochastic_seed = stochastic_rounding;
  return out;
}

Result<std::unique_ptr<GradientSource>> GradientSource::create(Parameters& parameters, const GradientConfig& config,
                                                               Sizes sizes, ThreadPool& pool, SeedOf seed_of) {
  COVEY_TRY(config.check());
  const bool exact = config.method == Method::forward_gradient && config.derivative == Derivative::exact;
  if (exact && !parameters.is_adapter()) {
    return bad("derivative: exact ones are computed along adapters only; choose central for a whole model");
  }
  model::EngineOptions options =
      config.engine(sizes.rows, sizes.seq, parameters.spec().virtual_tokens(), sizes.target_seq);
  options.trained = parameters.trained();
  COVEY_ASSIGN(auto engine, model::Engine::create(parameters.model(), options, pool));
  std::unique_ptr<GradientSource> out;
  if (config.method == Method::backprop) {
    out = std::make_unique<Backprop>(parameters, config, std::move(engine), sizes.rows);
  } else if (exact) {
    out = std::make_unique<ExactForward>(parameters, config, std::move(engine), options.batch_max, pool,
                                         std::move(seed_of));
  } else {
    out = std::make_unique<CentralDifference>(parameters, config, std::move(engine), sizes.rows, pool,
                                              std::move(seed_of));
  }
  return out;
}

std::vector<model::TokenBatch> parts_of(const model::TokenBatch& batch, int rows) {
  std::vector<model::TokenBatch> out;
  for (int at = 0; at < batch.B; at += rows) {
    model::TokenBatch part = batch;
    part.B = std::min(rows, batch.B - at);
    const auto first = static_cast<std::size_t>(at);
    const auto count = static_cast<std::size_t>(part.B);
    const auto width = static_cast<std::size_t>(batch.T);
    part.ids = batch.ids.subspan(first * width, count * width);
    const std::size_t per_row = batch.targets.size() / static_cast<std::size_t>(batch.B);  // one where it is a class
    part.targets = batch.targets.subspan(first * per_row, count * per_row);
    if (!batch.types.empty()) part.types = batch.types.subspan(first * width, count * width);
    if (!batch.second_ids.empty()) part.second_ids = batch.second_ids.subspan(first * per_row, count * per_row);
    if (!batch.lengths.empty()) part.lengths = batch.lengths.subspan(first, count);
    if (!batch.first_targets.empty()) part.first_targets = batch.first_targets.subspan(first, count);
    out.push_back(part);
  }
  return out;
}

std::int64_t count_targets(const model::TokenBatch& batch) {
  const auto is_target = [](std::int32_t id) { return id != model::kNoTarget; };
  return std::count_if(batch.targets.begin(), batch.targets.end(), is_target) +
         std::count_if(batch.first_targets.begin(), batch.first_targets.end(), is_target);
}

double variance_between_halves(std::span<const SeededTerm> terms, std::int64_t first, std::int64_t size) {
  const std::size_t half = terms.size() / 2;
  if (half == 0 || size <= 0) return 0;
  std::vector<float> a(static_cast<std::size_t>(size));
  std::vector<float> b(a.size());
  combine(terms.first(half), first, a);
  combine(terms.subspan(half, half), first, b);
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double difference = (static_cast<double>(a[i]) - static_cast<double>(b[i])) / static_cast<double>(half);
    sum += difference * difference / 2;  // the variance of two numbers
  }
  return sum / static_cast<double>(size);
}

}  // namespace covey::train

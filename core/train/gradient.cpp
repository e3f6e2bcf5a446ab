#include "core/train/gradient.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/train/gradient_method.h"

namespace covey::train {

#define COVEY_ENTRY(name)                \
  extern const PlanMethod method_##name; \
  std::unique_ptr<GradientSource> make_##name(SourceInputs inputs);
#include "methods.inc"
#undef COVEY_ENTRY

namespace {

struct Maker {
  const PlanMethod* method;
  std::unique_ptr<GradientSource> (*make)(SourceInputs inputs);
};
constexpr Maker kMakers[] = {
#define COVEY_ENTRY(name) {&method_##name, &make_##name},
#include "methods.inc"
#undef COVEY_ENTRY
};

Error bad(const char* what) {
  return Error{ErrorCode::invalid_argument, what};
}

}  // namespace

Status GradientConfig::check() const {
  if (!name.empty()) {
    const auto named = plan_method_named(name);
    const bool alike =
        named && named->method == method && (method != Method::forward_gradient || named->derivative == derivative);
    if (!alike) return bad("name: is no method, or one of another kind than `method` and `derivative` say");
  }
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
  SourceInputs inputs{parameters, config, std::move(engine), options.batch_max, pool, std::move(seed_of)};
  const PlanMethod chosen = plan_method_of(config.method, config.derivative, config.name);
  for (const Maker& maker : kMakers) {
    if (maker.method->name == chosen.name) return maker.make(std::move(inputs));
  }
  return bad("name: is no method's");  // check() knows it
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

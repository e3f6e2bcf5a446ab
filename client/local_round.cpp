#include "client/local_round.h"

#include <algorithm>

#include "adapters/adapter.h"
#include "adapters/seeded.h"
#include "aggregation/update.h"
#include "core/base/rng.h"
#include "core/crypto/hash.h"

namespace covey::client {
namespace {

/// Steps of the plan for so many rows, within its bound.
std::int64_t steps_of(const wire::RoundPlan& plan, std::size_t rows) {
  if (plan.local_steps > 0) return std::min(plan.local_steps, plan.local_steps_max);
  const std::uint64_t per_epoch = (rows + plan.batch - 1) / plan.batch;
  return static_cast<std::int64_t>(std::min<std::uint64_t>(per_epoch * plan.local_epochs, plan.local_steps_max));
}

train::SeedPool candidates_of(const wire::RoundPlan& plan) {
  return {.seed = plan.seeded.seed, .count = static_cast<int>(plan.seeded.candidates)};
}

train::TrainConfig config_of(const wire::RoundPlan& plan, std::size_t rows, std::uint64_t device) {
  train::TrainConfig config;
  const auto named = train::plan_method_named(plan.method).value_or(train::PlanMethod());  // check_plan() knows it
  config.gradient.method = named.method;
  config.gradient.derivative = named.derivative;
  config.gradient.name = named.name;
  config.optimizer.kind = plan.optimizer == "sgd" ? train::OptimizerKind::sgd : train::OptimizerKind::adamw;
  config.optimizer.weight_decay = plan.weight_decay;
  config.lr = plan.learning_rate;
  config.batch = static_cast<int>(plan.batch);
  config.seq = static_cast<int>(plan.seq);
  config.steps = steps_of(plan, rows);
  config.clip_norm = plan.gradient_clip;
  config.prox_mu = plan.prox_mu;
  config.seed = derive_seed(plan.seed, plan.round.value);
  // Noise that devices shared would not cancel in their mean.
  if (plan.stochastic_rounding) config.gradient.stochastic_rounding = derive_seed(config.seed, device);
  if (plan.seeded.candidates > 0) config.candidates = candidates_of(plan);
  // n devices along the same few directions would learn those alone, and their mean would be no better than one of
  // them.
  if (named.method != train::Method::backprop) config.seed = derive_seed(config.seed, device);
  return config;
}

}  // namespace

Result<std::unique_ptr<LocalRound>> LocalRound::prepare(LocalRoundInputs inputs, ThreadPool& pool, const Clock& clock) {
  const auto& plan = inputs.plan;
  std::unique_ptr<LocalRound> round(new LocalRound());
  round->bench_ = std::move(inputs.bench);
  const auto& model = *round->bench_.model;
  COVEY_ASSIGN(round->layout_, adapters::AdapterLayout::parse(plan.adapter_layout));
  COVEY_ASSIGN(round->spec_, round->layout_.bind(model));
  const std::size_t expected = aggregation::version_values(plan, static_cast<std::size_t>(round->layout_.size));
  if (inputs.values.size() != expected)
    return Error{ErrorCode::corrupt_data, "adapter: " + std::to_string(inputs.values.size()) +
                                              " values where the plan has " + std::to_string(expected)};
  if (static_cast<std::int64_t>(plan.seq) + round->spec_.virtual_tokens() > model.config().context_max)
    return Error{ErrorCode::invalid_argument, "plan: seq " + std::to_string(plan.seq) +
                                                  " and the adapter's virtual tokens are above the model's context"};
  if (inputs.rows.empty())
    return Error{ErrorCode::not_found, "no example gives anything to predict; `covey-device import FILE`"};
  const auto config = config_of(plan, inputs.rows.size(), inputs.device);
  const auto memory = training_memory(plan, model, round->spec_);
  if (inputs.memory_bytes_max > 0 && memory.total() > inputs.memory_bytes_max)
    return Error{ErrorCode::resource_exhausted, "training needs " + std::to_string(memory.total() >> 20) +
                                                    " MiB, the policy grants " +
                                                    std::to_string(inputs.memory_bytes_max >> 20) + " MiB"};
  round->weight_ = static_cast<std::uint32_t>(std::min<std::size_t>(inputs.rows.size(), plan.weight_max));
  if (plan.seeded.candidates > 0) {
    COVEY_ASSIGN(inputs.values,
                 adapters::seeded_values(round->layout_, model, candidates_of(plan), inputs.values, pool));
  }
  COVEY_ASSIGN(round->trainer_, train::LocalTrainer::create(model, round->spec_, std::move(inputs.values), inputs.rows,
                                                            config, pool, clock));
  return round;
}

TrainingOutcome LocalRound::outcome() const {
  TrainingOutcome out;
  const auto& scalars = trainer_->seeded_update();
  out.delta = scalars.sums().empty() ? adapters::contribution(layout_, trainer_->delta()) : scalars.coefficients();
  out.weight = weight_;
  const auto report = trainer_->report();
  out.report.steps = static_cast<std::uint32_t>(report.steps);
  out.report.tokens = static_cast<std::uint64_t>(report.tokens);
  out.report.train_ms = static_cast<std::uint32_t>(std::min(report.seconds * 1000, 4e9));
  out.report.tokens_per_s = report.tokens_per_s();
  out.report.loss_first = report.first_loss;
  out.report.loss_last = report.last_loss;
  return out;
}

model::MemoryPlan training_memory(const wire::RoundPlan& plan, const model::Model& model,
                                  const model::AdapterSpec& spec) {
  const auto config = config_of(plan, 1, 0);  // neither rows nor device reach the memory of a step
  return train::memory_plan(model, spec, config, config.seq);
}

Result<TrainingOutcome> train_now(LocalRoundInputs inputs, ThreadPool& pool, const Clock& clock) {
  COVEY_ASSIGN(const auto round, LocalRound::prepare(std::move(inputs), pool, clock));
  COVEY_TRY(round->trainer().run());
  return round->outcome();
}

wire::RefusalReason refusal_for(const Error& error) {
  switch (error.code) {
    case ErrorCode::resource_exhausted:
      return wire::RefusalReason::memory;
    case ErrorCode::not_found:
      return wire::RefusalReason::no_data;
    case ErrorCode::invalid_argument:
    case ErrorCode::corrupt_data:
    case ErrorCode::unsupported:
      return wire::RefusalReason::bad_plan;
    default:
      return wire::RefusalReason::failed;
  }
}

std::string model_key(const wire::RoundPlan& plan) {
  crypto::Hasher hasher("covey model");
  for (const auto& file : plan.model) {
    hasher.update_u64(file.name.size()).update(file.name).update_u64(file.bytes).update(ByteSpan(file.blob));
  }
  return hasher.finish().hex();
}

Result<std::string> model_path(const wire::RoundPlan& plan, const std::string& directory) {
  const auto named = [&](auto test) {
    return std::ranges::find_if(plan.model, [&](const auto& f) { return test(f.name); });
  };
  if (named([](const std::string& name) { return name == "config.json"; }) != plan.model.end()) return directory;
  const auto bin = named([](const std::string& name) { return name.ends_with(".bin") && !name.starts_with("tok"); });
  if (bin != plan.model.end()) return directory + "/" + bin->name;
  return Error{ErrorCode::invalid_argument, "plan: its model has neither config.json nor a llama2.c .bin"};
}

}  // namespace covey::client

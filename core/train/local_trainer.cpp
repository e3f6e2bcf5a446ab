#include "core/train/local_trainer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <optional>
#include <utility>

#include "core/base/rng.h"
#include "core/train/direction.h"
#include "core/train/fingerprint.h"
#include "core/train/flat_view.h"

namespace covey::train {
namespace {

struct CheckpointHeader {
  std::array<char, 8> magic{'C', 'O', 'V', 'E', 'Y', 'T', 'C', '2'};
  std::uint64_t inputs = 0;  ///< fingerprint of what the trainer was made from
  std::uint64_t values = 0;  ///< how many floats follow
  std::uint64_t sums = 0;    ///< how many doubles of a seeded update follow them
  TrainReport report;
};

}  // namespace

struct LocalTrainer::Impl {
  Impl(Parameters trained, const TrainConfig& how, ThreadPool& threads, const Clock& time)
      : parameters(std::move(trained)), config(how), pool(threads), clock(time) {}

  Parameters parameters;
  TrainConfig config;
  ThreadPool& pool;
  const Clock& clock;

  std::unique_ptr<GradientSource> source;
  std::vector<TokenRow> usable;  ///< rows that have a target, cut at seq
  std::optional<data::Batcher> batcher;
  std::int64_t steps_planned = 0;
  std::uint64_t inputs = 0;

  std::vector<float> initial;  ///< of an adapter
  std::optional<Optimizer> optimizer;
  SeededUpdate sums;  ///< where config.candidates
  TrainReport report;

  Status prepare(std::span<const TokenRow> rows) {
    COVEY_TRY(config.check());
    if (config.candidates.count > 0 && parameters.trained_size() < parameters.size()) {
      return Error{ErrorCode::invalid_argument, "candidates: their sum moves all values; nothing may be frozen"};
    }
    usable = usable_rows(rows, config.seq, config.target_seq);
    if (usable.empty()) return Error{ErrorCode::invalid_argument, "training data: no row has a token to predict"};
    if (const Status fits = check_kind(usable, parameters.model().config()); !fits.ok()) {
      return fits.error().in("training data");
    }
    const RowSizes most = longest(usable);
    COVEY_ASSIGN(batcher, data::Batcher::create(
                              usable, {.batch = config.batch, .seed = config.seed, .masking = config.masking}));
    const auto steps_per_epoch = static_cast<double>(epoch_steps());
    steps_planned =
        config.steps > 0 ? config.steps : std::max<std::int64_t>(1, std::llround(config.epochs * steps_per_epoch));
    const int rows_at_once = config.micro_batch > 0 ? config.micro_batch : config.batch;
    const GradientSource::Sizes sizes{
        .rows = static_cast<int>(std::min(usable.size(), static_cast<std::size_t>(rows_at_once))),
        .seq = most.seq,
        .target_seq = most.target_seq};
    GradientSource::SeedOf seed_of;
    if (config.candidates.count > 0) {
      sums = SeededUpdate(config.candidates);
      seed_of = [this](std::uint64_t seed, int k) { return config.candidates.candidate(candidate(seed, k)); };
    }
    COVEY_ASSIGN(source, GradientSource::create(parameters, config.gradient, sizes, pool, std::move(seed_of)));
    optimizer.emplace(config.optimizer, parameters.size());
    inputs = fingerprint();
    return {};
  }

  /// Which candidate direction k of a step is.
  [[nodiscard]] int candidate(std::uint64_t step_seed, int k) const {
    Rng rng(step_seed, static_cast<std::uint64_t>(k));
    return static_cast<int>(rng.below(static_cast<std::uint64_t>(config.candidates.count)));
  }
  [[nodiscard]] std::uint64_t step_seed() const {
    constexpr std::uint64_t kDirections = 0x646972;  // apart from the seed's other uses
    return derive_seed(derive_seed(config.seed, kDirections), static_cast<std::uint64_t>(report.steps));
  }

  [[nodiscard]] std::uint64_t fingerprint() const {
    Fingerprint print;
    print.number(config.fingerprint(steps_planned));
    for (const auto& lora : parameters.spec().lora) {
      print.number(lora.site);
      print.number(lora.rank);
      print.number(lora.scale);
      print.number((lora.train_a ? 1 : 0) + (lora.train_b ? 2 : 0));
    }
    for (const auto& part : parameters.spec().parts) {
      for (const int number :
           {static_cast<int>(part.kind), part.index, part.count, static_cast<int>(part.activation)}) {
        print.number(number);
      }
    }
    const model::TensorChoice choice = parameters.trained().tensors;
    print.array(std::span(choice));
    print.number(parameters.spec().prompt_tokens);
    if (parameters.spec().head_values > 0) print.number(parameters.spec().head_values);
    for (const TokenRow& row : usable) {
      print.array(std::span(row.ids));
      print.array(std::span(row.targets));
      // Only where they are: checkpoints of rows of text keep the fingerprint that they always had.
      if (!row.types.empty()) print.array(std::span(row.types));
      if (!row.second_ids.empty()) print.array(std::span(row.second_ids));
    }
    print.array(parameters.values());
    for (const Piece& piece : parameters.pieces()) {
      if (!parameters.is_adapter()) print.array(std::span<const float>(piece.values));
    }
    return print.value();
  }

  /// An epoch's last batch may have fewer rows.
  [[nodiscard]] std::int64_t epoch_steps() const {
    return (static_cast<std::int64_t>(usable.size()) + config.batch - 1) / config.batch;
  }

  /// The part of the gradient, before clipping, that belongs to `values`, which begin at `offset`.
  void seeded_part(const Estimate& estimate, std::int64_t offset, std::span<const float> values,
                   std::span<float> out) const {
    combine(estimate.terms, offset, out);
    if (config.prox_mu > 0) {
      add_proximal(out, values, std::span(initial).subspan(static_cast<std::size_t>(offset), values.size()),
                   config.prox_mu);
    }
  }

  /// The factor that clips the gradient; dense ones are clipped in place. @return also the norm before.
  std::pair<float, double> clip(const Estimate& estimate, std::span<float> dense) {
    if (config.clip_norm <= 0) return {1.0F, 0.0};
    if (!dense.empty()) return {1.0F, clip_by_norm(dense, config.clip_norm)};
    std::vector<double> squares(static_cast<std::size_t>((parameters.size() + kTile - 1) / kTile + 1) +
                                parameters.pieces().size());
    std::size_t before = 0;  // tiles of the pieces before: each tile has a slot of its own, whoever computes it
    for (const Piece& piece : parameters.pieces()) {
      for_tiles(pool, {&piece, 1}, [&](const Piece&, std::int64_t offset, std::span<float> values) {
        std::array<float, kTile> part;
        const auto gradient = std::span(part).first(values.size());
        seeded_part(estimate, offset, values, gradient);
        const double norm = l2_norm(gradient);
        squares[before + static_cast<std::size_t>(offset / kTile - piece.offset / kTile)] = norm * norm;
      });
      before += static_cast<std::size_t>((piece.offset + static_cast<std::int64_t>(piece.values.size()) - 1) / kTile -
                                         piece.offset / kTile + 1);
    }
    const double norm = std::sqrt(std::accumulate(squares.begin(), squares.end(), 0.0));
    return {static_cast<float>(std::min(1.0, config.clip_norm / (norm + 1e-6))), norm};
  }

  void update(const Estimate& estimate, std::span<const float> dense, float factor, double lr) {
    optimizer->begin_step();
    for_tiles(pool, parameters.pieces(), [&](const Piece& piece, std::int64_t offset, std::span<float> values) {
      if (!dense.empty()) {
        optimizer->update(offset, values, dense.subspan(static_cast<std::size_t>(offset), values.size()), lr,
                          piece.decay);
        return;
      }
      std::array<float, kTile> part;
      const auto gradient = std::span(part).first(values.size());
      seeded_part(estimate, offset, values, gradient);
      if (factor < 1) {
        for (float& g : gradient) g *= factor;
      }
      optimizer->update(offset, values, gradient, lr, piece.decay);
    });
    if (config.candidates.count == 0) return;
    for (std::size_t k = 0; k < estimate.terms.size(); ++k) {
      const double weight = static_cast<double>(estimate.terms[k].weight) * static_cast<double>(factor);
      sums.add(candidate(step_seed(), static_cast<int>(k)), -lr * weight);
    }
  }

  Result<StepReport> step() {
    if (report.steps >= steps_planned) return Error{ErrorCode::invalid_argument, "training: all steps are done"};
    const std::int64_t started_ms = clock.monotonic_ms();
    const std::int64_t epoch = report.steps / epoch_steps();
    const std::int64_t row = (report.steps % epoch_steps()) * config.batch;
    COVEY_TRY(batcher->seek({.epoch = static_cast<std::uint64_t>(epoch), .row = static_cast<std::uint64_t>(row)}));
    const model::TokenBatch batch = token_batch(batcher->next());
    COVEY_ASSIGN(Estimate estimate, source->estimate(batch, step_seed()));
    StepReport out{.step = report.steps + 1, .steps_planned = steps_planned, .loss = estimate.loss.mean()};
    const std::span<float> dense = estimate.dense;
    if (config.prox_mu > 0 && !dense.empty()) {
      add_proximal(dense, parameters.values(), initial, config.prox_mu);
    }
    const auto [factor, norm] = clip(estimate, dense);
    out.gradient_norm = norm;
    if (!std::isfinite(out.loss) || !std::isfinite(out.gradient_norm)) {
      return Error{ErrorCode::internal, "training diverged at step " + std::to_string(out.step) +
                                            ": the loss is not finite; lower lr or set clip_norm"};
    }
    out.lr = config.lr * schedule_factor(config.schedule, report.steps, steps_planned);
    out.directions = static_cast<int>(estimate.terms.size());
    update(estimate, dense, factor, out.lr);
    for (const std::int32_t length : batch.lengths) out.tokens += length;
    if (!batch.second_ids.empty()) out.tokens += count_targets(batch);
    if (report.steps == 0) report.first_loss = out.loss;
    report.last_loss = out.loss;
    ++report.steps;
    report.mean_loss += (out.loss - report.mean_loss) / static_cast<double>(report.steps);
    report.examples += batch.B;
    report.tokens += out.tokens;
    report.seconds += static_cast<double>(clock.monotonic_ms() - started_ms) / 1000;
    return out;
  }

  [[nodiscard]] Bytes checkpoint() const {
    CheckpointHeader header;
    header.inputs = inputs;
    header.values = static_cast<std::uint64_t>(parameters.trained_size());
    header.sums = sums.sums().size();
    header.report = report;
    const Bytes state = optimizer->serialize();
    Bytes out(sizeof header + body_bytes() + state.size() + sizeof(std::uint64_t));
    std::uint8_t* at = out.data();
    const auto put = [&at](const void* data, std::size_t size) {
      if (size > 0) std::memcpy(at, data, size);
      at += size;
    };
    put(&header, sizeof header);
    for (const Piece& piece : parameters.pieces()) put(piece.values.data(), piece.values.size_bytes());
    put(sums.sums().data(), sums.sums().size_bytes());
    put(state.data(), state.size());
    Fingerprint sum;
    sum.bytes(ByteSpan(out).first(out.size() - sizeof(std::uint64_t)));
    const std::uint64_t digest = sum.value();
    put(&digest, sizeof digest);
    return out;
  }

  /// Values and sums.
  [[nodiscard]] std::size_t body_bytes() const {
    return static_cast<std::size_t>(parameters.trained_size()) * sizeof(float) + sums.sums().size_bytes();
  }

  Status restore(ByteSpan bytes) {
    CheckpointHeader header;
    if (bytes.size() < sizeof header + body_bytes() + sizeof(std::uint64_t)) {
      return Error{ErrorCode::corrupt_data, "training checkpoint: too short; discard it and start again"};
    }
    std::uint64_t digest = 0;
    const ByteSpan body = bytes.first(bytes.size() - sizeof digest);
    std::memcpy(&digest, bytes.data() + body.size(), sizeof digest);
    Fingerprint sum;
    sum.bytes(body);
    std::memcpy(&header, body.data(), sizeof header);
    if (sum.value() != digest || header.magic != CheckpointHeader{}.magic) {
      return Error{ErrorCode::corrupt_data, "training checkpoint: damaged; discard it and start again"};
    }
    if (header.inputs != inputs || header.values != static_cast<std::uint64_t>(parameters.trained_size()) ||
        header.sums != sums.sums().size() || header.report.steps > steps_planned) {
      return Error{ErrorCode::corrupt_data,
                   "training checkpoint: made from another adapter, data or configuration; discard it"};
    }
    COVEY_TRY(optimizer->restore(body.subspan(sizeof header + body_bytes())));
    const std::uint8_t* at = body.data() + sizeof header;
    const auto get = [&at](void* data, std::size_t size) {
      if (size > 0) std::memcpy(data, at, size);
      at += size;
    };
    for (const Piece& piece : parameters.pieces()) get(piece.values.data(), piece.values.size_bytes());
    get(sums.sums().data(), sums.sums().size_bytes());
    report = header.report;
    return {};
  }
};

LocalTrainer::LocalTrainer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LocalTrainer::~LocalTrainer() = default;

Result<std::unique_ptr<LocalTrainer>> LocalTrainer::create(const model::Model& model, const model::AdapterSpec& spec,
                                                           std::vector<float> initial, std::span<const TokenRow> rows,
                                                           const TrainConfig& config, ThreadPool& pool,
                                                           const Clock& clock) {
  COVEY_ASSIGN(auto parameters, Parameters::of_adapter(model, spec, initial));
  auto impl = std::make_unique<Impl>(std::move(parameters), config, pool, clock);
  impl->initial = std::move(initial);
  COVEY_TRY(impl->prepare(rows));
  return std::unique_ptr<LocalTrainer>(new LocalTrainer(std::move(impl)));
}

Result<std::unique_ptr<LocalTrainer>> LocalTrainer::create_full(model::Model& model, std::span<const TokenRow> rows,
                                                                const TrainConfig& config, ThreadPool& pool,
                                                                const Clock& clock, model::TensorChoice choice) {
  if (config.prox_mu > 0) {
    return Error{ErrorCode::invalid_argument, "prox_mu: needs an adapter, not full-parameter training"};
  }
  if (!choice.empty() && choice.size() != model.parameters().size()) {
    return Error{ErrorCode::invalid_argument, "training: the choice of tensors has not one flag for each"};
  }
  auto impl = std::make_unique<Impl>(Parameters::of_model(model, std::move(choice)), config, pool, clock);
  COVEY_TRY(impl->prepare(rows));
  return std::unique_ptr<LocalTrainer>(new LocalTrainer(std::move(impl)));
}

Result<StepReport> LocalTrainer::step() {
  return impl_->step();
}

void LocalTrainer::stop_when(const std::atomic<bool>* stop) {
  impl_->source->stop_when(stop);
}

Status LocalTrainer::run(const std::function<bool(const StepReport&)>& keep_going) {
  StepReport last{.step = steps_done(), .steps_planned = steps_planned()};
  while (!done()) {
    if (keep_going && !keep_going(last)) return Error{ErrorCode::cancelled, "training was cancelled"};
    COVEY_ASSIGN(last, impl_->step());
  }
  if (keep_going) static_cast<void>(keep_going(last));
  return {};
}

std::int64_t LocalTrainer::steps_done() const {
  return impl_->report.steps;
}
std::int64_t LocalTrainer::steps_planned() const {
  return impl_->steps_planned;
}
TrainReport LocalTrainer::report() const {
  return impl_->report;
}
std::span<const float> LocalTrainer::values() const {
  return impl_->parameters.values();
}
std::span<const float> LocalTrainer::initial() const {
  return impl_->initial;
}
std::vector<float> LocalTrainer::delta() const {
  const std::span<const float> now = values();
  std::vector<float> out(now.size());
  std::transform(now.begin(), now.end(), impl_->initial.begin(), out.begin(), std::minus<>());
  return out;
}
const SeededUpdate& LocalTrainer::seeded_update() const {
  return impl_->sums;
}
Bytes LocalTrainer::checkpoint() const {
  return impl_->checkpoint();
}
Status LocalTrainer::restore(ByteSpan bytes) {
  return impl_->restore(bytes);
}

namespace {

/// `kept`: copies of all P values that the trainer holds besides the gradient and the optimizer's state.
model::MemoryPlan plan_of(const model::Model& model, const model::AdapterSpec& spec, const TrainConfig& config,
                          model::EngineOptions engine, std::int64_t size, std::uint64_t kept) {
  auto plan = model::plan_memory(model.config(), spec, model.linear_sites(), engine, 0);
  plan.weights_bytes = model.weight_bytes();
  // The one vector that backprop keeps its gradient and exact derivatives their direction in.
  const std::uint64_t vectors = kept + (engine.training || engine.tangent ? 1 : 0);
  plan.adapter_bytes = static_cast<std::uint64_t>(size) * sizeof(float) * vectors + config.optimizer.state_bytes(size);
  return plan;
}

}  // namespace

model::MemoryPlan memory_plan(const model::Model& model, const model::AdapterSpec& spec, const TrainConfig& config,
                              int longest, int longest_target) {
  const int rows = config.micro_batch > 0 ? config.micro_batch : config.batch;
  auto engine = config.gradient.engine(rows, longest, spec.virtual_tokens(), longest_target);
  engine.trained = {.adapter = spec};
  // Values and start.
  return plan_of(model, spec, config, engine, flat_size(spec, model.linear_sites(), model.config().embedding_width()),
                 2);
}

model::MemoryPlan memory_plan_full(const model::Model& model, const model::TensorChoice& choice,
                                   const TrainConfig& config, int longest, int longest_target) {
  const int rows = config.micro_batch > 0 ? config.micro_batch : config.batch;
  auto engine = config.gradient.engine(rows, longest, 0, longest_target);
  engine.trained = {.adapter = {}, .model = true, .tensors = choice};
  std::int64_t size = 0;
  const auto tensors = model.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (choice.empty() || choice[i] != 0) size += tensors[i].count;
  }
  return plan_of(model, {}, config, engine, size, 0);
}

}  // namespace covey::train

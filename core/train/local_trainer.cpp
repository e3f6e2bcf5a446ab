#include "core/train/local_trainer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <optional>

#include "core/train/flat_view.h"

namespace covey::train {
namespace {

constexpr std::size_t kTile = std::size_t{1} << 14;  // parameters per tile of the optimizer step

/// FNV-1a, 64 bits: tells inputs apart and finds damage. Not a defence: checkpoints are sealed by their owner.
class Fingerprint {
 public:
  void bytes(ByteSpan data) {
    for (const std::uint8_t byte : data) value_ = (value_ ^ byte) * 0x100000001b3ULL;
  }
  template <typename T>
  void number(const T& value) {
    bytes({reinterpret_cast<const std::uint8_t*>(&value), sizeof value});
  }
  template <typename T>
  void array(std::span<const T> values) {
    number(values.size());
    bytes({reinterpret_cast<const std::uint8_t*>(values.data()), values.size_bytes()});
  }
  [[nodiscard]] std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325ULL;
};

struct CheckpointHeader {
  std::array<char, 8> magic{'C', 'O', 'V', 'E', 'Y', 'T', 'C', '1'};
  std::uint64_t inputs = 0;  ///< fingerprint of what the trainer was made from
  std::uint64_t values = 0;  ///< how many floats follow
  TrainReport report;
};

}  // namespace

Status TrainConfig::check() const {
  const auto wrong = [](const char* what) { return Error{ErrorCode::invalid_argument, what}; };
  COVEY_TRY(optimizer.check());
  if (!(lr >= 0) || !std::isfinite(lr)) return wrong("lr: must be 0 or more");
  if (batch < 1 || batch > 4096) return wrong("batch: must be in [1, 4096]");
  if (seq < 1 || seq > (1 << 20)) return wrong("seq: must be in [1, 1048576]");
  if (steps < 0) return wrong("steps: must be 0 or more");
  if (!(epochs >= 0) || epochs > 1e6) return wrong("epochs: must be in [0, 1000000]");
  if ((steps > 0) == (epochs > 0)) return wrong("steps, epochs: set exactly one of them");
  if (!(clip_norm >= 0)) return wrong("clip_norm: must be 0 (off) or more");
  if (!(prox_mu >= 0)) return wrong("prox_mu: must be 0 (off) or more");
  if (schedule.warmup_steps < 0) return wrong("warmup_steps: must be 0 or more");
  if (!(schedule.final_factor >= 0 && schedule.final_factor <= 1)) return wrong("final_factor: must be in [0, 1]");
  return {};
}

struct LocalTrainer::Impl {
  Impl(const model::Model& trained, const TrainConfig& how, ThreadPool& threads, const Clock& time)
      : model(trained), config(how), pool(threads), clock(time) {}

  const model::Model& model;
  model::AdapterSpec spec;
  TrainConfig config;
  ThreadPool& pool;
  const Clock& clock;

  std::unique_ptr<model::Engine> engine;
  std::vector<TokenRow> usable;  ///< rows that have a target, cut at seq
  std::optional<data::Batcher> batcher;
  std::int64_t steps_planned = 0;
  std::uint64_t inputs = 0;

  std::vector<float> initial;  ///< adapter mode
  std::vector<float> values;
  std::vector<model::NamedTensor> parameters;  ///< full-parameter mode
  std::vector<float> gradient;
  std::optional<Optimizer> optimizer;
  TrainReport report;

  [[nodiscard]] bool full() const { return !parameters.empty(); }

  Status prepare(std::span<const TokenRow> rows, std::int64_t parameter_count) {
    COVEY_TRY(config.check());
    usable = usable_rows(rows, config.seq);
    if (usable.empty()) return Error{ErrorCode::invalid_argument, "training data: no row has a token to predict"};
    std::size_t longest = 0;
    for (const TokenRow& row : usable) longest = std::max(longest, row.ids.size());
    COVEY_ASSIGN(batcher, data::Batcher::create(usable, {.batch = config.batch, .seed = config.seed}));
    const auto steps_per_epoch = static_cast<double>(epoch_steps());
    steps_planned =
        config.steps > 0 ? config.steps : std::max<std::int64_t>(1, std::llround(config.epochs * steps_per_epoch));
    const int batch = static_cast<int>(std::min(usable.size(), static_cast<std::size_t>(config.batch)));
    COVEY_ASSIGN(engine, model::Engine::create(model,
                                               {.batch_max = batch,
                                                .seq_max = static_cast<int>(longest),
                                                .training = true,
                                                .checkpoint = config.checkpoint_activations,
                                                .prompt_tokens_max = spec.prompt_tokens},
                                               pool));
    gradient.resize(static_cast<std::size_t>(parameter_count));
    optimizer.emplace(config.optimizer, parameter_count);
    inputs = fingerprint();
    return {};
  }

  [[nodiscard]] std::uint64_t fingerprint() const {
    Fingerprint print;
    print.number(config.method);
    const auto& o = config.optimizer;
    print.number(o.kind);
    for (const double x : {o.momentum, o.beta1, o.beta2, o.epsilon, o.weight_decay, config.lr, config.clip_norm,
                           config.prox_mu, config.schedule.final_factor}) {
      print.number(x);
    }
    print.number(config.schedule.kind);
    for (const std::int64_t x :
         {config.schedule.warmup_steps, std::int64_t{config.batch}, std::int64_t{config.seq}, steps_planned}) {
      print.number(x);
    }
    print.number(config.seed);
    for (const auto& lora : spec.lora) {
      print.number(lora.site);
      print.number(lora.rank);
      print.number(lora.scale);
    }
    print.number(spec.prompt_tokens);
    for (const TokenRow& row : usable) {
      print.array(std::span(row.ids));
      print.array(std::span(row.targets));
    }
    print.array(std::span(initial));
    for (const auto& tensor : parameters) print.array(std::span<const float>(tensor.values));
    return print.value();
  }

  /// An epoch's last batch may have fewer rows.
  [[nodiscard]] std::int64_t epoch_steps() const {
    return (static_cast<std::int64_t>(usable.size()) + config.batch - 1) / config.batch;
  }

  void update(double lr) {
    optimizer->begin_step();
    const auto piece = [&](std::int64_t offset, std::span<float> target, bool decay) {
      const std::size_t tiles = (target.size() + kTile - 1) / kTile;
      pool.parallel_for(tiles, [&](std::size_t tile) {
        const std::size_t at = tile * kTile;
        const std::size_t size = std::min(kTile, target.size() - at);
        optimizer->update(offset + static_cast<std::int64_t>(at), target.subspan(at, size),
                          std::span<const float>(gradient).subspan(static_cast<std::size_t>(offset) + at, size), lr,
                          decay);
      });
    };
    if (!full()) {
      piece(0, values, true);
      return;
    }
    std::int64_t offset = 0;
    for (auto& tensor : parameters) {
      piece(offset, tensor.values, tensor.shape.size() > 1);
      offset += static_cast<std::int64_t>(tensor.values.size());
    }
  }

  Result<model::LossResult> compute(const model::TokenBatch& batch) {
    std::fill(gradient.begin(), gradient.end(), 0.0F);
    if (full()) return engine->full_gradient(batch, gradient);
    const auto& sites = model.linear_sites();
    const int hidden = model.config().hidden_size;
    COVEY_ASSIGN(const model::LossResult loss, engine->gradient(batch, spec, flat_view(spec, sites, hidden, values),
                                                                flat_grad_view(spec, sites, hidden, gradient)));
    if (config.prox_mu > 0) add_proximal(gradient, values, initial, config.prox_mu);
    return loss;
  }

  Result<StepReport> step() {
    if (report.steps >= steps_planned) return Error{ErrorCode::invalid_argument, "training: all steps are done"};
    const std::int64_t started_ms = clock.monotonic_ms();
    const std::int64_t epoch = report.steps / epoch_steps();
    const std::int64_t row = (report.steps % epoch_steps()) * config.batch;
    COVEY_TRY(batcher->seek({.epoch = static_cast<std::uint64_t>(epoch), .row = static_cast<std::uint64_t>(row)}));
    const model::TokenBatch batch = token_batch(batcher->next());
    COVEY_ASSIGN(const model::LossResult loss, compute(batch));
    StepReport out{.step = report.steps + 1, .steps_planned = steps_planned, .loss = loss.mean()};
    if (config.clip_norm > 0) out.gradient_norm = clip_by_norm(gradient, config.clip_norm);
    if (!std::isfinite(out.loss) || !std::isfinite(out.gradient_norm)) {
      return Error{ErrorCode::internal, "training diverged at step " + std::to_string(out.step) +
                                            ": the loss is not finite; lower lr or set clip_norm"};
    }
    out.lr = config.lr * schedule_factor(config.schedule, report.steps, steps_planned);
    update(out.lr);
    for (const std::int32_t length : batch.lengths) out.tokens += length;
    if (report.steps == 0) report.first_loss = out.loss;
    report.last_loss = out.loss;
    ++report.steps;
    report.mean_loss += (out.loss - report.mean_loss) / static_cast<double>(report.steps);
    report.examples += batch.B;
    report.tokens += out.tokens;
    report.seconds += static_cast<double>(clock.monotonic_ms() - started_ms) / 1000;
    return out;
  }

  [[nodiscard]] std::size_t value_count() const { return gradient.size(); }

  [[nodiscard]] Bytes checkpoint() const {
    CheckpointHeader header;
    header.inputs = inputs;
    header.values = value_count();
    header.report = report;
    const Bytes state = optimizer->serialize();
    Bytes out(sizeof header + value_count() * sizeof(float) + state.size() + sizeof(std::uint64_t));
    std::uint8_t* at = out.data();
    const auto put = [&at](const void* data, std::size_t size) {
      if (size > 0) std::memcpy(at, data, size);
      at += size;
    };
    put(&header, sizeof header);
    put(values.data(), values.size() * sizeof(float));
    for (const auto& tensor : parameters) put(tensor.values.data(), tensor.values.size_bytes());
    put(state.data(), state.size());
    Fingerprint sum;
    sum.bytes(ByteSpan(out).first(out.size() - sizeof(std::uint64_t)));
    const std::uint64_t digest = sum.value();
    put(&digest, sizeof digest);
    return out;
  }

  Status restore(ByteSpan bytes) {
    CheckpointHeader header;
    const std::size_t values_bytes = value_count() * sizeof(float);
    if (bytes.size() < sizeof header + values_bytes + sizeof(std::uint64_t)) {
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
    if (header.inputs != inputs || header.values != value_count() || header.report.steps > steps_planned) {
      return Error{ErrorCode::corrupt_data,
                   "training checkpoint: made from another adapter, data or configuration; discard it"};
    }
    COVEY_TRY(optimizer->restore(body.subspan(sizeof header + values_bytes)));
    const std::uint8_t* at = body.data() + sizeof header;
    if (!values.empty()) std::memcpy(values.data(), at, values_bytes);
    for (auto& tensor : parameters) {
      std::memcpy(tensor.values.data(), at, tensor.values.size_bytes());
      at += tensor.values.size_bytes();
    }
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
  const std::int64_t size = flat_size(spec, model.linear_sites(), model.config().hidden_size);
  if (size == 0 || static_cast<std::int64_t>(initial.size()) != size) {
    return Error{ErrorCode::invalid_argument, "training: the adapter has " + std::to_string(size) + " values, got " +
                                                  std::to_string(initial.size())};
  }
  auto impl = std::make_unique<Impl>(model, config, pool, clock);
  impl->spec = spec;
  impl->values = initial;
  impl->initial = std::move(initial);
  COVEY_TRY(impl->prepare(rows, size));
  return std::unique_ptr<LocalTrainer>(new LocalTrainer(std::move(impl)));
}

Result<std::unique_ptr<LocalTrainer>> LocalTrainer::create_full(model::Model& model, std::span<const TokenRow> rows,
                                                                const TrainConfig& config, ThreadPool& pool,
                                                                const Clock& clock) {
  if (config.prox_mu > 0) {
    return Error{ErrorCode::invalid_argument, "prox_mu: needs an adapter, not full-parameter training"};
  }
  auto impl = std::make_unique<Impl>(model, config, pool, clock);
  impl->parameters = model.parameters();
  std::int64_t size = 0;
  for (const auto& tensor : impl->parameters) size += static_cast<std::int64_t>(tensor.values.size());
  COVEY_TRY(impl->prepare(rows, size));
  return std::unique_ptr<LocalTrainer>(new LocalTrainer(std::move(impl)));
}

Result<StepReport> LocalTrainer::step() {
  return impl_->step();
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
  return impl_->values;
}
std::span<const float> LocalTrainer::initial() const {
  return impl_->initial;
}
std::vector<float> LocalTrainer::delta() const {
  std::vector<float> out(impl_->values.size());
  std::transform(impl_->values.begin(), impl_->values.end(), impl_->initial.begin(), out.begin(), std::minus<>());
  return out;
}
Bytes LocalTrainer::checkpoint() const {
  return impl_->checkpoint();
}
Status LocalTrainer::restore(ByteSpan bytes) {
  return impl_->restore(bytes);
}

}  // namespace covey::train

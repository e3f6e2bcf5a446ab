#include "core/model/engine.h"

#include <algorithm>
#include <cstring>

#include "core/base/rng.h"
#include "core/kernels/cross_entropy.h"
#include "core/model/buffers.h"
#include "core/model/pass.h"
#include "core/model/steps.h"

namespace covey::model {

struct Engine::Impl {
  EngineOptions options;
  Buffers buffers;
  Pass pass;
  AdapterSpec no_spec;
  AdapterView no_adapter;
  TrainedSteps planned;  ///< what the buffers were made for
  TrainedSteps wanted;   ///< what the call at hand trains
  const std::atomic<bool>* stop = nullptr;
  std::uint64_t gradients = 0;  ///< that were computed

  [[nodiscard]] const Program& program() const { return pass.model->program; }
  [[nodiscard]] Work work(std::size_t segment) { return {pass, program().body[segment], buffers.body[segment]}; }
  [[nodiscard]] Work head() { return {pass, program().head, buffers.head}; }
  [[nodiscard]] std::size_t segments() const { return program().body.size(); }
  [[nodiscard]] int hidden() const { return pass.model->config.hidden_size; }
  /// What the last segment left, (N,H), and its gradient and tangent.
  [[nodiscard]] float* result() { return last_of(&SegmentMemory::value); }
  [[nodiscard]] float* result_gradient() { return last_of(&SegmentMemory::gradient); }
  [[nodiscard]] float* result_tangent() { return last_of(&SegmentMemory::tangent); }
  [[nodiscard]] float* last_of(std::vector<float*> SegmentMemory::*array) {
    return (buffers.body.back().*array)[static_cast<std::size_t>(program().body.back().output)];
  }

  /// What `compute` gives, unless it was passed over from some point on.
  template <typename F>
  auto unless_stopped(F&& compute) -> decltype(compute()) {
    pass.pool->skip_when(stop);
    auto result = compute();
    pass.pool->skip_when(nullptr);
    if (stop != nullptr && stop->load()) return Error{ErrorCode::cancelled, "engine: told to stop"};
    return result;
  }

  void forward();
  void backward();
  Result<LossResult> loss_and_gradient(float grad_scale);
  /// The head's rows [begin, begin + count) of pass.target_row: their logits.
  void head_forward(const std::int32_t* rows, int count);
  LossResult head_loss(bool backward, bool want_dx, float grad_scale);
  JvpResult head_jvp(bool moving);
  [[nodiscard]] kernels::CrossEntropyArgs entropy_args(int begin, int count);
};

namespace {

void gather(const float* x, const std::int32_t* rows, int count, int H, float* to) {
  for (int i = 0; i < count; ++i) {
    std::memcpy(to + static_cast<std::ptrdiff_t>(i) * H, x + static_cast<std::ptrdiff_t>(rows[i]) * H,
                sizeof(float) * static_cast<std::size_t>(H));
  }
}

}  // namespace

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::create(const Model& model, const EngineOptions& options, ThreadPool& pool) {
  const ModelConfig& config = model.config();
  if (options.batch_max < 1 || options.seq_max < 1 || options.prompt_tokens_max < 0 || options.target_seq_max < 0) {
    return Error{ErrorCode::invalid_argument, "engine: batch, sequence and prompt sizes must be positive"};
  }
  if (config.two_stacks() != (options.target_seq_max > 0)) {
    return Error{ErrorCode::invalid_argument, "engine: target_seq_max is for encoder-decoders, and needed there"};
  }
  const std::int64_t positions =
      std::int64_t{std::max(options.seq_max, options.target_seq_max)} + options.prompt_tokens_max;
  if (positions > config.context_max) {
    return Error{ErrorCode::invalid_argument, "engine: " + std::to_string(positions) +
                                                  " positions, but the model's context is " +
                                                  std::to_string(config.context_max)};
  }
  if (positions * options.batch_max > (std::int64_t{1} << 24)) {
    return Error{ErrorCode::resource_exhausted, "engine: more than 2^24 positions in one batch"};
  }
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  const Program& program = model.impl().program;
  if (options.training && options.trained) {
    COVEY_ASSIGN(impl->planned, trained_steps(model.impl(), *options.trained));
  }
  COVEY_ASSIGN(impl->buffers, make_buffers(program, config, options, impl->planned));
  Pass& pass = impl->pass;
  pass.model = &model.impl();
  pass.pool = &pool;
  pass.stochastic = options.stochastic_seed.has_value();
  pass.buffers = &impl->buffers;
  pass.cosine = impl->buffers.cosine;
  pass.sine = impl->buffers.sine;
  const auto B = static_cast<std::size_t>(options.batch_max);
  for (std::size_t i = 0; i < (config.two_stacks() ? 2U : 1U); ++i) {
    pass.stack[i].reserve(B, static_cast<std::size_t>(impl->buffers.rows[i]));
  }
  const StackRows& last = pass.last();
  pass.target_row.reserve(last.position.capacity());
  pass.target.reserve(last.position.capacity());
  std::size_t slots = program.head.slots.size();
  for (const Segment& segment : program.body) slots = std::max(slots, segment.slots.size());
  for (auto* flags : {&pass.need, &pass.ready, &pass.made}) flags->reserve(slots);
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

void Engine::Impl::forward() {
  fill_distance_bias(*pass.model, buffers);
  for (std::size_t i = 0; i < segments(); ++i) run_forward(work(i));
}

void Engine::Impl::backward() {
  for (std::size_t i = segments(); i-- > 0;) {
    if (!wanted.has_backward(i)) continue;  // nothing is trained here or below
    // The topmost segment's activations are still there; the others' were overwritten by the segment above.
    if (options.checkpoint && i + 1 < segments()) run_again(work(i));
    run_backward(work(i), wanted.below[i]);
  }
}

Result<LossResult> Engine::Impl::loss_and_gradient(float grad_scale) {
  if (!options.training) {
    return Error{ErrorCode::invalid_argument, "engine: made without `training`, it cannot give gradients"};
  }
  wanted.find(pass);
  if (!covers(planned, wanted)) {
    return Error{ErrorCode::invalid_argument, "engine: made to train other layers or tensors than these"};
  }
  if (options.stochastic_seed) pass.rounding_seed = derive_seed(*options.stochastic_seed, gradients++);
  forward();
  if (pass.target.empty()) return LossResult{};
  const bool want_dx = wanted.body_trains;
  const auto clear = [&](float* gradient, int N) {
    std::memset(gradient, 0, sizeof(float) * static_cast<std::size_t>(N) * static_cast<std::size_t>(hidden()));
  };
  if (want_dx) {
    clear(result_gradient(), pass.last().N);
    for (std::size_t i = 0; i < segments(); ++i) {
      const int memory = program().body[i].memory;
      if (memory < 0 || !wanted.below[i].memory) continue;
      clear(buffers.body[i].gradient[static_cast<std::size_t>(memory)], pass.stack[0].N);
      break;
    }
  }
  const LossResult result = head_loss(true, want_dx, grad_scale / static_cast<float>(pass.target.size()));
  if (want_dx) backward();
  return result;
}

void Engine::Impl::head_forward(const std::int32_t* rows, int count) {
  pass.chunk_rows = count;
  const Work w = head();
  gather(result(), rows, count, hidden(), w.value(w.segment.input));
  run_forward(w);
}

kernels::CrossEntropyArgs Engine::Impl::entropy_args(int begin, int count) {
  const Work w = head();
  return {count,
          pass.model->config.outputs(),
          pass.target.data() + begin,
          w.value(w.segment.output),
          buffers.head_loss,
          buffers.head_correct};
}

LossResult Engine::Impl::head_loss(bool backward, bool want_dx, float grad_scale) {
  const int total = static_cast<int>(pass.target.size());
  LossResult result;
  result.targets = total;
  for (int begin = 0; begin < total; begin += buffers.chunk) {
    const int count = std::min(buffers.chunk, total - begin);
    const std::int32_t* rows = pass.target_row.data() + begin;
    head_forward(rows, count);
    const kernels::CrossEntropyArgs args = entropy_args(begin, count);
    if (backward) {
      kernels::cross_entropy_backward(*pass.pool, args, grad_scale);
    } else {
      kernels::cross_entropy_forward(*pass.pool, args);
    }
    for (int i = 0; i < count; ++i) {
      result.loss_sum += buffers.head_loss[i];
      result.correct += buffers.head_correct[i];
    }
    if (!backward) continue;
    const Work w = head();
    run_backward(w, {want_dx, false});
    const float* dx = w.gradient(w.segment.input);
    const auto H = static_cast<std::size_t>(hidden());
    for (int i = 0; want_dx && i < count; ++i) {
      std::memcpy(result_gradient() + static_cast<std::size_t>(rows[i]) * H, dx + static_cast<std::size_t>(i) * H,
                  H * sizeof(float));
    }
  }
  return result;
}

JvpResult Engine::Impl::head_jvp(bool moving) {
  const int total = static_cast<int>(pass.target.size());
  JvpResult result;
  result.loss.targets = total;
  for (int begin = 0; begin < total; begin += buffers.chunk) {
    const int count = std::min(buffers.chunk, total - begin);
    const std::int32_t* rows = pass.target_row.data() + begin;
    pass.chunk_rows = count;
    const Work w = head();
    gather(this->result(), rows, count, hidden(), w.value(w.segment.input));
    gather(result_tangent(), rows, count, hidden(), w.tangent(w.segment.input));
    run_forward_jvp(w, {moving, false});
    const kernels::CrossEntropyArgs args = entropy_args(begin, count);
    kernels::cross_entropy_forward(*pass.pool, args);
    kernels::cross_entropy_jvp(*pass.pool, args, w.tangent(w.segment.output), buffers.head_loss_t);
    for (int i = 0; i < count; ++i) {
      result.loss.loss_sum += buffers.head_loss[i];
      result.loss.correct += buffers.head_correct[i];
      result.derivative += buffers.head_loss_t[i];
    }
  }
  if (total > 0) result.derivative /= static_cast<double>(total);
  return result;
}

Status Engine::logits(const TokenBatch& batch, const AdapterSpec& spec, const AdapterView& adapter,
                      std::span<float> out) {
  Impl& e = *impl_;
  e.pass.full = false;
  COVEY_TRY(set_adapter(e.pass, spec, adapter, nullptr));
  COVEY_TRY(set_batch(e.pass, batch, e.options, false));
  const ModelConfig& config = e.pass.model->config;
  const bool one = config.task == Task::classification;
  const auto V = static_cast<std::size_t>(config.outputs());
  const auto S = static_cast<std::size_t>(one ? 1 : (config.two_stacks() ? batch.T2 : spec.prompt_tokens + batch.T));
  if (out.size() != static_cast<std::size_t>(batch.B) * S * V) {
    return Error{ErrorCode::invalid_argument,
                 "logits: `out` is not " + std::string(one ? "(B, classes)" : "(B, positions, V)")};
  }
  e.forward();
  std::memset(out.data(), 0, out.size_bytes());
  std::vector<std::int32_t> rows;
  const auto& packed = e.pass.last().rows;
  for (std::size_t b = 0; b < packed.size(); ++b) {
    const int count = one ? 1 : packed[b].q_count;
    for (int i = 0; i < count; i += e.buffers.chunk) {
      rows.clear();
      for (int j = i; j < std::min(i + e.buffers.chunk, count); ++j) {
        rows.push_back(one ? pooled_row(config, packed[b]) : packed[b].q_begin + j);
      }
      e.head_forward(rows.data(), static_cast<int>(rows.size()));
      const Work w = e.head();
      std::memcpy(out.data() + (b * S + static_cast<std::size_t>(i)) * V, w.value(w.segment.output),
                  rows.size() * V * sizeof(float));
    }
  }
  return {};
}

Result<LossResult> Engine::loss(const TokenBatch& batch, const AdapterSpec& spec, const AdapterView& adapter) {
  Impl& e = *impl_;
  e.pass.full = false;
  COVEY_TRY(set_adapter(e.pass, spec, adapter, nullptr));
  COVEY_TRY(set_batch(e.pass, batch, e.options, true));
  return e.unless_stopped([&]() -> Result<LossResult> {
    e.forward();
    return e.head_loss(false, false, 0);
  });
}

Result<LossResult> Engine::gradient(const TokenBatch& batch, const AdapterSpec& spec, const AdapterView& adapter,
                                    const AdapterGradView& gradient, float grad_scale) {
  Impl& e = *impl_;
  e.pass.full = false;
  COVEY_TRY(set_adapter(e.pass, spec, adapter, &gradient));
  COVEY_TRY(set_batch(e.pass, batch, e.options, true));
  return e.unless_stopped([&] { return e.loss_and_gradient(grad_scale); });
}

Result<LossResult> Engine::full_gradient(const TokenBatch& batch, std::span<float> gradient, float grad_scale,
                                         const TensorChoice& choice) {
  Impl& e = *impl_;
  COVEY_TRY(set_adapter(e.pass, e.no_spec, e.no_adapter, nullptr));
  COVEY_TRY(set_batch(e.pass, batch, e.options, true));
  COVEY_ASSIGN(const std::int64_t size, set_tensors(e.pass, choice));
  if (static_cast<std::int64_t>(gradient.size()) != size) {
    return Error{ErrorCode::invalid_argument, "full gradient: its size is not the count of the values that train"};
  }
  e.pass.full_gradient = gradient.data();
  auto result = e.unless_stopped([&] { return e.loss_and_gradient(grad_scale); });
  e.pass.full = false;
  return result;
}

Result<JvpResult> Engine::jvp(const TokenBatch& batch, const AdapterSpec& spec, const AdapterView& adapter,
                              const AdapterView& direction) {
  Impl& e = *impl_;
  if (!e.options.tangent) {
    return Error{ErrorCode::invalid_argument, "engine: made without `tangent`, it cannot give directional derivatives"};
  }
  e.pass.full = false;
  COVEY_TRY(set_adapter(e.pass, spec, adapter, nullptr));
  COVEY_TRY(set_direction(e.pass, direction));
  COVEY_TRY(set_batch(e.pass, batch, e.options, true));
  return e.unless_stopped([&]() -> Result<JvpResult> {
    fill_distance_bias(*e.pass.model, e.buffers);
    e.wanted.find(e.pass);
    const bool moving = e.wanted.body_trains;
    for (std::size_t i = 0; i < e.segments(); ++i) {
      if (e.wanted.has_backward(i)) {
        run_forward_jvp(e.work(i), e.wanted.below[i]);
      } else {
        run_forward(e.work(i));  // nothing moves yet
      }
    }
    return e.head_jvp(moving);
  });
}

void Engine::seed_rounding(std::uint64_t seed) {
  if (!impl_->options.stochastic_seed) return;
  impl_->options.stochastic_seed = seed;
  impl_->gradients = 0;
}

void Engine::record_inputs(InputPeaks* peaks) {
  impl_->pass.peaks = peaks;
  if (peaks != nullptr) peaks->of_layer.resize(impl_->pass.model->linears.size());
}

void Engine::stop_when(const std::atomic<bool>* stop) {
  impl_->stop = stop;
}

}  // namespace covey::model

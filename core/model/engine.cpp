#include "core/model/engine.h"

#include <algorithm>
#include <cstring>

#include "core/kernels/embedding.h"
#include "core/model/block.h"
#include "core/model/buffers.h"
#include "core/model/head.h"
#include "core/model/pass.h"

namespace covey::model {

struct Engine::Impl {
  EngineOptions options;
  Buffers buffers;
  Pass pass;
  AdapterSpec no_spec;
  AdapterView no_adapter;

  /// Embedding (and virtual tokens) into the first block's input.
  void embed();
  /// Embedding and all blocks; buffers.x_out holds the result.
  void forward();
  /// The same, and buffers.tangent.x holds its derivative along pass.direction.
  void forward_jvp();
  /// From scratch.dx, which holds the gradient of x_out, down to what is trained.
  void backward(int lowest);
  /// The lowest block with something trained in it; -1: the input; L: only the head.
  [[nodiscard]] int lowest_trained() const;
  Result<LossResult> loss_and_gradient(float grad_scale);

  [[nodiscard]] float* x_after(int layer) const {
    const auto next = static_cast<std::size_t>(layer) + 1;
    return next < buffers.blocks.size() ? buffers.blocks[next].x_in : buffers.x_out;
  }
};

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

Result<std::unique_ptr<Engine>> Engine::create(const Model& model, const EngineOptions& options, ThreadPool& pool) {
  const ModelConfig& config = model.config();
  if (options.batch_max < 1 || options.seq_max < 1 || options.prompt_tokens_max < 0) {
    return Error{ErrorCode::invalid_argument, "engine: batch, sequence and prompt sizes must be positive"};
  }
  const std::int64_t positions = std::int64_t{options.seq_max} + options.prompt_tokens_max;
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
  COVEY_ASSIGN(impl->buffers, make_buffers(config, options));
  Pass& pass = impl->pass;
  pass.model = &model.impl();
  pass.pool = &pool;
  pass.cosine = impl->buffers.cosine;
  pass.sine = impl->buffers.sine;
  const auto N = static_cast<std::size_t>(positions * options.batch_max);
  pass.rows.reserve(static_cast<std::size_t>(options.batch_max));
  pass.position.reserve(N);
  pass.ids.reserve(N);
  pass.target_row.reserve(N);
  pass.target.reserve(N);
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

void Engine::Impl::embed() {
  const int H = pass.model->config.hidden_size;
  float* x = buffers.blocks[0].x_in;
  kernels::embedding_forward(*pass.pool, pass.N, H, pass.ids.data(), pass.model->embedding, x);
  if (pass.spec->prompt_tokens > 0) {
    for (const auto& row : pass.rows) {
      std::memcpy(x + static_cast<std::ptrdiff_t>(row.q_begin) * H, pass.adapter->prompt.data(),
                  pass.adapter->prompt.size_bytes());
    }
  }
}

void Engine::Impl::forward() {
  embed();
  for (int layer = 0; layer < pass.model->config.layers; ++layer) {
    block_forward(pass, layer, buffers.blocks[static_cast<std::size_t>(layer)], buffers, x_after(layer));
  }
}

void Engine::Impl::forward_jvp() {
  embed();
  const auto H = static_cast<std::size_t>(pass.model->config.hidden_size);
  float* x_t = buffers.tangent.x;
  std::memset(x_t, 0, sizeof(float) * static_cast<std::size_t>(pass.N) * H);
  for (const auto& row : pass.rows) {
    if (pass.spec->prompt_tokens == 0) break;
    std::memcpy(x_t + static_cast<std::size_t>(row.q_begin) * H, pass.direction->prompt.data(),
                pass.direction->prompt.size_bytes());
  }
  const int lowest = lowest_trained();
  for (int layer = 0; layer < pass.model->config.layers; ++layer) {
    const BlockBuffers& block = buffers.blocks[static_cast<std::size_t>(layer)];
    block_forward(pass, layer, block, buffers, nullptr);
    if (layer >= lowest) block_jvp(pass, layer, block, buffers);  // below it, all derivatives are zero
    block_finish(pass, layer, block, buffers, x_after(layer));
  }
}

int Engine::Impl::lowest_trained() const {
  if (pass.full_gradient != nullptr || pass.spec->prompt_tokens > 0) return -1;
  int lowest = pass.model->config.layers;
  for (const LoraSite& lora : pass.spec->lora) {
    const int layer = pass.model->sites[static_cast<std::size_t>(lora.site)].layer;
    if (layer >= 0) lowest = std::min(lowest, layer);
  }
  return lowest;
}

void Engine::Impl::backward(int lowest) {
  for (int layer = pass.model->config.layers - 1; layer >= std::max(lowest, 0); --layer) {
    const BlockBuffers& block = buffers.blocks[static_cast<std::size_t>(layer)];
    // The topmost block's activations are still there; the others' were overwritten by the block above.
    const bool lost = options.checkpoint && layer + 1 < pass.model->config.layers;
    if (lost) block_forward(pass, layer, block, buffers, nullptr);
    block_backward(pass, layer, block, buffers, backward_depth(pass, layer, layer > lowest));
  }
  if (lowest >= 0) return;
  const int H = pass.model->config.hidden_size;
  if (pass.full_gradient != nullptr) {
    kernels::embedding_backward(*pass.pool, pass.N, H, pass.ids.data(), buffers.dx,
                                pass.full_gradient + pass.model->embedding_at);
  }
  if (pass.spec->prompt_tokens > 0 && pass.gradient != nullptr) {
    const std::span<float> to = pass.gradient->prompt;
    for (const auto& row : pass.rows) {
      const float* from = buffers.dx + static_cast<std::ptrdiff_t>(row.q_begin) * H;
      for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
    }
  }
}

Result<LossResult> Engine::Impl::loss_and_gradient(float grad_scale) {
  if (!options.training) {
    return Error{ErrorCode::invalid_argument, "engine: made without `training`, it cannot give gradients"};
  }
  forward();
  if (pass.target.empty()) return LossResult{};
  const int lowest = lowest_trained();
  const bool want_dx = lowest < pass.model->config.layers;
  if (want_dx) {
    std::memset(
        buffers.dx, 0,
        sizeof(float) * static_cast<std::size_t>(pass.N) * static_cast<std::size_t>(pass.model->config.hidden_size));
  }
  const LossResult result =
      head_loss(pass, buffers, true, want_dx, grad_scale / static_cast<float>(pass.target.size()));
  backward(lowest);
  return result;
}

Status Engine::logits(const TokenBatch& batch, const AdapterSpec& spec, const AdapterView& adapter,
                      std::span<float> out) {
  Impl& e = *impl_;
  e.pass.full_gradient = nullptr;
  COVEY_TRY(set_adapter(e.pass, spec, adapter, nullptr));
  COVEY_TRY(set_batch(e.pass, batch, e.options, false));
  const auto V = static_cast<std::size_t>(e.pass.model->config.vocab_size);
  const auto S = static_cast<std::size_t>(spec.prompt_tokens + batch.T);
  if (out.size() != static_cast<std::size_t>(batch.B) * S * V) {
    return Error{ErrorCode::invalid_argument, "logits: `out` is not (B, prompt + T, V)"};
  }
  e.forward();
  std::memset(out.data(), 0, out.size_bytes());
  const int H = e.pass.model->config.hidden_size;
  for (std::size_t b = 0; b < e.pass.rows.size(); ++b) {
    const auto& row = e.pass.rows[b];
    for (int i = 0; i < row.q_count; i += e.buffers.chunk) {
      head_logits(e.pass, e.buffers, e.buffers.x_out + static_cast<std::ptrdiff_t>(row.q_begin + i) * H,
                  std::min(e.buffers.chunk, row.q_count - i), out.data() + (b * S + static_cast<std::size_t>(i)) * V);
    }
  }
  return {};
}

Result<LossResult> Engine::loss(const TokenBatch& batch, const AdapterSpec& spec, const AdapterView& adapter) {
  Impl& e = *impl_;
  e.pass.full_gradient = nullptr;
  COVEY_TRY(set_adapter(e.pass, spec, adapter, nullptr));
  COVEY_TRY(set_batch(e.pass, batch, e.options, true));
  e.forward();
  return head_loss(e.pass, e.buffers, false, false, 0);
}

Result<LossResult> Engine::gradient(const TokenBatch& batch, const AdapterSpec& spec, const AdapterView& adapter,
                                    const AdapterGradView& gradient, float grad_scale) {
  Impl& e = *impl_;
  e.pass.full_gradient = nullptr;
  COVEY_TRY(set_adapter(e.pass, spec, adapter, &gradient));
  COVEY_TRY(set_batch(e.pass, batch, e.options, true));
  return e.loss_and_gradient(grad_scale);
}

Result<LossResult> Engine::full_gradient(const TokenBatch& batch, std::span<float> gradient, float grad_scale) {
  Impl& e = *impl_;
  if (gradient.size() != static_cast<std::size_t>(e.pass.model->parameter_count)) {
    return Error{ErrorCode::invalid_argument, "full gradient: its size is not the model's parameter count"};
  }
  COVEY_TRY(set_adapter(e.pass, e.no_spec, e.no_adapter, nullptr));
  COVEY_TRY(set_batch(e.pass, batch, e.options, true));
  e.pass.full_gradient = gradient.data();
  auto result = e.loss_and_gradient(grad_scale);
  e.pass.full_gradient = nullptr;
  return result;
}

Result<JvpResult> Engine::jvp(const TokenBatch& batch, const AdapterSpec& spec, const AdapterView& adapter,
                              const AdapterView& direction) {
  Impl& e = *impl_;
  if (!e.options.tangent) {
    return Error{ErrorCode::invalid_argument, "engine: made without `tangent`, it cannot give directional derivatives"};
  }
  e.pass.full_gradient = nullptr;
  COVEY_TRY(set_adapter(e.pass, spec, adapter, nullptr));
  COVEY_TRY(set_direction(e.pass, direction));
  COVEY_TRY(set_batch(e.pass, batch, e.options, true));
  e.forward_jvp();
  return head_jvp(e.pass, e.buffers);
}

}  // namespace covey::model

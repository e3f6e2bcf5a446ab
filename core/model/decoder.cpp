#include <algorithm>
#include <cstring>

#include "core/model/block.h"
#include "core/model/buffers.h"
#include "core/model/engine.h"
#include "core/model/head.h"
#include "core/model/pass.h"

namespace covey::model {

struct Decoder::Impl {
  Buffers buffers;  ///< of one position
  Pass pass;
  AdapterSpec spec;
  AdapterView adapter;
  std::vector<float> cosine;  ///< (context, D/2)
  std::vector<float> sine;
  std::vector<std::vector<float>> keys;  ///< per layer (context, KW)
  std::vector<std::vector<float>> values;
  int context = 0;
  int used = 0;

  /// Appends one position; buffers.x_out holds the last block's output.
  void step(const float* embedding);
};

Decoder::Decoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Decoder::~Decoder() = default;

Result<std::unique_ptr<Decoder>> Decoder::create(const Model& model, int context_max, const AdapterSpec& spec,
                                                 const AdapterView& adapter, ThreadPool& pool) {
  const ModelConfig& config = model.config();
  const int P = std::max(spec.prompt_tokens, 0);
  if (context_max < 1 || P > config.context_max || context_max > config.context_max - P) {
    return Error{ErrorCode::invalid_argument, "decoder: a context of " + std::to_string(context_max) + " and " +
                                                  std::to_string(P) + " virtual tokens, but the model's is " +
                                                  std::to_string(config.context_max)};
  }
  auto impl = std::make_unique<Impl>();
  impl->spec = spec;
  impl->adapter = adapter;
  impl->pass.model = &model.impl();
  impl->pass.pool = &pool;
  COVEY_TRY(set_adapter(impl->pass, impl->spec, impl->adapter, nullptr));
  COVEY_ASSIGN(impl->buffers, make_buffers(config, EngineOptions{}));
  impl->context = P + context_max;
  const auto cache = static_cast<std::size_t>(impl->context) * static_cast<std::size_t>(config.kv_width());
  impl->keys.assign(static_cast<std::size_t>(config.layers), std::vector<float>(cache));
  impl->values.assign(static_cast<std::size_t>(config.layers), std::vector<float>(cache));
  const auto table = static_cast<std::size_t>(impl->context) * static_cast<std::size_t>(config.head_dim / 2);
  impl->cosine.resize(table);
  impl->sine.resize(table);
  fill_rope_tables(config, impl->context, impl->cosine.data(), impl->sine.data());
  impl->pass.cosine = impl->cosine.data();
  impl->pass.sine = impl->sine.data();
  impl->pass.N = 1;
  impl->pass.rows.resize(1);
  impl->pass.position.resize(1);
  reserve_lora(impl->pass, 1);
  for (int i = 0; i < P; ++i) {
    impl->step(adapter.prompt.data() + static_cast<std::ptrdiff_t>(i) * config.hidden_size);
  }
  return std::unique_ptr<Decoder>(new Decoder(std::move(impl)));
}

void Decoder::Impl::step(const float* embedding) {
  const ModelConfig& config = pass.model->config;
  pass.rows[0] = {0, 1, 0, used + 1};
  pass.position[0] = used;
  std::memcpy(buffers.x_out, embedding, sizeof(float) * static_cast<std::size_t>(config.hidden_size));
  for (int layer = 0; layer < config.layers; ++layer) {
    const auto l = static_cast<std::size_t>(layer);
    BlockBuffers block = buffers.blocks[l];
    block.k_all = keys[l].data();
    block.v_all = values[l].data();
    block.k = block.k_all + static_cast<std::ptrdiff_t>(used) * config.kv_width();
    block.v = block.v_all + static_cast<std::ptrdiff_t>(used) * config.kv_width();
    block_forward(pass, layer, block, buffers, buffers.x_out);
  }
  ++used;
}

Result<std::span<const float>> Decoder::feed(std::int32_t token) {
  Impl& d = *impl_;
  const ModelConfig& config = d.pass.model->config;
  if (token < 0 || token >= config.vocab_size) {
    return Error{ErrorCode::invalid_argument, "decoder: token " + std::to_string(token) +
                                                  " is outside the vocabulary of " + std::to_string(config.vocab_size)};
  }
  if (d.used >= d.context) {
    return Error{ErrorCode::resource_exhausted,
                 "decoder: its context of " + std::to_string(d.context) + " positions is full"};
  }
  d.step(d.pass.model->embedding + static_cast<std::ptrdiff_t>(token) * config.hidden_size);
  head_logits(d.pass, d.buffers, d.buffers.x_out, 1, d.buffers.head_logits);
  return std::span<const float>(d.buffers.head_logits, static_cast<std::size_t>(config.vocab_size));
}

}  // namespace covey::model

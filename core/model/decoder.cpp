#include <algorithm>
#include <cstring>

#include "core/kernels/wkv.h"
#include "core/model/buffers.h"
#include "core/model/engine.h"
#include "core/model/pass.h"
#include "core/model/steps.h"

namespace covey::model {

struct Decoder::Impl {
  Buffers buffers;  ///< of one position
  Pass pass;
  AdapterSpec now;  ///< of the position at hand: its virtual tokens are one or none
  AdapterView adapter;
  DecodeState state;
  std::vector<float> cosine;  ///< (context, R/2)
  std::vector<float> sine;
  int context = 0;

  void make_caches(const Model::Impl& model);
  /// Appends one position: a token, or (id -1) virtual token `prompt`.
  void step(std::int32_t id, int prompt);
};

Decoder::Decoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Decoder::~Decoder() = default;

Result<std::unique_ptr<Decoder>> Decoder::create(const Model& model, int context_max, const AdapterSpec& spec,
                                                 const AdapterView& adapter, ThreadPool& pool) {
  const ModelConfig& config = model.config();
  if (!config.generates()) {
    return Error{ErrorCode::unsupported, "decoder: a " + config.family + " model of this kind does not generate text"};
  }
  const int P = std::max(spec.prompt_tokens, 0);
  if (context_max < 1 || P > config.context_max || context_max > config.context_max - P) {
    return Error{ErrorCode::invalid_argument, "decoder: a context of " + std::to_string(context_max) + " and " +
                                                  std::to_string(P) + " virtual tokens, but the model's is " +
                                                  std::to_string(config.context_max)};
  }
  auto impl = std::make_unique<Impl>();
  impl->now = spec;
  impl->adapter = adapter;
  Pass& pass = impl->pass;
  pass.model = &model.impl();
  pass.pool = &pool;
  COVEY_TRY(set_adapter(pass, impl->now, impl->adapter, nullptr));
  COVEY_ASSIGN(impl->buffers, make_buffers(model.impl().program, config, EngineOptions{}));
  pass.buffers = &impl->buffers;
  pass.decode = &impl->state;
  impl->context = P + context_max;
  impl->make_caches(model.impl());
  if (config.position == PositionKind::rope) {
    const auto table = static_cast<std::size_t>(rope_table_floats(config, impl->context));
    impl->cosine.resize(table);
    impl->sine.resize(table);
    fill_rope_tables(config, impl->context, impl->cosine.data(), impl->sine.data());
  }
  pass.cosine = impl->cosine.data();
  pass.sine = impl->sine.data();
  StackRows& stack = pass.stack[0];
  stack.N = 1;
  stack.rows.resize(1);
  for (auto* list : {&stack.position, &stack.angle, &stack.ids, &stack.types}) list->resize(1);
  stack.padded.resize(1);
  reserve_lora(pass, 1);
  for (int i = 0; i < P; ++i) impl->step(-1, i);
  return std::unique_ptr<Decoder>(new Decoder(std::move(impl)));
}

void Decoder::Impl::make_caches(const Model::Impl& model) {
  state.keys.resize(static_cast<std::size_t>(model.program.caches));
  state.values.resize(state.keys.size());
  for (const Segment& segment : model.program.body) {
    for (const Step& step : segment.steps) {
      if (step.cache < 0) continue;
      const auto cache = static_cast<std::size_t>(step.cache);
      const auto width = static_cast<std::size_t>(segment.slots[static_cast<std::size_t>(step.out)].width);
      if (step.kind == StepKind::attention) {
        const std::size_t size =
            static_cast<std::size_t>(context) * static_cast<std::size_t>(step.kv_heads * step.head_dim);
        state.keys[cache].resize(size);
        state.values[cache].resize(size);
      } else if (step.kind == StepKind::wkv) {
        state.keys[cache].resize(3 * width);
        kernels::wkv_clear(static_cast<int>(width), state.keys[cache].data());
      } else if (step.kind == StepKind::wkv7) {
        state.keys[cache].resize(width * static_cast<std::size_t>(step.head_dim));
      } else {
        state.keys[cache].resize(width);
      }
    }
  }
}

void Decoder::Impl::step(std::int32_t id, int prompt) {
  const RopeConfig& rope = pass.model->config.rope;
  StackRows& stack = pass.stack[0];
  const int used = state.used;
  stack.rows[0] = {0, 1, 0, used + 1};
  stack.position[0] = used;
  // As the reference: the factors follow the length so far, keys in the cache keep theirs.
  const bool is_long = rope.scaling == RopeScaling::longrope && used + 1 > rope.original_context;
  stack.angle[0] = is_long ? context + used : used;
  stack.ids[0] = id;
  AdapterView one;
  if (id < 0) {
    const auto width = static_cast<std::size_t>(pass.model->config.embedding_width());
    one = adapter;
    one.prompt = adapter.prompt.subspan(static_cast<std::size_t>(prompt) * width, width);
    pass.adapter = &one;
  }
  now.prompt_tokens = id < 0 ? 1 : 0;
  for (std::size_t i = 0; i < buffers.body.size(); ++i)
    run_forward({pass, pass.model->program.body[i], buffers.body[i]});
  pass.adapter = &adapter;
  ++state.used;
}

Result<std::span<const float>> Decoder::feed(std::int32_t token) {
  Impl& d = *impl_;
  const ModelConfig& config = d.pass.model->config;
  if (token < 0 || token >= config.vocab_size) {
    return Error{ErrorCode::invalid_argument, "decoder: token " + std::to_string(token) +
                                                  " is outside the vocabulary of " + std::to_string(config.vocab_size)};
  }
  if (d.state.used >= d.context) {
    return Error{ErrorCode::resource_exhausted,
                 "decoder: its context of " + std::to_string(d.context) + " positions is full"};
  }
  d.step(token, 0);
  d.pass.chunk_rows = 1;
  const Program& program = d.pass.model->program;
  const Work head{d.pass, program.head, d.buffers.head};
  const Segment& last = program.body.back();
  std::memcpy(head.value(program.head.input), d.buffers.body.back().value[static_cast<std::size_t>(last.output)],
              sizeof(float) * static_cast<std::size_t>(config.hidden_size));
  run_forward(head);
  return std::span<const float>(head.value(program.head.output), static_cast<std::size_t>(config.outputs()));
}

}  // namespace covey::model

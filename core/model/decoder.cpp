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

  /// What every decoder starts from: its adapter, buffers, and empty caches for `context_max` positions and the virtual
  /// tokens.
  Status bind(const Model& model, int context_max, const AdapterSpec& spec, const AdapterView& view, ThreadPool& pool,
              const EngineOptions& options);
  void make_caches(const Model::Impl& model);
  /// The prefix's keys and values are what the caches begin with.
  void take_prefix();
  /// Appends one position: a token, or (id -1) virtual token `prompt`.
  void step(std::int32_t id, int prompt);
  /// The first stack over the source.
  Status read_source(std::span<const std::int32_t> source, const EngineOptions& options);
  /// Rows of one position in the stack that is decoded.
  void one_row();
  [[nodiscard]] StackRows& stack() { return pass.stack[pass.model->config.two_stacks() ? 1 : 0]; }
  [[nodiscard]] std::size_t first_segment() const {
    return pass.model->config.two_stacks() ? static_cast<std::size_t>(pass.model->program.first_segments) : 0;
  }
};

Decoder::Decoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Decoder::~Decoder() = default;

Result<std::unique_ptr<Decoder>> Decoder::create(const Model& model, int context_max, const AdapterSpec& spec,
                                                 const AdapterView& adapter, ThreadPool& pool) {
  const ModelConfig& config = model.config();
  if (!config.generates()) {
    return Error{ErrorCode::unsupported, "decoder: a " + config.family + " model of this kind does not generate text"};
  }
  const int prompt = std::max(spec.prompt_tokens, 0);
  const int P = std::max(spec.virtual_tokens(), 0);
  if (context_max < 1 || P > config.context_max || context_max > config.context_max - P) {
    return Error{ErrorCode::invalid_argument, "decoder: a context of " + std::to_string(context_max) + " and " +
                                                  std::to_string(P) + " virtual tokens, but the model's is " +
                                                  std::to_string(config.context_max)};
  }
  auto impl = std::make_unique<Impl>();
  COVEY_TRY(impl->bind(model, context_max, spec, adapter, pool, EngineOptions{}));
  Pass& pass = impl->pass;
  pass.decode = &impl->state;
  if (config.position == PositionKind::rope) {
    const auto table = static_cast<std::size_t>(rope_table_floats(config, impl->context));
    impl->cosine.resize(table);
    impl->sine.resize(table);
    fill_rope_tables(config, impl->context, impl->cosine.data(), impl->sine.data());
  }
  pass.cosine = impl->cosine.data();
  pass.sine = impl->sine.data();
  impl->one_row();
  reserve_lora(pass, 1);
  impl->take_prefix();
  for (int i = 0; i < prompt; ++i) impl->step(-1, i);
  return std::unique_ptr<Decoder>(new Decoder(std::move(impl)));
}

Result<std::unique_ptr<Decoder>> Decoder::create_for_source(const Model& model, std::span<const std::int32_t> source,
                                                            int context_max, const AdapterSpec& spec,
                                                            const AdapterView& adapter, ThreadPool& pool) {
  const ModelConfig& config = model.config();
  if (!config.two_stacks()) {
    return Error{ErrorCode::unsupported, "decoder: a " + config.family + " model of this kind reads no source"};
  }
  const auto length = static_cast<std::int64_t>(source.size());
  const int P = std::max(spec.virtual_tokens(), 0);
  const std::int64_t room = std::int64_t{config.context_max} - P;
  if (length < 1 || length > room || context_max < 1 || context_max > room) {
    return Error{ErrorCode::invalid_argument, "decoder: a source of " + std::to_string(length) + " and a context of " +
                                                  std::to_string(context_max) + " tokens beside " + std::to_string(P) +
                                                  " virtual ones, but the model's is " +
                                                  std::to_string(config.context_max)};
  }
  const EngineOptions options{
      .batch_max = 1, .seq_max = static_cast<int>(length), .prompt_tokens_max = P, .target_seq_max = context_max};
  auto impl = std::make_unique<Impl>();
  COVEY_TRY(impl->bind(model, context_max, spec, adapter, pool, options));
  Pass& pass = impl->pass;
  pass.cosine = impl->buffers.cosine;
  pass.sine = impl->buffers.sine;
  fill_distance_bias(model.impl(), impl->buffers);
  COVEY_TRY(impl->read_source(source, options));
  impl->one_row();
  impl->take_prefix();
  pass.cross = {{0, 1, 0, pass.prefix_tokens + pass.stack[0].N}};
  pass.decode = &impl->state;
  return std::unique_ptr<Decoder>(new Decoder(std::move(impl)));
}

Status Decoder::Impl::bind(const Model& model, int context_max, const AdapterSpec& spec, const AdapterView& view,
                           ThreadPool& pool, const EngineOptions& options) {
  now = spec;
  adapter = view;
  pass.model = &model.impl();
  pass.pool = &pool;
  COVEY_TRY(set_adapter(pass, now, adapter, nullptr));
  COVEY_ASSIGN(buffers, make_buffers(model.impl().program, model.config(), options));
  pass.buffers = &buffers;
  context = std::max(spec.virtual_tokens(), 0) + context_max;
  make_caches(model.impl());
  return {};
}

Status Decoder::Impl::read_source(std::span<const std::int32_t> source, const EngineOptions& options) {
  const std::int32_t start = 0;
  const TokenBatch batch{.B = 1,
                         .T = static_cast<int>(source.size()),
                         .ids = source,
                         .targets = {},
                         .lengths = {},
                         .second_ids = {&start, 1},
                         .T2 = 1};
  COVEY_TRY(set_batch(pass, batch, options, false));
  for (std::size_t i = 0; i < first_segment(); ++i) run_forward({pass, pass.model->program.body[i], buffers.body[i]});
  return {};
}

void Decoder::Impl::one_row() {
  StackRows& rows = stack();
  rows.N = 1;
  rows.rows.resize(1);
  for (auto* list : {&rows.position, &rows.angle, &rows.ids, &rows.types}) list->assign(1, 0);
  rows.padded.assign(1, 0);
}

void Decoder::Impl::make_caches(const Model::Impl& model) {
  state.keys.resize(static_cast<std::size_t>(model.program.caches));
  state.values.resize(state.keys.size());
  for (const Segment& segment : model.program.body) {
    for (const Step& step : segment.steps) {
      if (step.cache < 0 || step.cross || (segment.stream == Stream::first && model.config.two_stacks())) continue;
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

void Decoder::Impl::take_prefix() {
  for (const Segment& segment : pass.model->program.body) {
    for (const Step& step : segment.steps) {
      const int part = Pass::part_at(pass.part_of_attention, step.attention);
      const bool cached = part >= 0 && !state.keys[static_cast<std::size_t>(step.cache)].empty();
      if (!cached) continue;  // a source's attentions have the prefix as an engine has it
      const auto size = static_cast<std::ptrdiff_t>(pass.part(part).size() / 2);
      const float* values = pass.values_of(part);
      std::copy_n(values, size, state.keys[static_cast<std::size_t>(step.cache)].begin());
      std::copy_n(values + size, size, state.values[static_cast<std::size_t>(step.cache)].begin());
    }
  }
  state.used = pass.prefix_tokens;
}

void Decoder::Impl::step(std::int32_t id, int prompt) {
  const RopeConfig& rope = pass.model->config.rope;
  StackRows& row = stack();
  const int used = state.used;
  row.rows[0] = {0, 1, 0, used + 1};
  row.position[0] = used - pass.prefix_tokens;  // the step that reads it adds them
  // As the reference: the factors follow the length so far, keys in the cache keep theirs.
  const bool is_long = rope.scaling == RopeScaling::longrope && used + 1 > rope.original_context;
  row.angle[0] = is_long ? context + used : used;
  row.ids[0] = id;
  AdapterView one;
  if (id < 0) {
    const auto width = static_cast<std::size_t>(pass.model->config.embedding_width());
    one = adapter;
    one.prompt = adapter.prompt.subspan(static_cast<std::size_t>(prompt) * width, width);
    pass.adapter = &one;
  }
  now.prompt_tokens = id < 0 ? 1 : 0;
  for (std::size_t i = first_segment(); i < buffers.body.size(); ++i)
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

Result<std::vector<float>> embeddings_of(const Model& model, std::span<const std::int32_t> ids) {
  const Table& table = model.impl().tables[static_cast<std::size_t>(model.impl().token_table)];
  std::vector<float> out;
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= table.rows) {
      return Error{ErrorCode::invalid_argument,
                   "token " + std::to_string(id) + " is outside the vocabulary of " + std::to_string(table.rows)};
    }
    const float* row = table.values + static_cast<std::ptrdiff_t>(id) * table.width;
    out.insert(out.end(), row, row + table.width);
  }
  return out;
}

Result<std::vector<std::vector<float>>> prefix_of_tokens(const Model& model, std::span<const std::int32_t> ids,
                                                         ThreadPool& pool) {
  if (model.attentions().empty()) {
    return Error{ErrorCode::unsupported, "prefix: a " + model.config().family + " model has no attention to join"};
  }
  COVEY_ASSIGN(const auto decoder, Decoder::create(model, static_cast<int>(ids.size()), {}, {}, pool));
  for (const std::int32_t id : ids) COVEY_TRY(decoder->feed(id));
  const DecodeState& state = decoder->impl_->state;
  std::vector<std::vector<float>> out(model.attentions().size());
  for (const Segment& segment : model.impl().program.body) {
    for (const Step& step : segment.steps) {
      if (step.attention < 0) continue;
      auto& to = out[static_cast<std::size_t>(step.attention)];
      to = state.keys[static_cast<std::size_t>(step.cache)];  // the context is as long as the tokens are many
      const auto& values = state.values[static_cast<std::size_t>(step.cache)];
      to.insert(to.end(), values.begin(), values.end());
    }
  }
  return out;
}

}  // namespace covey::model

#include "core/model/steps.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "core/kernels/embedding.h"
#include "core/model/parts.h"

namespace covey::model {
namespace {

const Table& table_of(const Work& w, int index) {
  return w.pass.model->tables[static_cast<std::size_t>(index)];
}

void copy(float* to, const float* from, std::size_t count) {
  if (to != from) std::memcpy(to, from, count * sizeof(float));
}

/// Rows of the soft prompt, or of its direction.
void put_prompt(const Work& w, const AdapterView& from, float* x) {
  const int width = w.pass.model->config.embedding_width();
  for (const auto& row : w.stack().rows) {
    std::memcpy(x + static_cast<std::ptrdiff_t>(row.q_begin) * width, from.prompt.data(), from.prompt.size_bytes());
  }
}

/// A decoder's keys and values of the source: the first position keeps what all look at.
void cross_attention_cached(const Work& w, const Step& s) {
  DecodeState& state = *w.pass.decode;
  const auto cache = static_cast<std::size_t>(s.cache);
  if (state.used == w.pass.prefix_tokens) {
    const int part = Pass::part_at(w.pass.part_of_attention, s.attention);
    const auto keep = [&](std::vector<float>& to, std::ptrdiff_t half, const float* source, std::size_t count) {
      to.clear();
      if (part >= 0) {
        const auto size = static_cast<std::ptrdiff_t>(w.pass.part(part).size() / 2);
        const float* prefix = w.pass.values_of(part) + half * size;
        to.assign(prefix, prefix + size);
      }
      to.insert(to.end(), source, source + count);
    };
    keep(state.keys[cache], 0, w.value(s.in2), w.floats(s.in2));
    keep(state.values[cache], 1, w.value(s.in3), w.floats(s.in3));
  }
  kernels::attention_forward(*w.pass.pool, attention_shape(w, s), w.value(s.in), state.keys[cache].data(),
                             state.values[cache].data(), w.value(s.out), w.value(s.stats));
}

/// A decoder's keys and values: this position joins those before.
void attention_cached(const Work& w, const Step& s) {
  DecodeState& state = *w.pass.decode;
  const auto cache = static_cast<std::size_t>(s.cache);
  if (s.cross) return cross_attention_cached(w, s);
  const long width = static_cast<long>(s.kv_heads) * s.head_dim;
  float* k = state.keys[cache].data();
  float* v = state.values[cache].data();
  for (int h = 0; h < s.kv_heads; ++h) {
    const std::size_t bytes = sizeof(float) * static_cast<std::size_t>(s.head_dim);
    const long to = state.used * width + static_cast<long>(h) * s.head_dim;
    std::memcpy(k + to, w.value(s.in2) + h * s.head_row[1], bytes);
    std::memcpy(v + to, w.value(s.in3) + h * s.head_row[2], bytes);
  }
  kernels::AttentionShape shape = attention_shape(w, s);
  shape.k_at = shape.v_at = {};
  kernels::attention_forward(*w.pass.pool, shape, w.value(s.in), k, v, w.value(s.out), w.value(s.stats));
}

void wkv_step(const Work& w, const Step& s) {
  kernels::WkvArgs args = wkv_args(w, s);
  float* states = w.value(s.stats);
  if (w.pass.decode != nullptr) {
    args.carried = w.pass.decode->keys[static_cast<std::size_t>(s.cache)].data();
    states = nullptr;
  }
  kernels::wkv_forward(*w.pass.pool, args, w.value(s.out), states);
}

void shift_step(const Work& w, const Step& s) {
  kernels::ShiftArgs args = shift_args(w, s);
  if (w.pass.decode == nullptr) {
    kernels::shift_forward(*w.pass.pool, args, w.value(s.in), w.value(s.out));
    return;
  }
  std::vector<float>& before = w.pass.decode->keys[static_cast<std::size_t>(s.cache)];
  args.first = before.data();
  kernels::shift_forward(*w.pass.pool, args, w.value(s.in), w.value(s.out));
  std::memcpy(before.data(), w.value(s.in), before.size() * sizeof(float));
}

void tokens_step(const Work& w, const Step& s) {
  const Table& table = table_of(w, s.weight);
  kernels::embedding_forward(*w.pass.pool, w.rows(s.out), table.width, w.stack().ids.data(), table.values,
                             w.value(s.out));
  if (w.pass.spec->prompt_tokens > 0) put_prompt(w, *w.pass.adapter, w.value(s.out));
}

}  // namespace

/// Raffel et al., 2020: half of the buckets (of each direction) for single distances, the others ever wider.
int relative_bucket(const ModelConfig& config, int distance, bool both_ways) {
  int buckets = config.relative_buckets;
  int bucket = 0;
  if (both_ways) {
    buckets /= 2;
    if (distance > 0) bucket = buckets;
    distance = std::abs(distance);
  } else {
    distance = std::max(-distance, 0);
  }
  const int exact = buckets / 2;
  if (distance < exact) return bucket + distance;
  // In f32, as the reference: the boundaries are where rounding puts them.
  const float log_part = std::log(static_cast<float>(distance) / static_cast<float>(exact)) /
                         static_cast<float>(std::log(static_cast<double>(config.relative_distance) / exact)) *
                         static_cast<float>(buckets - exact);
  return bucket + std::min(exact + static_cast<int>(log_part), buckets - 1);
}

void fill_distance_bias(const Model::Impl& model, const Buffers& buffers) {
  const Program& program = model.program;
  if (!program.relative) return;
  for (std::size_t stack = 0; stack < 2; ++stack) {
    const std::size_t segment = stack == 0 ? 1 : static_cast<std::size_t>(program.first_segments) + 1;
    for (const Step& step : program.body[segment].steps) {
      if (step.kind != StepKind::attention || !step.relative) continue;
      const float* table = model.tables[static_cast<std::size_t>(step.weight)].values;
      const int reach = buffers.reach[stack];
      float* to = buffers.distance_bias[stack];
      for (int h = 0; h < step.heads; ++h) {
        for (int d = 1 - reach; d < reach; ++d) {
          *to++ = table[relative_bucket(model.config, d, !step.causal) * step.heads + h];
        }
      }
    }
  }
}

kernels::NormArgs norm_args(const Work& w, const Step& s) {
  const NormWeights& n = w.pass.model->norms[static_cast<std::size_t>(s.weight)];
  return {n.kind,   w.rows(s.in), n.H,  n.heads, w.row(s.in), w.row(s.out), n.w, w.pass.bias(n.bias, n.b),
          n.offset, n.own,        n.eps};
}

kernels::NormStats norm_stats(const Work& w, const Step& s) {
  if (s.stats < 0) return {};
  const NormWeights& n = w.pass.model->norms[static_cast<std::size_t>(s.weight)];
  float* inverse = w.value(s.stats);
  return {inverse, inverse + static_cast<std::ptrdiff_t>(w.rows(s.in)) * n.heads};
}

kernels::AttentionShape attention_shape(const Work& w, const Step& s) {
  kernels::AttentionShape shape;
  const auto stack = static_cast<std::size_t>(w.segment.stream);
  shape.rows = s.cross ? std::span<const kernels::AttentionRow>(w.pass.cross) : w.stack().rows;
  shape.heads = s.heads;
  shape.kv_heads = s.kv_heads;
  shape.D = s.head_dim;
  shape.window = s.window;
  shape.scale = s.scale;
  shape.causal = s.causal;
  shape.soft_cap = s.value;
  if (s.slopes) shape.slopes = w.pass.buffers->slopes;
  if (s.relative) {
    shape.distance_bias = w.pass.buffers->distance_bias[stack];
    shape.reach = w.pass.buffers->reach[stack];
  }
  shape.q_at = {w.row(s.in), s.head_row[0]};
  shape.k_at = {w.row(s.in2), s.head_row[1]};
  shape.v_at = {w.row(s.in3), s.head_row[2]};
  return shape;
}

kernels::RopeArgs rope_args(const Work& w, const Step& s) {
  return {w.rows(s.out),          s.heads,       s.head_dim,
          w.stack().angle.data(), w.pass.cosine, w.pass.sine,
          w.row(s.out),           s.head_row[0], w.pass.model->config.rope.neighbours};
}

kernels::WkvArgs wkv_args(const Work& w, const Step& s) {
  return {w.stack().rows,
          w.slot(s.out).width,
          table_of(w, s.weight).values,
          table_of(w, s.weight2).values,
          w.value(s.in),
          w.value(s.in2),
          nullptr};
}

kernels::ShiftArgs shift_args(const Work& w, const Step& s) {
  return {w.rows(s.in), w.slot(s.in).width, w.stack().position.data(), table_of(w, s.weight).values,
          nullptr,      s.of_above};
}

kernels::TrigramArgs trigram_args(const Work& w, const Step& s) {
  const Model::Impl& model = *w.pass.model;
  const Table& table = table_of(w, model.token_table);
  const int pad = model.config.pad_id;
  const float* padding = pad < 0 ? nullptr : table.values + static_cast<std::ptrdiff_t>(pad) * table.width;
  return {w.rows(s.in), w.slot(s.in).width, w.stack().position.data(), padding, w.stack().padded.data()};
}

kernels::ActivationArgs activation_args(const Work& w, const Step& s) {
  return {s.activation, w.rows(s.in), w.slot(s.in).width, w.row(s.in), s.value};
}

void step_forward(const Work& w, const Step& s) {
  Pass& pass = w.pass;
  ThreadPool& pool = *pass.pool;
  switch (s.kind) {
    case StepKind::tokens:
      return tokens_step(w, s);
    case StepKind::positions:
    case StepKind::types: {
      const auto& index = s.kind == StepKind::types ? w.stack().types : w.stack().position;
      const Table& table = table_of(w, s.weight);
      const int offset = s.row_offset + (s.kind == StepKind::positions ? pass.prefix_tokens : 0);
      return kernels::embedding_add(pool, w.rows(s.out), table.width, index.data(), offset, table.values,
                                    w.value(s.out));
    }
    case StepKind::linear:
      if (s.base >= 0) copy(w.value(s.out), w.value(s.base), w.floats(s.out));
      return linear_forward(pass, pass.model->linears[static_cast<std::size_t>(s.weight)], w.rows(s.in), w.value(s.in),
                            w.value(s.out), {s.base >= 0, w.row(s.in)});
    case StepKind::norm:
      return kernels::norm_forward(pool, norm_args(w, s), w.value(s.in), w.value(s.out), norm_stats(w, s));
    case StepKind::rope:
      return kernels::rope_forward(pool, rope_args(w, s), w.value(s.out));
    case StepKind::scale:
      return kernels::scale(pool, w.floats(s.out), s.value, w.value(s.out));
    case StepKind::attention:
      if (pass.decode != nullptr) return attention_cached(w, s);
      if (const int part = Pass::part_at(pass.part_of_attention, s.attention); part >= 0) {
        return prefixed_attention_forward(w, s, part);
      }
      return kernels::attention_forward(pool, attention_shape(w, s), w.value(s.in), w.value(s.in2), w.value(s.in3),
                                        w.value(s.out), w.value(s.stats));
    case StepKind::activation:
      return kernels::activation_forward(pool, activation_args(w, s), w.value(s.in), w.value(s.in2), w.value(s.out));
    case StepKind::add:
      copy(w.value(s.out), w.value(s.base), w.floats(s.out));
      return kernels::add(pool, w.floats(s.out), w.value(s.in), w.value(s.out));
    case StepKind::shift:
      return shift_step(w, s);
    case StepKind::wkv:
      return wkv_step(w, s);
    case StepKind::trigram:
      return kernels::trigram_forward(pool, trigram_args(w, s), w.value(s.in), w.value(s.out));
    case StepKind::wkv7:
    case StepKind::bonus:
    case StepKind::lerp:
    case StepKind::join:
      return rwkv7_forward(w, s);
  }
}

namespace {

void norm_step_jvp(const Work& w, const Step& s) {
  const kernels::NormArgs args = norm_args(w, s);
  kernels::norm_jvp(*w.pass.pool, args, w.value(s.in), norm_stats(w, s), w.tangent(s.in), w.tangent(s.out));
  const NormWeights& n = w.pass.model->norms[static_cast<std::size_t>(s.weight)];
  const int bias = Pass::part_at(w.pass.part_of_bias, n.bias);
  if (bias < 0) return;
  const int width = w.pass.part(bias).width;  // of one head, or of all of them
  kernels::add_bias(*w.pass.pool, w.rows(s.out) * (n.heads * n.H / width), width, w.pass.direction_of(bias),
                    w.tangent(s.out));
}

}  // namespace

void step_jvp(const Work& w, const Step& s) {
  Pass& pass = w.pass;
  ThreadPool& pool = *pass.pool;
  switch (s.kind) {
    case StepKind::tokens:
      std::memset(w.tangent(s.out), 0, w.floats(s.out) * sizeof(float));
      if (pass.spec->prompt_tokens > 0) put_prompt(w, *pass.direction, w.tangent(s.out));
      return;
    case StepKind::positions:
    case StepKind::types:
      return;
    case StepKind::linear:
      if (s.base >= 0) copy(w.tangent(s.out), w.tangent(s.base), w.floats(s.out));
      return linear_jvp(pass, pass.model->linears[static_cast<std::size_t>(s.weight)], w.rows(s.in), w.value(s.in),
                        w.tangent(s.in), w.tangent(s.out), {s.base >= 0, w.row(s.in)});
    case StepKind::norm:
      return norm_step_jvp(w, s);
    case StepKind::rope:
      return kernels::rope_forward(pool, rope_args(w, s), w.tangent(s.out));
    case StepKind::scale:
      return kernels::scale(pool, w.floats(s.out), s.value, w.tangent(s.out));
    case StepKind::attention:
      if (const int part = Pass::part_at(pass.part_of_attention, s.attention); part >= 0) {
        return prefixed_attention_jvp(w, s, part);
      }
      return kernels::attention_jvp(pool, attention_shape(w, s),
                                    {w.value(s.in), w.value(s.in2), w.value(s.in3), w.value(s.out), w.value(s.stats),
                                     w.tangent(s.in), w.tangent(s.in2), w.tangent(s.in3), w.tangent(s.out)});
    case StepKind::activation:
      return kernels::activation_jvp(pool, activation_args(w, s), w.value(s.in), w.value(s.in2), w.tangent(s.in),
                                     w.tangent(s.in2), w.tangent(s.out));
    case StepKind::add:
      copy(w.tangent(s.out), w.tangent(s.base), w.floats(s.out));
      return kernels::add(pool, w.floats(s.out), w.tangent(s.in), w.tangent(s.out));
    case StepKind::shift:
      return kernels::shift_forward(pool, shift_args(w, s), w.tangent(s.in), w.tangent(s.out));
    case StepKind::wkv:
      return kernels::wkv_jvp(pool, wkv_args(w, s), w.tangent(s.in), w.tangent(s.in2), w.tangent(s.out));
    case StepKind::trigram: {
      kernels::TrigramArgs args = trigram_args(w, s);
      args.padding = nullptr;  // padding does not move
      return kernels::trigram_forward(pool, args, w.tangent(s.in), w.tangent(s.out));
    }
    case StepKind::wkv7:
    case StepKind::bonus:
    case StepKind::lerp:
    case StepKind::join:
      return rwkv7_jvp(w, s);
  }
}

void run_forward(const Work& work) {
  const bool source_kept =
      work.pass.decode != nullptr && work.pass.decode->used > work.pass.prefix_tokens && work.segment.memory >= 0;
  for (const Step& step : work.segment.steps) {
    // Keys and values of the source: a decoder has them since its first position.
    if (source_kept && work.slot(work.segment.root(step.out)).stream != work.segment.stream) continue;
    step_forward(work, step);
  }
  block_forward(work);
}

void run_again(const Work& work) {
  for (std::size_t i = 0; i < work.segment.steps.size(); ++i) {
    if (work.memory.again_steps[i] != 0) step_forward(work, work.segment.steps[i]);
  }
}

void run_forward_jvp(const Work& work, const Flowing& flowing) {
  find_needs(work, flowing);
  const auto clear = [&](int slot) { std::memset(work.tangent(slot), 0, work.floats(slot) * sizeof(float)); };
  if (work.segment.input >= 0 && !flowing.input) clear(work.segment.input);
  if (work.segment.memory >= 0 && !flowing.memory) clear(work.segment.memory);
  for (const Step& step : work.segment.steps) {
    step_forward(work, step);
    const auto out = static_cast<std::size_t>(work.segment.root(step.out));
    if (work.pass.need[out] != 0) {
      step_jvp(work, step);
    } else if (!in_place(step)) {
      clear(step.out);
    }
  }
  block_jvp(work);
}

}  // namespace covey::model

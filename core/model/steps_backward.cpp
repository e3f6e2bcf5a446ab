#include <algorithm>
#include <cstring>

#include "core/kernels/embedding.h"
#include "core/model/parts.h"
#include "core/model/steps.h"

namespace covey::model {
namespace {

std::size_t root(const Work& w, int slot) {
  return static_cast<std::size_t>(w.segment.root(slot));
}

bool needed(const Work& w, int slot) {
  return slot >= 0 && w.pass.need[root(w, slot)] != 0;
}

/// Where to put a slot's gradient: nullptr where nobody wants it. `accumulate` says whether something is there already.
float* into(const Work& w, int slot, bool& accumulate) {
  if (!needed(w, slot)) return nullptr;
  std::uint8_t& ready = w.pass.ready[static_cast<std::size_t>(slot)];
  accumulate = ready != 0;
  ready = 1;
  return w.gradient(slot);
}

/// A gradient that passes on as it is.
void pass_on(const Work& w, int from, int to) {
  bool accumulate = false;
  float* d = into(w, to, accumulate);
  if (d == nullptr || d == w.gradient(from)) return;
  if (accumulate) {
    kernels::add(*w.pass.pool, w.floats(from), w.gradient(from), d);
  } else {
    std::memcpy(d, w.gradient(from), w.floats(from) * sizeof(float));
  }
}

/// A slot's value in the backward pass; cheap ones are made again.
const float* value(const Work& w, int slot) {
  if (slot < 0) return nullptr;
  const std::size_t of = root(w, slot);
  if (!w.segment.slots[of].cheap || w.pass.made[of] != 0) return w.again(slot);
  w.pass.made[of] = 1;
  const auto& steps = w.segment.steps;
  const auto made_by = std::find_if(steps.begin(), steps.end(), [&](const Step& s) { return root(w, s.out) == of; });
  ThreadPool& pool = *w.pass.pool;
  float* to = w.memory.again[of];
  if (made_by->kind == StepKind::norm) {
    kernels::norm_recompute(pool, norm_args(w, *made_by), value(w, made_by->in), to, norm_stats(w, *made_by));
  } else if (made_by->kind == StepKind::shift) {
    kernels::shift_forward(pool, shift_args(w, *made_by), value(w, made_by->in), to);
  } else {
    kernels::activation_forward(pool, activation_args(w, *made_by), value(w, made_by->in), value(w, made_by->in2), to);
  }
  return w.again(slot);
}

float* parameter(const Work& w, std::int64_t at) {
  return w.pass.tensor_gradient(at);
}

float* parameter_of_table(const Work& w, int table) {
  return parameter(w, w.pass.model->tables[static_cast<std::size_t>(table)].at);
}

void tokens_backward(const Work& w, const Step& s) {
  const Table& table = w.pass.model->tables[static_cast<std::size_t>(s.weight)];
  if (float* d = parameter(w, table.at); d != nullptr) {
    kernels::embedding_backward(*w.pass.pool, w.rows(s.out), table.width, w.stack().ids.data(), w.gradient(s.out), d);
  }
  if (w.pass.spec->prompt_tokens == 0 || w.pass.gradient == nullptr) return;
  const std::span<float> to = w.pass.gradient->prompt;
  for (const auto& row : w.stack().rows) {
    const float* from = w.gradient(s.out) + static_cast<std::ptrdiff_t>(row.q_begin) * table.width;
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  }
}

void norm_backward(const Work& w, const Step& s) {
  const NormWeights& n = w.pass.model->norms[static_cast<std::size_t>(s.weight)];
  const kernels::NormArgs args = norm_args(w, s);
  const kernels::NormStats stats = norm_stats(w, s);
  const float* x = value(w, s.in);
  float* dweight = parameter(w, n.w_at);
  float* dbias = parameter(w, n.b_at);
  if (dweight != nullptr || dbias != nullptr) {
    kernels::norm_backward_weight(*w.pass.pool, args, w.gradient(s.out), x, stats, dweight, dbias);
  }
  if (const int bias = Pass::part_at(w.pass.part_of_bias, n.bias); bias >= 0 && w.pass.gradient != nullptr) {
    kernels::norm_backward_weight(*w.pass.pool, args, w.gradient(s.out), x, stats, nullptr, w.pass.gradient_of(bias));
  }
  bool accumulate = false;
  if (float* dx = into(w, s.in, accumulate); dx != nullptr) {
    kernels::norm_backward(*w.pass.pool, args, w.gradient(s.out), x, stats, accumulate, dx);
  }
}

/// T5's table from the gradients by distance, summed over the batch's rows in order.
void relative_backward(const Work& w, const Step& s, const kernels::AttentionShape& shape) {
  const Table& table = w.pass.model->tables[static_cast<std::size_t>(s.weight)];
  float* to = parameter(w, table.at);
  const std::size_t width = static_cast<std::size_t>(2 * shape.reach - 1);
  const float* part = w.pass.relative_gradient.data();
  for (std::size_t r = 0; r < shape.rows.size(); ++r) {
    for (int h = 0; h < s.heads; ++h, part += width) {
      for (int d = 0; d < 2 * shape.reach - 1; ++d) {
        const int bucket = relative_bucket(w.pass.model->config, d - shape.reach + 1, !s.causal);
        to[bucket * s.heads + h] += part[d];
      }
    }
  }
}

void attention_backward(const Work& w, const Step& s) {
  kernels::AttentionShape shape = attention_shape(w, s);
  kernels::AttentionBackward args{
      value(w, s.in),    value(w, s.in2),  value(w, s.in3),   value(w, s.out),   w.value(s.stats),
      w.gradient(s.out), w.gradient(s.in), w.gradient(s.in2), w.gradient(s.in3), nullptr};
  const bool relative = s.relative && parameter_of_table(w, s.weight) != nullptr;
  if (relative) {
    const auto size =
        shape.rows.size() * static_cast<std::size_t>(s.heads) * static_cast<std::size_t>(2 * shape.reach - 1);
    w.pass.relative_gradient.assign(size, 0.0F);
    args.dbias = w.pass.relative_gradient.data();
  }
  if (const int part = Pass::part_at(w.pass.part_of_attention, s.attention); part >= 0) {
    prefixed_attention_backward(w, s, part, args);
  } else {
    kernels::attention_backward(*w.pass.pool, shape, args);
  }
  for (const int slot : {s.in, s.in2, s.in3}) w.pass.ready[static_cast<std::size_t>(slot)] = 1;
  if (relative) relative_backward(w, s, shape);
}

void activation_backward(const Work& w, const Step& s) {
  // Gradients of gate and up may lie where their values do; both are written whatever is needed.
  kernels::activation_backward(*w.pass.pool, activation_args(w, s), w.gradient(s.out), value(w, s.in), value(w, s.in2),
                               w.gradient(s.in), w.gradient(s.in2));
  for (const int slot : {s.in, s.in2}) {
    if (slot >= 0) w.pass.ready[static_cast<std::size_t>(slot)] = 1;
  }
}

void wkv_backward(const Work& w, const Step& s) {
  const kernels::WkvArgs args = wkv_args(w, s);
  const auto width = static_cast<std::size_t>(args.width);
  float* ddecay = parameter_of_table(w, s.weight);
  float* dfirst = parameter_of_table(w, s.weight2);
  const bool full = ddecay != nullptr || dfirst != nullptr;
  if (full) w.pass.relative_gradient.resize(2 * args.rows.size() * width);
  float* parts = full ? w.pass.relative_gradient.data() : nullptr;
  float* first_parts = full ? parts + args.rows.size() * width : nullptr;
  kernels::wkv_backward(
      *w.pass.pool, args,
      {value(w, s.out), w.value(s.stats), w.gradient(s.out), w.gradient(s.in), w.gradient(s.in2), parts, first_parts});
  for (const int slot : {s.in, s.in2}) w.pass.ready[static_cast<std::size_t>(slot)] = 1;
  if (!full) return;
  for (std::size_t i = 0; i < args.rows.size() * width; ++i) {
    if (ddecay != nullptr) ddecay[i % width] += parts[i];
    if (dfirst != nullptr) dfirst[i % width] += first_parts[i];
  }
}

void shift_backward(const Work& w, const Step& s) {
  const kernels::ShiftArgs args = shift_args(w, s);
  if (float* dmix = parameter_of_table(w, s.weight); dmix != nullptr) {
    kernels::shift_backward_mix(*w.pass.pool, args, w.gradient(s.out), value(w, s.in), dmix);
  }
  bool accumulate = false;
  if (float* dx = into(w, s.in, accumulate); dx != nullptr) {
    kernels::shift_backward(*w.pass.pool, args, w.gradient(s.out), accumulate, dx);
  }
}

void linear_step_backward(const Work& w, const Step& s) {
  const Linear& linear = w.pass.model->linears[static_cast<std::size_t>(s.weight)];
  const float* x = w.pass.trained(linear) ? value(w, s.in) : nullptr;
  bool accumulate = false;
  float* dx = into(w, s.in, accumulate);
  linear_backward(w.pass, linear, w.rows(s.in), x, w.gradient(s.out), dx, {accumulate, w.row(s.in)});
  if (s.base >= 0) pass_on(w, s.out, s.base);
}

void table_backward(const Work& w, const Step& s) {
  float* d = parameter_of_table(w, s.weight);
  if (d == nullptr) return;
  const auto& index = s.kind == StepKind::types ? w.stack().types : w.stack().position;
  const int width = w.slot(s.out).width;
  kernels::embedding_backward(*w.pass.pool, w.rows(s.out), width, index.data(), w.gradient(s.out), d, s.row_offset);
}

}  // namespace

const float* backward_value(const Work& work, int slot) {
  return value(work, slot);
}

float* backward_into(const Work& work, int slot, bool& accumulate) {
  return into(work, slot, accumulate);
}

void find_needs(const Work& w, const Flowing& flowing) {
  const std::size_t n = w.segment.slots.size();
  for (auto* flags : {&w.pass.need, &w.pass.ready, &w.pass.made}) flags->assign(n, 0);
  mark_needs(
      w.segment, flowing, [&](std::size_t i) { return training_of(w.pass, w.segment.steps[i]) != 0; }, w.pass.need);
}

void step_backward(const Work& w, const Step& s) {
  ThreadPool& pool = *w.pass.pool;
  switch (s.kind) {
    case StepKind::tokens:
      return tokens_backward(w, s);
    case StepKind::positions:
    case StepKind::types:
      return table_backward(w, s);
    case StepKind::linear:
      return linear_step_backward(w, s);
    case StepKind::norm:
      return norm_backward(w, s);
    case StepKind::rope:
      return kernels::rope_backward(pool, rope_args(w, s), w.gradient(s.out));
    case StepKind::scale:
      return kernels::scale(pool, w.floats(s.out), s.value, w.gradient(s.out));
    case StepKind::attention:
      return attention_backward(w, s);
    case StepKind::activation:
      return activation_backward(w, s);
    case StepKind::add:
      pass_on(w, s.out, s.in);
      return pass_on(w, s.out, s.base);
    case StepKind::shift:
      return shift_backward(w, s);
    case StepKind::wkv:
      return wkv_backward(w, s);
    case StepKind::trigram:
      return kernels::trigram_backward(pool, trigram_args(w, s), w.gradient(s.out), w.gradient(s.in));
    case StepKind::wkv7:
    case StepKind::bonus:
    case StepKind::lerp:
    case StepKind::join:
      if (s.base >= 0) pass_on(w, s.out, s.base);
      return rwkv7_backward(w, s);
  }
}

void run_backward(const Work& w, const Flowing& flowing) {
  find_needs(w, flowing);
  w.pass.ready[static_cast<std::size_t>(w.segment.output)] = 1;
  if (w.segment.memory >= 0) w.pass.ready[static_cast<std::size_t>(w.segment.memory)] = 1;  // cleared, then added to
  block_backward(w);
  for (std::size_t i = w.segment.steps.size(); i-- > 0;) {
    const Step& step = w.segment.steps[i];
    if (needed(w, step.out)) step_backward(w, step);
  }
}

}  // namespace covey::model

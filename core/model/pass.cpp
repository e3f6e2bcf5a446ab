#include "core/model/pass.h"

#include <algorithm>

#include "core/kernels/elementwise.h"
#include "core/kernels/gemm.h"

namespace covey::model {
namespace {

constexpr int kRankMax = 4096;

Error bad(const std::string& what) {
  return Error{ErrorCode::invalid_argument, what};
}

template <typename Float>
Status check_view(const Model::Impl& model, const AdapterSpec& spec, const BasicAdapterView<Float>& view,
                  const char* what) {
  if (view.lora.size() != spec.lora.size()) {
    return bad(std::string(what) + ": holds " + std::to_string(view.lora.size()) + " LoRA sites, its spec " +
               std::to_string(spec.lora.size()));
  }
  for (std::size_t i = 0; i < spec.lora.size(); ++i) {
    const LinearSite& site = model.sites[static_cast<std::size_t>(spec.lora[i].site)];
    const auto rank = static_cast<std::size_t>(spec.lora[i].rank);
    if (view.lora[i].a.size() != rank * static_cast<std::size_t>(site.in) ||
        view.lora[i].b.size() != rank * static_cast<std::size_t>(site.out)) {
      return bad(std::string(what) + ": the sizes of A and B do not fit " + site.path);
    }
  }
  const auto width = static_cast<std::size_t>(model.config.embedding_width());
  if (view.head.size() != static_cast<std::size_t>(spec.head_values)) {
    return bad(std::string(what) + ": the head is not " + std::to_string(spec.head_values) + " values");
  }
  if (view.prompt.size() != static_cast<std::size_t>(spec.prompt_tokens) * width) {
    return bad(std::string(what) + ": the soft prompt is not (" + std::to_string(spec.prompt_tokens) + ", " +
               std::to_string(width) + ")");
  }
  return {};
}

}  // namespace

Status set_adapter(Pass& pass, const AdapterSpec& spec, const AdapterView& adapter, const AdapterGradView* gradient) {
  const Model::Impl& model = *pass.model;
  pass.lora_of_site.assign(model.sites.size(), -1);
  if (spec.prompt_tokens < 0) return bad("adapter: prompt_tokens is negative");
  for (std::size_t i = 0; i < spec.lora.size(); ++i) {
    const LoraSite& lora = spec.lora[i];
    if (lora.site < 0 || static_cast<std::size_t>(lora.site) >= model.sites.size()) {
      return bad("adapter: there is no linear layer " + std::to_string(lora.site) + " in this model");
    }
    const LinearSite& site = model.sites[static_cast<std::size_t>(lora.site)];
    if (lora.rank < 1 || lora.rank > kRankMax) {
      return bad("adapter: rank " + std::to_string(lora.rank) + " does not fit " + site.path);
    }
    int& slot = pass.lora_of_site[static_cast<std::size_t>(lora.site)];
    if (slot >= 0) return bad("adapter: two LoRA entries for " + site.path);
    slot = static_cast<int>(i);
  }
  if (spec.head_values != 0 && model.head_count == 0) {
    return bad("adapter: this model has no classification head to train");
  }
  if (spec.head_values != 0 && spec.head_values != model.head_count) {
    return bad("adapter: its head has " + std::to_string(spec.head_values) + " values, the model's " +
               std::to_string(model.head_count));
  }
  if (spec.prompt_tokens > 0 && model.config.task != Task::causal_lm) {
    return bad("adapter: soft prompts are for causal language models");
  }
  COVEY_TRY(check_view(model, spec, adapter, "adapter"));
  if (gradient != nullptr) COVEY_TRY(check_view(model, spec, *gradient, "adapter gradient"));
  pass.spec = &spec;
  pass.adapter = &adapter;
  pass.gradient = gradient;
  return {};
}

Status set_direction(Pass& pass, const AdapterView& direction) {
  COVEY_TRY(check_view(*pass.model, *pass.spec, direction, "direction"));
  pass.direction = &direction;
  return {};
}

void StackRows::clear() {
  N = 0;
  rows.clear();
  for (auto* list : {&position, &angle, &ids, &types}) list->clear();
  padded.clear();
}

void StackRows::reserve(std::size_t batch, std::size_t positions) {
  rows.reserve(batch);
  for (auto* list : {&position, &angle, &ids, &types}) list->reserve(positions);
  padded.reserve(positions);
}

namespace {

std::string shape(int b, int t) {
  return "(" + std::to_string(b) + ", " + std::to_string(t) + ")";
}

Error outside(const char* what, std::int32_t id, int count) {
  return bad(std::string("batch: ") + what + " " + std::to_string(id) + " is outside the vocabulary of " +
             std::to_string(count));
}

Status check_shapes(const Pass& pass, const TokenBatch& batch, const EngineOptions& options, bool want_targets) {
  const ModelConfig& config = pass.model->config;
  const int P = pass.spec->prompt_tokens;
  if (batch.B < 1 || batch.T < 1 || batch.B > options.batch_max || batch.T > options.seq_max) {
    return bad("batch " + shape(batch.B, batch.T) + ": the engine was made for up to " +
               shape(options.batch_max, options.seq_max));
  }
  if (P > options.prompt_tokens_max) {
    return bad("the engine was made for up to " + std::to_string(options.prompt_tokens_max) + " virtual tokens, not " +
               std::to_string(P));
  }
  const auto rows = static_cast<std::size_t>(batch.B);
  const std::size_t size = rows * static_cast<std::size_t>(batch.T);
  if (batch.ids.size() != size) return bad("batch: ids are not " + shape(batch.B, batch.T));
  if (!batch.types.empty() && batch.types.size() != size) return bad("batch: types are not " + shape(batch.B, batch.T));
  if (!batch.lengths.empty() && batch.lengths.size() != rows) return bad("batch: lengths are not (B)");
  if (!batch.first_targets.empty() && batch.first_targets.size() != rows) {
    return bad("batch: first_targets are not (B)");
  }
  std::size_t targets = size;
  if (config.task == Task::classification) targets = rows;
  if (config.two_stacks()) {
    if (batch.T2 < 1 || batch.T2 > options.target_seq_max) {
      return bad("batch: the second stack's rows have " + std::to_string(batch.T2) +
                 " positions; the engine was made for up to " + std::to_string(options.target_seq_max));
    }
    targets = rows * static_cast<std::size_t>(batch.T2);
    if (batch.second_ids.size() != targets) return bad("batch: second_ids are not " + shape(batch.B, batch.T2));
  }
  if (want_targets && batch.targets.size() != targets)
    return bad("batch: targets are not one per position that has one");
  return {};
}

Status check_batch(const Pass& pass, const TokenBatch& batch, const EngineOptions& options, bool want_targets) {
  COVEY_TRY(check_shapes(pass, batch, options, want_targets));
  const ModelConfig& config = pass.model->config;
  const int V = config.vocab_size;
  const auto is_target = [&](std::int32_t id) { return id == kNoTarget || (id >= 0 && id < config.outputs()); };
  for (int b = 0; b < batch.B; ++b) {
    const auto row = static_cast<std::size_t>(b);
    const int length = batch.lengths.empty() ? batch.T : batch.lengths[row];
    if (length < 1 || length > batch.T) return bad("batch: length " + std::to_string(length) + " of a row");
    if (!batch.first_targets.empty() && !is_target(batch.first_targets[row])) return bad("batch: target out of range");
    for (int t = 0; t < batch.T; ++t) {
      const std::size_t at = row * static_cast<std::size_t>(batch.T) + static_cast<std::size_t>(t);
      if (t < length && (batch.ids[at] < 0 || batch.ids[at] >= V)) return outside("token", batch.ids[at], V);
      if (t < length && !batch.types.empty() &&
          (batch.types[at] < 0 || batch.types[at] >= std::max(config.type_vocab, 1))) {
        return outside("token type", batch.types[at], config.type_vocab);
      }
      const bool here = want_targets && config.task != Task::classification && !config.two_stacks();
      if (here && t >= length && batch.targets[at] != kNoTarget) return bad("batch: a target on padding");
    }
  }
  for (const std::int32_t id : batch.second_ids) {
    if (id < 0 || id >= V) return outside("token", id, V);
  }
  if (!want_targets) return {};
  for (const std::int32_t id : batch.targets) {
    if (!is_target(id)) return outside("target", id, config.outputs());
  }
  return {};
}

void add_row(StackRows& stack, int length) {
  stack.rows.push_back({stack.N, length, stack.N, length});
  stack.N += length;
}

/// longrope's tables hold the short factors' rows, then those of the long ones.
int first_angle(const Pass& pass, int length, const EngineOptions& options) {
  const RopeConfig& rope = pass.model->config.rope;
  const bool is_long = rope.scaling == RopeScaling::longrope && length > rope.original_context;
  return is_long ? options.seq_max + options.prompt_tokens_max : 0;
}

void pack_first(Pass& pass, const TokenBatch& batch, const EngineOptions& options) {
  const int P = pass.spec->prompt_tokens;
  StackRows& stack = pass.stack[0];
  for (int b = 0; b < batch.B; ++b) {
    const auto row = static_cast<std::size_t>(b);
    const int tokens = batch.lengths.empty() ? batch.T : batch.lengths[row];
    const int length = P + tokens;
    const int angle = first_angle(pass, length, options);
    add_row(stack, length);
    for (int i = 0; i < length; ++i) {
      const std::size_t at = row * static_cast<std::size_t>(batch.T) + static_cast<std::size_t>(i < P ? 0 : i - P);
      stack.position.push_back(i);
      stack.angle.push_back(angle + i);
      stack.ids.push_back(i < P ? -1 : batch.ids[at]);
      stack.types.push_back(i < P || batch.types.empty() ? 0 : batch.types[at]);
      stack.padded.push_back(i + 1 == length && tokens < batch.T ? 1 : 0);
    }
  }
}

void pack_second(Pass& pass, const TokenBatch& batch) {
  StackRows& stack = pass.stack[1];
  pass.cross.clear();
  for (int b = 0; b < batch.B; ++b) {
    const auto& seen = pass.stack[0].rows[static_cast<std::size_t>(b)];
    pass.cross.push_back({stack.N, batch.T2, seen.kv_begin, seen.kv_count});
    add_row(stack, batch.T2);
    for (int i = 0; i < batch.T2; ++i) {
      stack.position.push_back(i);
      stack.angle.push_back(i);
      stack.ids.push_back(batch.second_ids[static_cast<std::size_t>(b * batch.T2 + i)]);
      stack.types.push_back(0);
      stack.padded.push_back(0);
    }
  }
}

void pack_targets(Pass& pass, const TokenBatch& batch) {
  const int P = pass.spec->prompt_tokens;
  const auto add = [&](int at, std::int32_t id) {
    if (id == kNoTarget) return;
    pass.target_row.push_back(at);
    pass.target.push_back(id);
  };
  const auto& rows = pass.last().rows;
  for (std::size_t b = 0; b < rows.size(); ++b) {
    const int begin = rows[b].q_begin;
    if (pass.model->config.task == Task::classification) {
      add(pooled_row(pass.model->config, rows[b]), batch.targets[b]);
      continue;
    }
    const std::size_t width = static_cast<std::size_t>(pass.model->config.two_stacks() ? batch.T2 : batch.T);
    if (P > 0 && !batch.first_targets.empty()) add(begin + P - 1, batch.first_targets[b]);
    for (int i = P; i < rows[b].q_count; ++i) {
      add(begin + i, batch.targets[b * width + static_cast<std::size_t>(i - P)]);
    }
  }
}

}  // namespace

int pooled_row(const ModelConfig& config, const kernels::AttentionRow& row) {
  return config.pooler == Pooler::last_token ? row.q_begin + row.q_count - 1 : row.q_begin;
}

Status set_batch(Pass& pass, const TokenBatch& batch, const EngineOptions& options, bool want_targets) {
  COVEY_TRY(check_batch(pass, batch, options, want_targets));
  for (StackRows& stack : pass.stack) stack.clear();
  pass.target_row.clear();
  pass.target.clear();
  pack_first(pass, batch, options);
  if (pass.model->config.two_stacks()) pack_second(pass, batch);
  if (want_targets) pack_targets(pass, batch);
  reserve_lora(pass, std::max(pass.stack[0].N, pass.stack[1].N));
  return {};
}

void reserve_lora(Pass& pass, int N) {
  int rank = 0;
  for (const LoraSite& lora : pass.spec->lora) rank = std::max(rank, lora.rank);
  const std::size_t size = static_cast<std::size_t>(rank) * static_cast<std::size_t>(N);
  if (pass.u.size() < size) {
    pass.u.resize(size);
    pass.du.resize(size);
  }
}

namespace {

struct Values {
  const float* w;
  const float* b;
};

/// The model's own weights, or the trained head's.
Values values_of(const Pass& pass, const Linear& linear) {
  if (!pass.own_head(linear)) return {linear.w, linear.b};
  const float* head = pass.adapter->head.data();
  return {head + linear.head_w_at, linear.head_b_at < 0 ? nullptr : head + linear.head_b_at};
}

/// y = W x, whichever way W lies.
void multiply(ThreadPool& pool, const Linear& l, const float* w, int N, const float* x, float* y, LinearOptions o) {
  const kernels::GemmOptions options{.alpha = 1, .accumulate = o.accumulate, .a_row = o.x_row};
  if (l.in_out) {
    kernels::gemm_nn(pool, N, l.out, l.in, x, w, y, options);
  } else {
    kernels::gemm_nt(pool, N, l.out, l.in, x, w, y, options);
  }
}

void weight_gradient(ThreadPool& pool, const Linear& l, int N, const float* x, const float* dy, float* dw, float* db,
                     long x_row) {
  if (l.in_out) {
    kernels::gemm_tn(pool, l.in, l.out, N, x, dy, dw, {.alpha = 1, .accumulate = true, .a_row = x_row});
  } else {
    kernels::gemm_tn(pool, l.out, l.in, N, dy, x, dw, {.alpha = 1, .accumulate = true, .b_row = x_row});
  }
  if (db != nullptr) kernels::bias_backward(pool, N, l.out, dy, db);
}

}  // namespace

void linear_forward(Pass& pass, const Linear& linear, int N, const float* x, float* y, LinearOptions options) {
  ThreadPool& pool = *pass.pool;
  const Values values = values_of(pass, linear);
  multiply(pool, linear, values.w, N, x, y, options);
  if (values.b != nullptr) kernels::add_bias(pool, N, linear.out, values.b, y);
  const int index = pass.lora(linear);
  if (index < 0) return;
  const LoraSite& lora = pass.spec->lora[static_cast<std::size_t>(index)];
  const auto& ab = pass.adapter->lora[static_cast<std::size_t>(index)];
  kernels::gemm_nt(pool, N, lora.rank, linear.in, x, ab.a.data(), pass.u.data(), {.a_row = options.x_row});
  kernels::gemm_nt(pool, N, linear.out, lora.rank, pass.u.data(), ab.b.data(), y,
                   {.alpha = lora.scale, .accumulate = true});
}

void linear_backward(Pass& pass, const Linear& linear, int N, const float* x, const float* dy, float* dx,
                     LinearOptions options) {
  ThreadPool& pool = *pass.pool;
  const long x_row = options.x_row;
  if (dx != nullptr) {
    const kernels::GemmOptions to{.alpha = 1, .accumulate = options.accumulate, .y_row = x_row};
    const float* w = values_of(pass, linear).w;
    if (linear.in_out) {
      kernels::gemm_nt(pool, N, linear.in, linear.out, dy, w, dx, to);
    } else {
      kernels::gemm_nn(pool, N, linear.in, linear.out, dy, w, dx, to);
    }
  }
  if (pass.full_gradient != nullptr) {
    weight_gradient(pool, linear, N, x, dy, pass.full_gradient + linear.w_at,
                    linear.b_at < 0 ? nullptr : pass.full_gradient + linear.b_at, x_row);
  } else if (pass.gradient != nullptr && pass.own_head(linear)) {
    float* head = pass.gradient->head.data();
    weight_gradient(pool, linear, N, x, dy, head + linear.head_w_at,
                    linear.head_b_at < 0 ? nullptr : head + linear.head_b_at, x_row);
  }
  const int index = pass.lora(linear);
  if (index < 0) return;
  const LoraSite& lora = pass.spec->lora[static_cast<std::size_t>(index)];
  const auto& values = pass.adapter->lora[static_cast<std::size_t>(index)];
  const bool trained = pass.gradient != nullptr;
  if (!trained && dx == nullptr) return;
  kernels::gemm_nn(pool, N, lora.rank, linear.out, dy, values.b.data(), pass.du.data(), {.alpha = lora.scale});
  if (dx != nullptr) {
    kernels::gemm_nn(pool, N, linear.in, lora.rank, pass.du.data(), values.a.data(), dx,
                     {.alpha = 1, .accumulate = true, .y_row = x_row});
  }
  if (trained) {
    const auto& gradient = pass.gradient->lora[static_cast<std::size_t>(index)];
    kernels::gemm_tn(pool, lora.rank, linear.in, N, pass.du.data(), x, gradient.a.data(),
                     {.alpha = 1, .accumulate = true, .b_row = x_row});
    kernels::gemm_nt(pool, N, lora.rank, linear.in, x, values.a.data(), pass.u.data(), {.a_row = x_row});
    kernels::gemm_tn(pool, linear.out, lora.rank, N, dy, pass.u.data(), gradient.b.data(),
                     {.alpha = lora.scale, .accumulate = true});
  }
}

void linear_jvp(Pass& pass, const Linear& linear, int N, const float* x, const float* x_t, float* y_t,
                LinearOptions options) {
  ThreadPool& pool = *pass.pool;
  multiply(pool, linear, values_of(pass, linear).w, N, x_t, y_t, options);
  if (pass.own_head(linear)) {
    const float* head = pass.direction->head.data();
    LinearOptions more = options;
    more.accumulate = true;
    multiply(pool, linear, head + linear.head_w_at, N, x, y_t, more);
    if (linear.head_b_at >= 0) kernels::add_bias(pool, N, linear.out, head + linear.head_b_at, y_t);
  }
  const int index = pass.lora(linear);
  if (index < 0) return;
  const auto i = static_cast<std::size_t>(index);
  const LoraSite& lora = pass.spec->lora[i];
  const auto& values = pass.adapter->lora[i];
  const auto& direction = pass.direction->lora[i];
  const long x_row = options.x_row;
  // d(B A x) = B (A dx + dA x) + dB (A x)
  kernels::gemm_nt(pool, N, lora.rank, linear.in, x_t, values.a.data(), pass.du.data(), {.a_row = x_row});
  kernels::gemm_nt(pool, N, lora.rank, linear.in, x, direction.a.data(), pass.du.data(),
                   {.alpha = 1, .accumulate = true, .a_row = x_row});
  kernels::gemm_nt(pool, N, linear.out, lora.rank, pass.du.data(), values.b.data(), y_t,
                   {.alpha = lora.scale, .accumulate = true});
  kernels::gemm_nt(pool, N, lora.rank, linear.in, x, values.a.data(), pass.u.data(), {.a_row = x_row});
  kernels::gemm_nt(pool, N, linear.out, lora.rank, pass.u.data(), direction.b.data(), y_t,
                   {.alpha = lora.scale, .accumulate = true});
}

}  // namespace covey::model

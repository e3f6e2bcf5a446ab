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
  const auto width = static_cast<std::size_t>(model.config.hidden_size);
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

namespace {

Status check_batch(const Pass& pass, const TokenBatch& batch, const EngineOptions& options, bool want_targets) {
  const int P = pass.spec->prompt_tokens;
  const int V = pass.model->config.vocab_size;
  const auto shape = [](int b, int t) { return "(" + std::to_string(b) + ", " + std::to_string(t) + ")"; };
  if (batch.B < 1 || batch.T < 1 || batch.B > options.batch_max || batch.T > options.seq_max) {
    return bad("batch " + shape(batch.B, batch.T) + ": the engine was made for up to " +
               shape(options.batch_max, options.seq_max));
  }
  if (P > options.prompt_tokens_max) {
    return bad("the engine was made for up to " + std::to_string(options.prompt_tokens_max) + " virtual tokens, not " +
               std::to_string(P));
  }
  const auto size = static_cast<std::size_t>(batch.B) * static_cast<std::size_t>(batch.T);
  if (batch.ids.size() != size) return bad("batch: ids are not " + shape(batch.B, batch.T));
  if (want_targets && batch.targets.size() != size) return bad("batch: targets are not " + shape(batch.B, batch.T));
  const auto rows = static_cast<std::size_t>(batch.B);
  if (!batch.lengths.empty() && batch.lengths.size() != rows) return bad("batch: lengths are not (B)");
  if (!batch.first_targets.empty() && batch.first_targets.size() != rows) {
    return bad("batch: first_targets are not (B)");
  }
  const auto is_target = [V](std::int32_t id) { return id == kNoTarget || (id >= 0 && id < V); };
  for (int b = 0; b < batch.B; ++b) {
    const auto row = static_cast<std::size_t>(b);
    const int length = batch.lengths.empty() ? batch.T : batch.lengths[row];
    if (length < 1 || length > batch.T) return bad("batch: length " + std::to_string(length) + " of a row");
    if (!batch.first_targets.empty() && !is_target(batch.first_targets[row])) return bad("batch: target out of range");
    for (int t = 0; t < batch.T; ++t) {
      const std::size_t at = row * static_cast<std::size_t>(batch.T) + static_cast<std::size_t>(t);
      if (t < length && (batch.ids[at] < 0 || batch.ids[at] >= V)) {
        return bad("batch: token " + std::to_string(batch.ids[at]) + " is outside the vocabulary of " +
                   std::to_string(V));
      }
      if (!want_targets) continue;
      if (!is_target(batch.targets[at])) {
        return bad("batch: target " + std::to_string(batch.targets[at]) + " is outside the vocabulary of " +
                   std::to_string(V));
      }
      if (t >= length && batch.targets[at] != kNoTarget) return bad("batch: a target on padding");
    }
  }
  return {};
}

}  // namespace

Status set_batch(Pass& pass, const TokenBatch& batch, const EngineOptions& options, bool want_targets) {
  COVEY_TRY(check_batch(pass, batch, options, want_targets));
  const int P = pass.spec->prompt_tokens;
  pass.rows.clear();
  pass.position.clear();
  pass.ids.clear();
  pass.target_row.clear();
  pass.target.clear();
  const auto add_target = [&](std::int32_t id) {  // of the position about to be added
    if (id == kNoTarget) return;
    pass.target_row.push_back(static_cast<std::int32_t>(pass.ids.size()));
    pass.target.push_back(id);
  };
  for (int b = 0; b < batch.B; ++b) {
    const auto row = static_cast<std::size_t>(b);
    const int length = P + (batch.lengths.empty() ? batch.T : batch.lengths[row]);
    const int begin = static_cast<int>(pass.ids.size());
    pass.rows.push_back({begin, length, begin, length});
    for (int i = 0; i < length; ++i) {
      const std::size_t at = row * static_cast<std::size_t>(batch.T) + static_cast<std::size_t>(i < P ? 0 : i - P);
      if (want_targets && i >= P) add_target(batch.targets[at]);
      if (want_targets && i == P - 1 && !batch.first_targets.empty()) add_target(batch.first_targets[row]);
      pass.position.push_back(i);
      pass.ids.push_back(i < P ? -1 : batch.ids[at]);
    }
  }
  pass.N = static_cast<int>(pass.ids.size());
  reserve_lora(pass, pass.N);
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

void linear_forward(Pass& pass, const Linear& linear, int N, const float* x, float* y, bool accumulate) {
  ThreadPool& pool = *pass.pool;
  kernels::gemm_nt(pool, N, linear.out, linear.in, x, linear.w, y, {.alpha = 1, .accumulate = accumulate});
  if (linear.b != nullptr) kernels::add_bias(pool, N, linear.out, linear.b, y);
  const int index = pass.lora(linear);
  if (index < 0) return;
  const LoraSite& lora = pass.spec->lora[static_cast<std::size_t>(index)];
  const auto& values = pass.adapter->lora[static_cast<std::size_t>(index)];
  kernels::gemm_nt(pool, N, lora.rank, linear.in, x, values.a.data(), pass.u.data());
  kernels::gemm_nt(pool, N, linear.out, lora.rank, pass.u.data(), values.b.data(), y,
                   {.alpha = lora.scale, .accumulate = true});
}

void linear_backward(Pass& pass, const Linear& linear, int N, const float* x, const float* dy, float* dx,
                     bool accumulate) {
  ThreadPool& pool = *pass.pool;
  if (dx != nullptr) {
    kernels::gemm_nn(pool, N, linear.in, linear.out, dy, linear.w, dx, {.alpha = 1, .accumulate = accumulate});
  }
  if (pass.full_gradient != nullptr) {
    kernels::gemm_tn(pool, linear.out, linear.in, N, dy, x, pass.full_gradient + linear.w_at,
                     {.alpha = 1, .accumulate = true});
    if (linear.b != nullptr) kernels::bias_backward(pool, N, linear.out, dy, pass.full_gradient + linear.b_at);
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
                     {.alpha = 1, .accumulate = true});
  }
  if (trained) {
    const auto& gradient = pass.gradient->lora[static_cast<std::size_t>(index)];
    kernels::gemm_tn(pool, lora.rank, linear.in, N, pass.du.data(), x, gradient.a.data(),
                     {.alpha = 1, .accumulate = true});
    kernels::gemm_nt(pool, N, lora.rank, linear.in, x, values.a.data(), pass.u.data());
    kernels::gemm_tn(pool, linear.out, lora.rank, N, dy, pass.u.data(), gradient.b.data(),
                     {.alpha = lora.scale, .accumulate = true});
  }
}

void linear_jvp(Pass& pass, const Linear& linear, int N, const float* x, const float* x_t, float* y_t,
                bool accumulate) {
  ThreadPool& pool = *pass.pool;
  kernels::gemm_nt(pool, N, linear.out, linear.in, x_t, linear.w, y_t, {.alpha = 1, .accumulate = accumulate});
  const int index = pass.lora(linear);
  if (index < 0) return;
  const auto i = static_cast<std::size_t>(index);
  const LoraSite& lora = pass.spec->lora[i];
  const auto& values = pass.adapter->lora[i];
  const auto& direction = pass.direction->lora[i];
  // d(B A x) = B (A dx + dA x) + dB (A x)
  kernels::gemm_nt(pool, N, lora.rank, linear.in, x_t, values.a.data(), pass.du.data());
  kernels::gemm_nt(pool, N, lora.rank, linear.in, x, direction.a.data(), pass.du.data(),
                   {.alpha = 1, .accumulate = true});
  kernels::gemm_nt(pool, N, linear.out, lora.rank, pass.du.data(), values.b.data(), y_t,
                   {.alpha = lora.scale, .accumulate = true});
  kernels::gemm_nt(pool, N, lora.rank, linear.in, x, values.a.data(), pass.u.data());
  kernels::gemm_nt(pool, N, linear.out, lora.rank, pass.u.data(), direction.b.data(), y_t,
                   {.alpha = lora.scale, .accumulate = true});
}

}  // namespace covey::model

#include "core/model/buffers.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace covey::model {
namespace {

/// Hands out consecutive 64-byte aligned pieces of a block, or only counts them where there is no block yet.
class Layout {
 public:
  explicit Layout(void* memory) : memory_(static_cast<std::uint8_t*>(memory)) {}

  template <typename T = float>
  T* take(std::uint64_t count) {
    T* piece = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return piece;
  }
  [[nodiscard]] std::uint64_t used() const { return used_; }
  void rewind(std::uint64_t used) { used_ = used; }

 private:
  std::uint8_t* memory_;
  std::uint64_t used_ = 0;
};

struct Sizes {
  std::uint64_t N, H, I, QW, KW, heads, V, positions, half;
};

Sizes sizes_of(const ModelConfig& c, const EngineOptions& o) {
  const auto u = [](int value) { return static_cast<std::uint64_t>(std::max(value, 0)); };
  const std::uint64_t positions = u(o.seq_max) + u(o.prompt_tokens_max);
  return {u(o.batch_max) * positions,
          u(c.hidden_size),
          u(c.intermediate_size),
          u(c.q_width()),
          u(c.kv_width()),
          u(c.heads),
          u(c.vocab_size),
          positions,
          u(c.head_dim) / 2};
}

void lay_out_block(Layout& layout, const Sizes& s, BlockBuffers& b) {
  b.inverse1 = layout.take(s.N);
  b.q = layout.take(s.N * s.QW);
  b.k_all = b.k = layout.take(s.N * s.KW);
  b.v_all = b.v = layout.take(s.N * s.KW);
  b.attended = layout.take(s.N * s.QW);
  b.lse = layout.take(s.N * s.heads);
  b.x_mid = layout.take(s.N * s.H);
  b.inverse2 = layout.take(s.N);
  b.gate = layout.take(s.N * s.I);
  b.up = layout.take(s.N * s.I);
}

void lay_out_backward(Layout& layout, const Sizes& s, Buffers& b) {
  b.dx = layout.take(s.N * s.H);
  b.dnormed = layout.take(s.N * s.H);
  const std::uint64_t begin = layout.used();
  b.dinner = layout.take(s.N * s.I);
  const std::uint64_t end = layout.used();
  layout.rewind(begin);
  b.dq = layout.take(s.N * s.QW);
  b.dk = layout.take(s.N * s.KW);
  b.dv = layout.take(s.N * s.KW);
  b.dattended = layout.take(s.N * s.QW);
  layout.rewind(std::max(end, layout.used()));
}

void lay_out_tangents(Layout& layout, const Sizes& s, std::uint64_t C, Tangents& t) {
  t.x = layout.take(s.N * s.H);
  t.q = layout.take(s.N * s.QW);
  t.k = layout.take(s.N * s.KW);
  t.v = layout.take(s.N * s.KW);
  t.attended = layout.take(s.N * s.QW);
  t.gate = layout.take(s.N * s.I);
  t.up = layout.take(s.N * s.I);
  t.normed = layout.take(s.N * s.H);
  t.inner = layout.take(s.N * s.I);
  t.head_x = layout.take(C * s.H);
  t.head_normed = layout.take(C * s.H);
  t.head_logits = layout.take(C * s.V);
  t.head_loss = layout.take<double>(C);
}

void lay_out(Layout& layout, const ModelConfig& config, const EngineOptions& options, Buffers& b) {
  const Sizes s = sizes_of(config, options);
  const bool keep_all = options.training && !options.checkpoint;
  b.blocks.assign(static_cast<std::size_t>(config.layers), {});
  BlockBuffers shared;
  if (!keep_all) lay_out_block(layout, s, shared);
  float* x = nullptr;
  for (BlockBuffers& block : b.blocks) {
    if (keep_all) {
      lay_out_block(layout, s, block);
    } else {
      block = shared;
    }
    if (options.training || x == nullptr) x = layout.take(s.N * s.H);
    block.x_in = x;
  }
  b.x_out = options.training ? layout.take(s.N * s.H) : x;
  b.normed = layout.take(s.N * s.H);
  b.inner = layout.take(s.N * s.I);
  if (options.training) lay_out_backward(layout, s, b);

  // Few enough rows that the logits stay small, enough of them that the head's weights are read seldom.
  const std::uint64_t rows = std::clamp<std::uint64_t>((std::uint64_t{1} << 20) / s.V, 64, 256);
  const std::uint64_t C = std::min(rows, s.N);
  b.chunk = static_cast<int>(C);
  b.head_x = layout.take(C * s.H);
  b.head_inverse = layout.take(C);
  b.head_normed = layout.take(C * s.H);
  b.head_logits = layout.take(C * s.V);
  if (options.training) {
    b.head_dnormed = layout.take(C * s.H);
    b.head_dx = layout.take(C * s.H);
  }
  b.head_loss = layout.take<double>(C);
  b.head_correct = layout.take<std::uint8_t>(C);
  if (options.tangent) lay_out_tangents(layout, s, C, b.tangent);
  b.cosine = layout.take(s.positions * s.half);
  b.sine = layout.take(s.positions * s.half);
}

}  // namespace

void Buffers::Free::operator()(void* block) const {
  std::free(block);
}

std::uint64_t buffer_bytes(const ModelConfig& config, const EngineOptions& options) {
  Layout layout(nullptr);
  Buffers buffers;
  lay_out(layout, config, options, buffers);
  return layout.used();
}

Result<Buffers> make_buffers(const ModelConfig& config, const EngineOptions& options) {
  Buffers b;
  b.bytes = buffer_bytes(config, options);
  b.memory.reset(std::aligned_alloc(64, b.bytes));
  if (b.memory == nullptr) {
    return Error{ErrorCode::resource_exhausted, "no memory for " + std::to_string(b.bytes) +
                                                    " bytes of buffers; take a smaller batch or shorter sequences"};
  }
  Layout layout(b.memory.get());
  lay_out(layout, config, options, b);
  fill_rope_tables(config, options.seq_max + options.prompt_tokens_max, b.cosine, b.sine);
  return b;
}

void fill_rope_tables(const ModelConfig& config, int positions, float* cosine, float* sine) {
  const std::vector<float> angles = rope_angles(config, positions);
  for (std::size_t i = 0; i < angles.size(); ++i) {
    cosine[i] = static_cast<float>(std::cos(static_cast<double>(angles[i])));
    sine[i] = static_cast<float>(std::sin(static_cast<double>(angles[i])));
  }
}

MemoryPlan plan_memory(const ModelConfig& config, const AdapterSpec& spec, const std::vector<LinearSite>& sites,
                       const EngineOptions& options, int optimizer_floats_per_parameter) {
  MemoryPlan plan;
  const auto u = [](int value) { return static_cast<std::uint64_t>(std::max(value, 0)); };
  std::uint64_t weights = u(config.vocab_size) * u(config.hidden_size) + u(config.hidden_size);  // table, final norm
  weights += u(config.layers) * 2 * u(config.hidden_size);
  std::uint64_t adapter = u(spec.prompt_tokens) * u(config.hidden_size);
  for (const LinearSite& site : sites) {
    weights += u(site.in) * u(site.out);
    const bool bias =
        (config.qkv_bias && (site.leaf == "q_proj" || site.leaf == "k_proj" || site.leaf == "v_proj")) ||
        (config.o_bias && site.leaf == "o_proj") ||
        (config.mlp_bias && (site.leaf == "gate_proj" || site.leaf == "up_proj" || site.leaf == "down_proj"));
    if (bias) weights += u(site.out);
  }
  std::uint64_t rank = 0;
  for (const LoraSite& lora : spec.lora) {
    if (lora.site < 0 || static_cast<std::size_t>(lora.site) >= sites.size()) continue;
    const LinearSite& site = sites[static_cast<std::size_t>(lora.site)];
    adapter += u(lora.rank) * (u(site.in) + u(site.out));
    rank = std::max(rank, u(lora.rank));
  }
  const std::uint64_t copies = 1 + (options.training ? 1 + u(optimizer_floats_per_parameter) : 0);
  plan.weights_bytes = weights * sizeof(float);
  plan.adapter_bytes = adapter * copies * sizeof(float);
  const std::uint64_t N = u(options.batch_max) * (u(options.seq_max) + u(options.prompt_tokens_max));
  plan.buffers_bytes = buffer_bytes(config, options) + 2 * N * rank * sizeof(float);
  return plan;
}

}  // namespace covey::model

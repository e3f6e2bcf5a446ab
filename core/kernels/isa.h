/// The inner loops that are compiled once per instruction set, behind one table. Internal to core/kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/kernels/activation.h"
#include "core/kernels/attention.h"
#include "core/kernels/norm.h"
#include "core/kernels/rope.h"
#include "core/kernels/wkv.h"
#include "core/kernels/wkv7.h"

namespace covey::kernels {

enum class GemmOp { nt, nn, tn };

/// Columns of a product's result whose packed operand stays in L2. A multiple of every variant's register tile.
constexpr long kGemmColumns = 96;

/// One tile: c (m,n) = alpha op(a, b), or += where accumulate; leading dimensions in floats.
struct GemmTile {
  GemmOp op = GemmOp::nt;
  long m = 0, n = 0, k = 0;
  const float* a = nullptr;
  long lda = 0;
  const float* b = nullptr;
  long ldb = 0;
  float* c = nullptr;
  long ldc = 0;
  float alpha = 1;
  bool accumulate = false;
};

constexpr int kQueryBlock = 32;
constexpr int kKeyBlock = 64;

/// Ranges [begin, end) are of rows, elements or columns.
struct IsaTable {
  void (*gemm)(const GemmTile& tile);
  void (*norm_forward)(int begin, int end, const NormArgs& args, const float* x, float* y, const NormStats& stats,
                       bool measure);
  void (*norm_backward)(int begin, int end, const NormArgs& args, const float* dy, const float* x,
                        const NormStats& stats, bool accumulate, float* dx);
  void (*norm_jvp)(int begin, int end, const NormArgs& args, const float* x, const NormStats& stats, const float* x_t,
                   float* y_t);
  void (*rope)(int begin, int end, const RopeArgs& args, float sign, float* x);
  void (*activation_forward)(const ActivationArgs& args, std::size_t n, const float* gate, const float* up, float* h);
  void (*activation_backward)(const ActivationArgs& args, std::size_t n, const float* dh, const float* gate,
                              const float* up, float* dgate, float* dup);
  void (*activation_jvp)(const ActivationArgs& args, std::size_t n, const float* gate, const float* up,
                         const float* gate_t, const float* up_t, float* h_t);
  double (*cross_entropy_row)(int V, int target, float* logits, float grad_scale, bool backward, std::uint8_t* correct);
  void (*attention_forward)(const AttentionShape& shape, const AttentionRow& row, int head, int query_begin,
                            const float* q, const float* k, const float* v, float* out, float* lse);
  double (*cross_entropy_jvp_row)(int V, int target, const float* logits, const float* logits_t);
  void (*attention_jvp)(const AttentionShape& shape, const AttentionRow& row, int head, int query_begin,
                        const AttentionJvp& args);
  void (*attention_backward)(const AttentionShape& shape, const AttentionRow& row, int kv_head,
                             const AttentionBackward& args);
  void (*wkv_forward)(const WkvArgs& args, const AttentionRow& row, int channel, float* y, float* states);
  void (*wkv_backward)(const WkvArgs& args, const AttentionRow& row, int channel, const WkvBackward& grads);
  void (*wkv_jvp)(const WkvArgs& args, const AttentionRow& row, int channel, const float* k_t, const float* v_t,
                  float* y_t);
  void (*wkv7_forward)(const Wkv7Args& args, const AttentionRow& row, int head, float* y, float* states,
                       float* scratch);
  void (*wkv7_backward)(const Wkv7Args& args, const AttentionRow& row, int head, const Wkv7Backward& grads,
                        float* scratch);
  void (*wkv7_jvp)(const Wkv7Args& args, const AttentionRow& row, int head, const Wkv7Tangent& tangent, float* y_t,
                   float* scratch);
};

/// The table of chosen_isa().
const IsaTable& isa_table();

const IsaTable& isa_table_base();
const IsaTable& isa_table_avx2();    ///< x86-64 only
const IsaTable& isa_table_avx512();  ///< x86-64 only

}  // namespace covey::kernels

/// The engine's memory: one block of it, laid out before the first step by the same function that plan_memory asks.
/// Internal to core/model.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/result.h"
#include "core/model/engine.h"

namespace covey::model {

/// What one block's forward pass leaves for its backward pass. Letters: N packed positions, QW = heads * D,
/// KW = kv_heads * D.
struct BlockBuffers {
  float* x_in = nullptr;      ///< (N,H)
  float* inverse1 = nullptr;  ///< (N) of the attention norm
  float* q = nullptr;         ///< (N,QW) after rotation
  float* k = nullptr;         ///< (N,KW) after rotation
  float* v = nullptr;         ///< (N,KW)
  float* k_all = nullptr;     ///< first row of all keys that attention sees: k itself, or the decoder's cache
  float* v_all = nullptr;
  float* attended = nullptr;  ///< (N,QW)
  float* lse = nullptr;       ///< (N,heads)
  float* x_mid = nullptr;     ///< (N,H) after attention
  float* inverse2 = nullptr;  ///< (N) of the MLP norm
  float* gate = nullptr;      ///< (N,I)
  float* up = nullptr;        ///< (N,I)
};

/// Derivatives along a direction (forward mode): shapes as the arrays they belong to.
struct Tangents {
  float* x = nullptr;
  float* q = nullptr;
  float* k = nullptr;
  float* v = nullptr;
  float* attended = nullptr;
  float* gate = nullptr;
  float* up = nullptr;
  float* normed = nullptr;
  float* inner = nullptr;
  float* head_x = nullptr;
  float* head_normed = nullptr;
  float* head_logits = nullptr;
  double* head_loss = nullptr;
};

struct Buffers {
  std::vector<BlockBuffers> blocks;  ///< (L); where recomputing or not training they share all but x_in
  float* x_out = nullptr;            ///< (N,H) after the last block

  float* normed = nullptr;  ///< (N,H) scratch: a norm's output
  float* inner = nullptr;   ///< (N,I) scratch: the MLP's inner activation

  float* dx = nullptr;       ///< (N,H) the gradient that flows down
  float* dnormed = nullptr;  ///< (N,H)
  float* dinner = nullptr;   ///< (N,I); shares its place with dq, dk, dv, dattended
  float* dq = nullptr;
  float* dk = nullptr;
  float* dv = nullptr;
  float* dattended = nullptr;

  int chunk = 0;                  ///< C: rows of the head at a time
  float* head_x = nullptr;        ///< (C,H)
  float* head_inverse = nullptr;  ///< (C)
  float* head_normed = nullptr;   ///< (C,H)
  float* head_logits = nullptr;   ///< (C,V)
  float* head_dnormed = nullptr;  ///< (C,H)
  float* head_dx = nullptr;       ///< (C,H)
  double* head_loss = nullptr;    ///< (C)
  std::uint8_t* head_correct = nullptr;

  Tangents tangent;  ///< where options.tangent

  float* cosine = nullptr;  ///< (positions, D/2)
  float* sine = nullptr;

  struct Free {
    void operator()(void* memory) const;
  };
  std::unique_ptr<void, Free> memory;
  std::uint64_t bytes = 0;
};

/// @errors resource_exhausted.
Result<Buffers> make_buffers(const ModelConfig& config, const EngineOptions& options);
/// (positions, D/2) each.
void fill_rope_tables(const ModelConfig& config, int positions, float* cosine, float* sine);
std::uint64_t buffer_bytes(const ModelConfig& config, const EngineOptions& options);

}  // namespace covey::model

/// Rotary position embedding, in place. Source: Su et al., 2021. Pairs are (i, i + R/2) as in Hugging Face's llama, or
/// neighbours (2 i, 2 i + 1) as in GPT-J; elements from R on stay (partial rotation, GPT-NeoX).
#pragma once

#include <cstdint>

#include "core/base/thread_pool.h"

namespace covey::kernels {

/// x: head h of row n begins at n * row + h * head. The backward pass is the same rotation the other way.
struct RopeArgs {
  int N = 0;
  int heads = 0;
  int D = 0;                               ///< R: elements of a head that turn
  const std::int32_t* position = nullptr;  ///< (N): row of the tables
  const float* cosine = nullptr;           ///< (positions, D/2)
  const float* sine = nullptr;
  long row = 0;   ///< 0: heads * D
  long head = 0;  ///< 0: D
  bool neighbours = false;
};
void rope_forward(ThreadPool& pool, const RopeArgs& args, float* x);
void rope_backward(ThreadPool& pool, const RopeArgs& args, float* dx);

}  // namespace covey::kernels

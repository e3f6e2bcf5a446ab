/// Rotary position embedding, in place. Source: Su et al., 2021; Hugging Face's pairing (element i turns with i + D/2).
#pragma once

#include <cstdint>

#include "core/base/thread_pool.h"

namespace covey::kernels {

/// x (N, heads, D); position (N); cosine, sine (positions, D/2). The backward pass is the same rotation the other way.
struct RopeArgs {
  int N = 0;
  int heads = 0;
  int D = 0;
  const std::int32_t* position = nullptr;
  const float* cosine = nullptr;
  const float* sine = nullptr;
};
void rope_forward(ThreadPool& pool, const RopeArgs& args, float* x);
void rope_backward(ThreadPool& pool, const RopeArgs& args, float* dx);

}  // namespace covey::kernels

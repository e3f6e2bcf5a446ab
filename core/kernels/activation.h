/// Activation functions, alone or gated: h = f(gate) or h = f(gate) * up. Sources: Hendrycks and Gimpel, 2016 (GELU);
/// Shazeer, 2020 (gated units); So et al., 2021 (squared ReLU).
#pragma once

#include <cstdint>

#include "core/base/thread_pool.h"

namespace covey::kernels {

enum class Activation : std::uint8_t {
  identity,
  silu,
  gelu,        ///< x Phi(x)
  gelu_tanh,   ///< its tanh approximation
  quick_gelu,  ///< x sigmoid(1.702 x)
  relu,
  relu_squared,
  tanh,
  sigmoid,
  soft_cap,  ///< limit * tanh(x / limit)
  clip,      ///< x, cut to [-limit, limit]
};

struct ActivationArgs {
  Activation kind = Activation::silu;
  int N = 0;
  int width = 0;
  long row = 0;     ///< floats from one row of gate (and of up) to the next; 0: width
  float limit = 0;  ///< soft_cap, clip
};

/// h (N, width) contiguous; `up` nullptr: not gated.
void activation_forward(ThreadPool& pool, const ActivationArgs& args, const float* gate, const float* up, float* h);
/// dgate, dup: as gate and up, which they may be themselves.
void activation_backward(ThreadPool& pool, const ActivationArgs& args, const float* dh, const float* gate,
                         const float* up, float* dgate, float* dup);
/// h_t: the derivative of h along (gate_t, up_t); up_t is read only where `up` is there.
void activation_jvp(ThreadPool& pool, const ActivationArgs& args, const float* gate, const float* up,
                    const float* gate_t, const float* up_t, float* h_t);

}  // namespace covey::kernels

/// Softmax cross-entropy of one chunk of rows. The head that makes the logits is the caller's, chunk by chunk, so
/// that (B,T,V) never exists.
#pragma once

#include <cstdint>

#include "core/base/thread_pool.h"

namespace covey::kernels {

struct CrossEntropyArgs {
  int N = 0;
  int V = 0;
  const std::int32_t* target = nullptr;  ///< (N), each in [0, V)
  float* logits = nullptr;               ///< (N,V)
  double* loss = nullptr;                ///< (N), nats
  std::uint8_t* correct = nullptr;       ///< (N): 1 where the target is the first largest logit
};
void cross_entropy_forward(ThreadPool& pool, const CrossEntropyArgs& args);
/// The same, and logits become grad_scale (softmax - onehot(target)).
void cross_entropy_backward(ThreadPool& pool, const CrossEntropyArgs& args, float grad_scale);
/// loss_t (N): the derivative of each loss along logits_t (N,V); args.logits as the forward pass left them.
void cross_entropy_jvp(ThreadPool& pool, const CrossEntropyArgs& args, const float* logits_t, double* loss_t);

}  // namespace covey::kernels

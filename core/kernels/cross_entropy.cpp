#include "core/kernels/cross_entropy.h"

#include "core/kernels/isa.h"
#include "core/kernels/tiles.h"

namespace covey::kernels {
namespace {

void run(ThreadPool& pool, const CrossEntropyArgs& args, bool backward, float grad_scale) {
  for_rows(pool, args.N, args.V, [&](int begin, int end) {
    for (int n = begin; n < end; ++n) {
      float* row = args.logits + static_cast<std::size_t>(n) * static_cast<std::size_t>(args.V);
      args.loss[n] = isa_table().cross_entropy_row(args.V, args.target[n], row, grad_scale, backward, args.correct + n);
    }
  });
}

}  // namespace

void cross_entropy_forward(ThreadPool& pool, const CrossEntropyArgs& args) {
  run(pool, args, false, 0);
}

void cross_entropy_backward(ThreadPool& pool, const CrossEntropyArgs& args, float grad_scale) {
  run(pool, args, true, grad_scale);
}

void cross_entropy_jvp(ThreadPool& pool, const CrossEntropyArgs& args, const float* logits_t, double* loss_t) {
  for_rows(pool, args.N, args.V, [&](int begin, int end) {
    for (int n = begin; n < end; ++n) {
      const std::size_t at = static_cast<std::size_t>(n) * static_cast<std::size_t>(args.V);
      loss_t[n] = isa_table().cross_entropy_jvp_row(args.V, args.target[n], args.logits + at, logits_t + at);
    }
  });
}

}  // namespace covey::kernels

#include "core/kernels/rope.h"

#include "core/kernels/isa.h"
#include "core/kernels/tiles.h"

namespace covey::kernels {

void rope_forward(ThreadPool& pool, const RopeArgs& args, float* x) {
  for_rows(pool, args.N, args.heads * args.D, [&](int begin, int end) { isa_table().rope(begin, end, args, 1, x); });
}

void rope_backward(ThreadPool& pool, const RopeArgs& args, float* dx) {
  for_rows(pool, args.N, args.heads * args.D, [&](int begin, int end) { isa_table().rope(begin, end, args, -1, dx); });
}

}  // namespace covey::kernels

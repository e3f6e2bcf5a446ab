#include "core/kernels/rope.h"

#include "core/kernels/isa.h"
#include "core/kernels/tiles.h"

namespace covey::kernels {
namespace {

void turn(ThreadPool& pool, const RopeArgs& args, float sign, float* x) {
  RopeArgs a = args;
  if (a.head == 0) a.head = a.D;
  if (a.row == 0) a.row = a.heads * a.head;
  for_rows(pool, a.N, a.heads * a.D, [&](int begin, int end) { isa_table().rope(begin, end, a, sign, x); });
}

}  // namespace

void rope_forward(ThreadPool& pool, const RopeArgs& args, float* x) {
  turn(pool, args, 1, x);
}

void rope_backward(ThreadPool& pool, const RopeArgs& args, float* dx) {
  turn(pool, args, -1, dx);
}

}  // namespace covey::kernels

#include "core/kernels/norm.h"

#include "core/kernels/isa.h"
#include "core/kernels/tiles.h"

namespace covey::kernels {
namespace {

NormArgs whole(NormArgs args) {
  if (args.x_row == 0) args.x_row = static_cast<long>(args.heads) * args.H;
  if (args.y_row == 0) args.y_row = static_cast<long>(args.heads) * args.H;
  return args;
}

}  // namespace

void norm_forward(ThreadPool& pool, const NormArgs& args, const float* x, float* y, const NormStats& stats) {
  const NormArgs a = whole(args);
  for_rows(pool, a.N, a.heads * a.H,
           [&](int begin, int end) { isa_table().norm_forward(begin, end, a, x, y, stats, true); });
}

void norm_recompute(ThreadPool& pool, const NormArgs& args, const float* x, float* y, const NormStats& stats) {
  const NormArgs a = whole(args);
  for_rows(pool, a.N, a.heads * a.H,
           [&](int begin, int end) { isa_table().norm_forward(begin, end, a, x, y, stats, false); });
}

void norm_backward(ThreadPool& pool, const NormArgs& args, const float* dy, const float* x, const NormStats& stats,
                   bool accumulate, float* dx) {
  const NormArgs a = whole(args);
  for_rows(pool, a.N, a.heads * a.H,
           [&](int begin, int end) { isa_table().norm_backward(begin, end, a, dy, x, stats, accumulate, dx); });
}

void norm_jvp(ThreadPool& pool, const NormArgs& args, const float* x, const NormStats& stats, const float* x_t,
              float* y_t) {
  const NormArgs a = whole(args);
  for_rows(pool, a.N, a.heads * a.H,
           [&](int begin, int end) { isa_table().norm_jvp(begin, end, a, x, stats, x_t, y_t); });
}

void norm_backward_weight(ThreadPool& pool, const NormArgs& args, const float* dy, const float* x,
                          const NormStats& stats, float* dweight, float* dbias) {
  const NormArgs a = whole(args);
  const auto H = static_cast<std::size_t>(a.H);
  for_pieces(pool, H, 64, [&](std::size_t begin, std::size_t end) {
    for (long n = 0; n < a.N; ++n) {
      for (long h = 0; h < a.heads; ++h) {
        const float* xn = x + n * a.x_row + h * a.H;
        const float* dyn = dy + n * a.y_row + h * a.H;
        const std::size_t at = a.own_weights ? static_cast<std::size_t>(h) * H : 0;
        const long row = n * a.heads + h;
        const float inverse = a.kind == NormKind::affine ? 1.0F : stats.inverse[row];
        const float mean = a.kind == NormKind::layer ? stats.mean[row] : 0.0F;
        for (std::size_t i = begin; i < end; ++i) {
          if (dweight != nullptr) dweight[at + i] += dyn[i] * ((xn[i] - mean) * inverse);
          if (dbias != nullptr) dbias[at + i] += dyn[i];
        }
      }
    }
  });
}

}  // namespace covey::kernels

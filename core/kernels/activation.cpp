#include "core/kernels/activation.h"

#include <cstddef>

#include "core/kernels/isa.h"
#include "core/kernels/tiles.h"

namespace covey::kernels {
namespace {

/// fn(elements, offset in gate and up, offset in h): one stretch where the rows are contiguous, else row by row.
template <typename F>
void for_stretches(ThreadPool& pool, const ActivationArgs& args, F&& fn) {
  const auto width = static_cast<std::size_t>(args.width);
  const auto N = static_cast<std::size_t>(args.N);
  if (args.row == 0 || args.row == args.width) {
    for_pieces(pool, N * width, kGrain, [&](std::size_t begin, std::size_t end) { fn(end - begin, begin, begin); });
    return;
  }
  for_rows(pool, args.N, args.width, [&](int begin, int end) {
    for (std::size_t n = static_cast<std::size_t>(begin); n < static_cast<std::size_t>(end); ++n) {
      fn(width, n * static_cast<std::size_t>(args.row), n * width);
    }
  });
}

const float* moved(const float* p, std::size_t by) {
  return p == nullptr ? nullptr : p + by;
}
float* moved(float* p, std::size_t by) {
  return p == nullptr ? nullptr : p + by;
}

}  // namespace

void activation_forward(ThreadPool& pool, const ActivationArgs& args, const float* gate, const float* up, float* h) {
  for_stretches(pool, args, [&](std::size_t n, std::size_t in, std::size_t out) {
    isa_table().activation_forward(args, n, gate + in, moved(up, in), h + out);
  });
}

void activation_backward(ThreadPool& pool, const ActivationArgs& args, const float* dh, const float* gate,
                         const float* up, float* dgate, float* dup) {
  for_stretches(pool, args, [&](std::size_t n, std::size_t in, std::size_t out) {
    isa_table().activation_backward(args, n, dh + out, gate + in, moved(up, in), dgate + in, moved(dup, in));
  });
}

void activation_jvp(ThreadPool& pool, const ActivationArgs& args, const float* gate, const float* up,
                    const float* gate_t, const float* up_t, float* h_t) {
  for_stretches(pool, args, [&](std::size_t n, std::size_t in, std::size_t out) {
    isa_table().activation_jvp(args, n, gate + in, moved(up, in), gate_t + in, moved(up_t, in), h_t + out);
  });
}

}  // namespace covey::kernels

#include "core/kernels/wkv.h"

#include <algorithm>

#include "core/kernels/isa.h"

namespace covey::kernels {
namespace {

/// One tile per sequence and sixteen channels.
template <typename F>
void for_tiles(ThreadPool& pool, const WkvArgs& args, F&& run) {
  const std::size_t groups = (static_cast<std::size_t>(args.width) + 15) / 16;
  pool.parallel_for(args.rows.size() * groups,
                    [&](std::size_t tile) { run(tile / groups, static_cast<int>(tile % groups) * 16); });
}

}  // namespace

void wkv_forward(ThreadPool& pool, const WkvArgs& args, float* y, float* states) {
  for_tiles(pool, args,
            [&](std::size_t row, int channel) { isa_table().wkv_forward(args, args.rows[row], channel, y, states); });
}

void wkv_backward(ThreadPool& pool, const WkvArgs& args, const WkvBackward& grads) {
  for_tiles(pool, args, [&](std::size_t row, int channel) {
    WkvBackward own = grads;
    const std::size_t at = row * static_cast<std::size_t>(args.width);
    if (own.ddecay != nullptr) own.ddecay += at;
    if (own.dfirst != nullptr) own.dfirst += at;
    isa_table().wkv_backward(args, args.rows[row], channel, own);
  });
}

void wkv_jvp(ThreadPool& pool, const WkvArgs& args, const float* k_t, const float* v_t, float* y_t) {
  for_tiles(pool, args,
            [&](std::size_t row, int channel) { isa_table().wkv_jvp(args, args.rows[row], channel, k_t, v_t, y_t); });
}

void wkv_clear(int width, float* carried) {
  std::fill(carried, carried + 2 * width, 0.0F);
  std::fill(carried + 2 * width, carried + 3 * width, -1e38F);
}

}  // namespace covey::kernels

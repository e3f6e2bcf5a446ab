// The portable variant: what every compiler makes of plain loops.
#include "core/kernels/int8_isa.h"

namespace covey::kernels {
namespace int8_base {
namespace {
// clang-format off
#include "core/kernels/isa_repeat.inl"
#include "core/kernels/isa_vector.inl"
#include "core/kernels/isa_activation.inl"
// clang-format on

using Element = std::int8_t;
constexpr std::int32_t kOffset = 0;
constexpr int kTallRows = 2, kTallBlocks = 1;
constexpr int kFlatRows = 2, kFlatBlocks = 1;

template <int R, int B>
static void products(const Int8Piece& p, I16* sums) {
  for (int r = 0; r < R; ++r) {
    const auto* a = (const std::int8_t*)p.a + r * p.a_row;
    std::int32_t s[16] = {};
    for (long g = 0; g < p.groups; ++g) {
      const std::int8_t* w = p.b + g * 64;
      for (int n = 0; n < 16; ++n) {
        for (int k = 0; k < 4; ++k) s[n] += a[4 * g + k] * w[4 * n + k];
      }
    }
    __builtin_memcpy(sums + r, s, sizeof s);
  }
}

// clang-format off
#include "core/kernels/int8_tile.inl"
// clang-format on
}  // namespace
}  // namespace int8_base

const Int8Table& int8_table_base() {
  return int8_base::kTable;
}
}  // namespace covey::kernels

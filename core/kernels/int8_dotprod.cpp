// sdot: each 32-bit lane takes the products of four signed bytes.
#include <arm_neon.h>

#include "core/kernels/int8_isa.h"

namespace covey::kernels {
namespace int8_dotprod {
namespace {
// clang-format off
#include "core/kernels/isa_repeat.inl"
#include "core/kernels/isa_vector.inl"
#include "core/kernels/isa_activation.inl"
// clang-format on

using Element = std::int8_t;
constexpr std::int32_t kOffset = 0;
constexpr int kTallRows = 6, kTallBlocks = 1;
constexpr int kFlatRows = 6, kFlatBlocks = 1;

template <int R, int B>
static void products(const Int8Piece& p, I16* sums) {
  int32x4_t s[R][4];
  repeat<4 * R>([&]<int i>() { s[i / 4][i % 4] = vdupq_n_s32(0); });
  const std::int8_t* w = p.b;
  const std::uint8_t* a = p.a;
  for (long g = 0; g < p.groups; ++g, w += 64, a += 4) {
    int8x16_t wide[4];
    repeat<4>([&]<int i>() { wide[i] = vld1q_s8(w + 16 * i); });
    repeat<R>([&]<int r>() {
      std::int32_t four;
      __builtin_memcpy(&four, a + r * p.a_row, sizeof four);
      const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(four));
      repeat<4>([&]<int i>() { s[r][i] = vdotq_s32(s[r][i], wide[i], x); });
    });
  }
  repeat<R>([&]<int r>() { __builtin_memcpy(sums + r, s[r], sizeof s[r]); });
}

// clang-format off
#include "core/kernels/int8_tile.inl"
// clang-format on
}  // namespace
}  // namespace int8_dotprod

const Int8Table& int8_table_dotprod() {
  return int8_dotprod::kTable;
}
}  // namespace covey::kernels

// smmla: two rows of eight bytes times two channels of eight. A pair of channels is woven from two groups of four;
// an odd last row is taken twice.
#include <arm_neon.h>

#include "core/kernels/int8_isa.h"

namespace covey::kernels {
namespace int8_i8mm {
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
  constexpr int kPairs = (R + 1) / 2;
  int32x4_t s[kPairs][8];  // of two rows and two channels
  repeat<8 * kPairs>([&]<int i>() { s[i / 8][i % 8] = vdupq_n_s32(0); });
  const std::int8_t* w = p.b;
  const auto* a = (const std::int8_t*)p.a;
  for (long g = 0; g < p.groups; g += 2, w += 128, a += 8) {
    int8x16_t x[kPairs];
    repeat<kPairs>([&]<int i>() {
      x[i] = vcombine_s8(vld1_s8(a + 2 * i * p.a_row), vld1_s8(a + (2 * i + 1 < R ? 2 * i + 1 : 2 * i) * p.a_row));
    });
    repeat<4>([&]<int i>() {
      const int32x4_t first = vreinterpretq_s32_s8(vld1q_s8(w + 16 * i));
      const int32x4_t second = vreinterpretq_s32_s8(vld1q_s8(w + 64 + 16 * i));
      const int8x16_t low = vreinterpretq_s8_s32(vzip1q_s32(first, second));
      const int8x16_t high = vreinterpretq_s8_s32(vzip2q_s32(first, second));
      repeat<kPairs>([&]<int j>() {
        s[j][2 * i] = vmmlaq_s32(s[j][2 * i], x[j], low);
        s[j][2 * i + 1] = vmmlaq_s32(s[j][2 * i + 1], x[j], high);
      });
    });
  }
  repeat<R>([&]<int r>() {
    repeat<8>([&]<int i>() {
      const int32x2_t two = r % 2 == 0 ? vget_low_s32(s[r / 2][i]) : vget_high_s32(s[r / 2][i]);
      __builtin_memcpy((char*)(sums + r) + 8 * i, &two, sizeof two);
    });
  });
}

// clang-format off
#include "core/kernels/int8_tile.inl"
// clang-format on
}  // namespace
}  // namespace int8_i8mm

const Int8Table& int8_table_i8mm() {
  return int8_i8mm::kTable;
}
}  // namespace covey::kernels

// vpmaddubsw would saturate, so both sides are widened to 16 bits: activations when they are quantized, weights on
// the way into registers. vpmaddwd is exact.
#include <immintrin.h>

#include "core/kernels/int8_isa.h"

namespace covey::kernels {
namespace int8_avx2 {
namespace {
// clang-format off
#include "core/kernels/isa_repeat.inl"
#include "core/kernels/isa_vector.inl"
#include "core/kernels/isa_activation.inl"
// clang-format on

using Element = std::int16_t;
constexpr std::int32_t kOffset = 0;
constexpr int kTallRows = 3, kTallBlocks = 1;
constexpr int kFlatRows = 3, kFlatBlocks = 1;

template <int R, int B>
static void products(const Int8Piece& p, I16* sums) {
  __m256i s[R][4];  // four channels each, two sums per channel
  repeat<4 * R>([&]<int i>() { s[i / 4][i % 4] = _mm256_setzero_si256(); });
  const std::int8_t* w = p.b;
  const std::uint8_t* a = p.a;
  for (long g = 0; g < p.groups; ++g, w += 64, a += 8) {
    repeat<4>([&]<int i>() {
      const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)(w + 16 * i)));
      repeat<R>([&]<int r>() {
        long long four;
        __builtin_memcpy(&four, a + r * p.a_row, sizeof four);
        s[r][i] = _mm256_add_epi32(s[r][i], _mm256_madd_epi16(wide, _mm256_set1_epi64x(four)));
      });
    });
  }
  repeat<2 * R>([&]<int i>() {
    constexpr int r = i / 2;
    constexpr int half = i % 2;
    const __m256i pairs = _mm256_hadd_epi32(s[r][2 * half], s[r][2 * half + 1]);
    const __m256i eight = _mm256_permute4x64_epi64(pairs, 0xd8);
    __builtin_memcpy((char*)(sums + r) + 32 * half, &eight, sizeof eight);
  });
}

// clang-format off
#include "core/kernels/int8_tile.inl"
// clang-format on
}  // namespace
}  // namespace int8_avx2

const Int8Table& int8_table_avx2() {
  return int8_avx2::kTable;
}
}  // namespace covey::kernels

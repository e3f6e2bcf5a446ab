// vpdpbusd multiplies unsigned by signed bytes, so activations are kept with 128 added.
#include <immintrin.h>

#include "core/kernels/int8_isa.h"

namespace covey::kernels {
namespace int8_avx512vnni {
namespace {
// clang-format off
#include "core/kernels/isa_repeat.inl"
#include "core/kernels/isa_vector.inl"
#include "core/kernels/isa_activation.inl"
// clang-format on

using Element = std::uint8_t;
constexpr std::int32_t kOffset = 128;
// 24 sums each: more than the 10 that two units with 5 cycles of latency need, and 12 loads for 24 products.
constexpr int kTallRows = 12, kTallBlocks = 2;
constexpr int kFlatRows = 6, kFlatBlocks = 4;

template <int R, int B>
static void products(const Int8Piece& p, I16* sums) {
  __m512i s[R][B];
  repeat<B>([&]<int b>() {
    const __m512i start = _mm512_mullo_epi32(_mm512_loadu_si512(p.sums + b * 16), _mm512_set1_epi32(-kOffset));
    repeat<R>([&]<int r>() { s[r][b] = start; });
  });
  const std::uint8_t* a[(R + 2) / 3];  // every third row: the two between are one and two strides away
  repeat<(R + 2) / 3>([&]<int i>() { a[i] = p.a + 3 * i * p.a_row; });
  const std::int8_t* w = p.b;
  for (long g = 0; g < p.groups; ++g, w += 64) {
    __m512i wide[B];
    repeat<B>([&]<int b>() { wide[b] = _mm512_loadu_si512(w + b * p.b_block); });
    repeat<R>([&]<int r>() {
      std::int32_t four;
      __builtin_memcpy(&four, a[r / 3] + r % 3 * p.a_row, sizeof four);
      const __m512i x = _mm512_set1_epi32(four);
      repeat<B>([&]<int b>() { s[r][b] = _mm512_dpbusd_epi32(s[r][b], x, wide[b]); });
    });
    repeat<(R + 2) / 3>([&]<int i>() { a[i] += 4; });
  }
  repeat<R * B>([&]<int i>() { _mm512_storeu_si512(sums + i, s[i / B][i % B]); });
}

// clang-format off
#include "core/kernels/int8_tile.inl"
// clang-format on
}  // namespace
}  // namespace int8_avx512vnni

const Int8Table& int8_table_avx512vnni() {
  return int8_avx512vnni::kTable;
}
}  // namespace covey::kernels

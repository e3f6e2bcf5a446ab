// int8_avx512vnni.cpp in sixteen registers of half the width.
#include <immintrin.h>

#include "core/kernels/int8_isa.h"

namespace covey::kernels {
namespace int8_avxvnni {
namespace {
// clang-format off
#include "core/kernels/isa_repeat.inl"
#include "core/kernels/isa_vector.inl"
#include "core/kernels/isa_activation.inl"
// clang-format on

using Element = std::uint8_t;
constexpr std::int32_t kOffset = 128;
constexpr int kTallRows = 6, kTallBlocks = 1;
constexpr int kFlatRows = 6, kFlatBlocks = 1;

template <int R, int B>
static void products(const Int8Piece& p, I16* sums) {
  __m256i s[R][2];
  repeat<2>([&]<int h>() {
    const __m256i start =
        _mm256_mullo_epi32(_mm256_loadu_si256((const __m256i*)p.sums + h), _mm256_set1_epi32(-kOffset));
    repeat<R>([&]<int r>() { s[r][h] = start; });
  });
  const std::int8_t* w = p.b;
  const std::uint8_t* a = p.a;
  for (long g = 0; g < p.groups; ++g, w += 64, a += 4) {
    const __m256i low = _mm256_loadu_si256((const __m256i*)w);
    const __m256i high = _mm256_loadu_si256((const __m256i*)(w + 32));
    repeat<R>([&]<int r>() {
      std::int32_t four;
      __builtin_memcpy(&four, a + r * p.a_row, sizeof four);
      const __m256i x = _mm256_set1_epi32(four);
      s[r][0] = _mm256_dpbusd_avx_epi32(s[r][0], x, low);
      s[r][1] = _mm256_dpbusd_avx_epi32(s[r][1], x, high);
    });
  }
  repeat<R>([&]<int r>() { __builtin_memcpy(sums + r, s[r], sizeof s[r]); });
}

// clang-format off
#include "core/kernels/int8_tile.inl"
// clang-format on
}  // namespace
}  // namespace int8_avxvnni

const Int8Table& int8_table_avxvnni() {
  return int8_avxvnni::kTable;
}
}  // namespace covey::kernels

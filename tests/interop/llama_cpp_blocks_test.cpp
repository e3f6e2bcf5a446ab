// Block formats against ggml's own code, taken from the library that npm's node-llama-cpp carries.
#include <cstring>
#include <vector>

#include "core/base/rng.h"
#include "core/formats/quant_blocks.h"
#include "interop/llama_cpp_library.h"
#include "support/support.h"

using namespace covey;           // NOLINT
using namespace covey::formats;  // NOLINT

namespace {

using ToFloat = void (*)(const void* blocks, float* values, std::int64_t count);
using FromFloat = void (*)(const float* values, void* blocks, std::int64_t count);

template <typename Function>
Function symbol(const interop::Library& library, const char* name) {
  void* const found = library.symbol(name);
  REQUIRE_MESSAGE(found != nullptr, name);
  return reinterpret_cast<Function>(found);
}

}  // namespace

TEST_CASE("random blocks of every type dequantize to ggml's own bits") {
  const auto ggml = interop::ggml_base();
  if (!ggml) return;
  const struct {
    GgmlType type;
    const char* function;
    std::vector<std::size_t> halves;  ///< where f16 scales lie: kept finite
  } types[] = {{GgmlType::q4_0, "dequantize_row_q4_0", {0}},    {GgmlType::q4_1, "dequantize_row_q4_1", {0, 2}},
               {GgmlType::q5_0, "dequantize_row_q5_0", {0}},    {GgmlType::q5_1, "dequantize_row_q5_1", {0, 2}},
               {GgmlType::q8_0, "dequantize_row_q8_0", {0}},    {GgmlType::q4_k, "dequantize_row_q4_K", {0, 2}},
               {GgmlType::q5_k, "dequantize_row_q5_K", {0, 2}}, {GgmlType::q6_k, "dequantize_row_q6_K", {208}}};
  Rng rng(5);
  for (const auto& row : types) {
    const GgmlTypeInfo& info = ggml_type_info(row.type);
    CAPTURE(info.name);
    const auto theirs = symbol<ToFloat>(*ggml, row.function);
    constexpr std::size_t kBlocks = 2000;
    Bytes blocks(kBlocks * info.block_bytes);
    for (auto& byte : blocks) byte = static_cast<std::uint8_t>(rng.below(256));
    for (std::size_t i = 0; i < kBlocks; ++i) {
      for (const std::size_t at : row.halves) {
        auto& high = blocks[i * info.block_bytes + at + 1];
        if ((high & 0x7C) == 0x7C) high &= 0x83;
      }
    }
    std::vector<float> expected(kBlocks * info.block);
    std::vector<float> got(expected.size());
    theirs(blocks.data(), expected.data(), static_cast<std::int64_t>(expected.size()));
    REQUIRE_OK(dequantize(info, blocks, got));
    CHECK(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("f32 rows quantize to ggml's own blocks") {
  const auto ggml = interop::ggml_base();
  if (!ggml) return;
  const struct {
    GgmlType type;
    const char* function;
  } types[] = {{GgmlType::q8_0, "quantize_row_q8_0_ref"},
               {GgmlType::q4_0, "quantize_row_q4_0_ref"},
               {GgmlType::f16, "ggml_fp32_to_fp16_row"},
               {GgmlType::bf16, "ggml_fp32_to_bf16_row_ref"}};
  std::vector<float> values(32 * 4000);
  CounterRng(9, 0).fill_normal(values);
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (i % 97 == 0) values[i] *= 100;                 // outliers
    if (i / 32 % 50 == 3) values[i] = 0;               // an empty block
    if (i / 32 % 50 == 4) values[i] *= 1e-6F;          // half precision's subnormals
    if (i / 32 % 50 == 5) values[i] = i % 2 ? 1 : -1;  // ties
  }
  for (const auto& row : types) {
    const GgmlTypeInfo& info = ggml_type_info(row.type);
    CAPTURE(info.name);
    const auto theirs = symbol<FromFloat>(*ggml, row.function);
    Bytes expected(values.size() / info.block * info.block_bytes);
    theirs(values.data(), expected.data(), static_cast<std::int64_t>(values.size()));
    const auto got = quantize(row.type, values);
    REQUIRE_OK(got);
    CHECK(*got == expected);
  }
}

// Files of llama.cpp's own quantizer, dequantized here and by ggml.
#include <algorithm>
#include <cstring>

#include "adapters/convert.h"
#include "core/formats/gguf.h"
#include "core/formats/quant_blocks.h"
#include "interop/llama_cpp_library.h"
#include "support/support.h"

using namespace covey;           // NOLINT
using namespace covey::formats;  // NOLINT

namespace {

/// llama_model_quantize_params, of which only the first two fields are ours to set; longer than any version of it.
struct QuantizeParams {
  std::int32_t threads;
  std::int32_t file_type;
  std::uint8_t rest[1016];
};

using Defaults = QuantizeParams (*)();
using Quantize = std::uint32_t (*)(const char* in, const char* out, const QuantizeParams* params);
using ToFloat = void (*)(const void* blocks, float* values, std::int64_t count);

}  // namespace

TEST_CASE("Q8_0 and Q4_0 files of llama.cpp's quantizer give the same weights here, bit for bit") {
  const auto llama = interop::llama();
  if (!llama) return;
  const auto bin = test::data_path("stories260K/stories260K.bin");
  const auto tokenizer = test::data_path("stories260K/tok512.bin");
  if (!bin || !tokenizer) return;
  const test::TempDir dir;
  REQUIRE_OK(adapters::convert_model(*bin, dir.file("s.gguf"), *tokenizer));
  const auto defaults = reinterpret_cast<Defaults>(llama->symbol("llama_model_quantize_default_params"));
  const auto quantize_file = reinterpret_cast<Quantize>(llama->symbol("llama_model_quantize"));
  REQUIRE((defaults != nullptr && quantize_file != nullptr));
  const struct {
    std::int32_t file_type;
    GgmlType type;
  } kinds[] = {{7, GgmlType::q8_0}, {2, GgmlType::q4_0}};
  for (const auto& kind : kinds) {
    QuantizeParams params = defaults();
    params.threads = 1;
    params.file_type = kind.file_type;
    REQUIRE(quantize_file(dir.file("s.gguf").c_str(), dir.file("theirs.gguf").c_str(), &params) == 0);
    REQUIRE_OK(adapters::quantize_model(dir.file("s.gguf"), dir.file("ours.gguf"), kind.type, ""));
    const auto theirs = GgufFile::open(dir.file("theirs.gguf"));
    const auto ours = GgufFile::open(dir.file("ours.gguf"));
    REQUIRE_OK(theirs);
    REQUIRE_OK(ours);
    int of_kind = 0;
    int same_bytes = 0;
    for (const auto& tensor : theirs->tensors()) {
      CAPTURE(std::string(tensor.name));
      of_kind += tensor.is(kind.type) ? 1 : 0;
      std::vector<float> got(static_cast<std::size_t>(tensor.elements()));
      REQUIRE_OK(dequantize(*tensor.type, tensor.bytes, got));
      const char* function = tensor.is(GgmlType::q8_0)   ? "dequantize_row_q8_0"
                             : tensor.is(GgmlType::q4_0) ? "dequantize_row_q4_0"
                             : tensor.is(GgmlType::f16)  ? "ggml_fp16_to_fp32_row"
                                                         : nullptr;
      if (function != nullptr) {
        std::vector<float> expected(got.size());
        void* const to_float = llama->symbol(function);
        REQUIRE(to_float != nullptr);
        reinterpret_cast<ToFloat>(to_float)(tensor.bytes.data(), expected.data(), tensor.elements());
        CHECK(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0);
      } else {
        CHECK(tensor.is(GgmlType::f32));
      }
      const auto* mine = ours->find(tensor.name);
      REQUIRE(mine != nullptr);
      const bool same = mine->type == tensor.type && std::ranges::equal(mine->bytes, tensor.bytes);
      CHECK_MESSAGE(same, mine->type->name << " here, " << tensor.type->name << " there");
      same_bytes += same ? 1 : 0;
    }
    CHECK(of_kind >= 25);
    CHECK(same_bytes == static_cast<int>(theirs->tensors().size()));
  }
}

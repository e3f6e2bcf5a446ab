/// A model's GGUF in Hugging Face's terms: its configuration as config.json, its tensors by Hugging Face's names, with
/// rows in Hugging Face's order.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/formats/gguf.h"
#include "core/formats/gguf_families.h"
#include "core/formats/json.h"

namespace covey::formats {

/// Immutable, movable, thread-safe for reading.
class GgufModel {
 public:
  /// @errors those of GgufFile::open and hf_config_of; corrupt_data: q or k rows that the heads do not divide;
  /// unsupported: an adapter, a part of a split model, a tensor whose name the family does not have, by name.
  static Result<GgufModel> open(const std::string& path);

  struct Tensor {
    std::string name;                    ///< Hugging Face's
    const GgufTensor* source = nullptr;  ///< in the file
    std::int64_t paired_heads = 0;       ///< > 0: rows lie in pairs, in this many heads
  };
  [[nodiscard]] const GgufFile& file() const { return *file_; }
  [[nodiscard]] const GgufFamily& family() const { return *family_; }
  [[nodiscard]] const Json& config() const { return config_; }
  /// In the order of the file.
  [[nodiscard]] const std::vector<Tensor>& tensors() const { return tensors_; }
  /// nullptr where there is none.
  [[nodiscard]] const Tensor* find(std::string_view name) const;
  /// The values as f32, rows in Hugging Face's order. @errors unsupported: a type that dequantize() does not know;
  /// invalid_argument: `out` of another size.
  [[nodiscard]] Status read(const Tensor& tensor, std::span<float> out) const;

 private:
  std::shared_ptr<GgufFile> file_;  // tensors_ point into it
  const GgufFamily* family_ = nullptr;
  Json config_;
  std::vector<Tensor> tensors_;
  std::map<std::string_view, std::size_t> index_;
};

}  // namespace covey::formats

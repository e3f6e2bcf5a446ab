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
  /// @errors those of GgufFile::open and hf_config_of; corrupt_data: rows that the heads do not divide;
  /// unsupported: an adapter, a part of a split model, a tensor whose name the family does not have, by name.
  static Result<GgufModel> open(const std::string& path);

  struct Tensor {
    std::string name;                    ///< Hugging Face's
    const GgufTensor* source = nullptr;  ///< in the file
    std::vector<std::int64_t> shape;     ///< Hugging Face's
    GgufChange change;                   ///< how its bytes lie otherwise
  };
  [[nodiscard]] const GgufFile& file() const { return *file_; }
  [[nodiscard]] const GgufFamily& family() const { return *family_; }
  [[nodiscard]] const Json& config() const { return config_; }
  /// In the order of the file.
  [[nodiscard]] const std::vector<Tensor>& tensors() const { return tensors_; }
  /// nullptr where there is none.
  [[nodiscard]] const Tensor* find(std::string_view name) const;
  /// The bytes in Hugging Face's order, of the type in the file, or of f32 where blocks cannot be turned; `type` says.
  /// @errors as read().
  [[nodiscard]] Result<Bytes> bytes_of(const Tensor& tensor, const GgmlTypeInfo*& type) const;
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

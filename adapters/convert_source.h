/// A model of any format as one list of tensors under Hugging Face's names. Internal to the conversion.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/formats/gguf_model.h"
#include "core/formats/json.h"

namespace covey::adapters {

struct SourceTensor {
  std::string name;  ///< Hugging Face's
  const formats::GgmlTypeInfo* type = nullptr;
  std::vector<std::int64_t> shape;
  ByteSpan bytes;  ///< rows in Hugging Face's order; borrowed from SourceModel::keep
};

enum class ModelKind { directory, gguf, llama2c };

struct SourceModel {
  ModelKind kind = ModelKind::directory;
  std::string path;
  formats::Json config;  ///< every field that is computed, stated (model::config_to_hf)
  std::vector<SourceTensor> tensors;
  std::vector<std::string>
      left_out;  ///< by name: buffers, a copy of a tied tensor, fields and keys that compute nothing
  std::optional<formats::GgufModel> gguf;   ///< where kind is gguf
  std::vector<std::shared_ptr<void>> keep;  ///< what the bytes are borrowed from
};

/// @errors unsupported: neither of the three.
Result<ModelKind> model_kind(const std::string& path);

/// @errors as Model::load; unsupported also: a tensor that is no weight of the family and no known buffer, by name.
Result<SourceModel> open_source(const std::string& path);

}  // namespace covey::adapters

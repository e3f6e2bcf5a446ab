#include "core/formats/gguf_model.h"

#include "core/formats/quant_blocks.h"

namespace covey::formats {
namespace {

/// Tensors beside the weights: hf_config_of has read what they say.
bool is_configuration(std::string_view name) {
  return name == "rope_freqs.weight" || name.ends_with(".rope_freqs.weight");
}

}  // namespace

Result<GgufModel> GgufModel::open(const std::string& path) {
  GgufModel model;
  COVEY_ASSIGN(auto opened, GgufFile::open(path));
  model.file_ = std::make_shared<GgufFile>(std::move(opened));
  const GgufFile& file = *model.file_;
  COVEY_ASSIGN(const std::string kind, file.get_string("general.type", "model"));
  if (kind != "model") {
    return Error{ErrorCode::unsupported, path + ": is a GGUF of type " + kind.substr(0, 20) + ", not a model"};
  }
  COVEY_ASSIGN(const std::int64_t parts, file.get_int("split.count", 0));
  if (parts > 1) {
    return Error{ErrorCode::unsupported,
                 path + ": is one of " + std::to_string(parts) + " parts; join them with llama-gguf-split --merge"};
  }
  COVEY_ASSIGN(model.config_, hf_config_of(file));
  COVEY_ASSIGN(const std::string architecture, file.get_string("general.architecture"));
  COVEY_ASSIGN(model.family_, gguf_family(architecture));
  const GgufSizes& sizes = model.family_->sizes;
  const std::int64_t heads = model.config_.get_int(sizes.heads).value();
  const std::int64_t kv_heads = sizes.kv_heads.empty() ? heads : model.config_.get_int(sizes.kv_heads).value();
  for (const GgufTensor& tensor : file.tensors()) {
    if (is_configuration(tensor.name)) continue;
    Tensor entry;
    entry.name = hf_tensor_name(*model.family_, tensor.name);
    if (entry.name.empty()) {
      return Error{ErrorCode::unsupported,
                   path + ": tensor " + std::string(tensor.name) + " is not one that " + architecture + " models have"};
    }
    entry.source = &tensor;
    entry.shape = tensor.shape;
    entry.change = gguf_change(*model.family_, tensor.name, heads, kv_heads);
    const std::int64_t pieces = entry.change.kind == GgufChange::Kind::pairs ? 2 : 3;
    if (entry.change.moves_rows() && (tensor.shape.empty() || tensor.shape[0] % (pieces * entry.change.heads) != 0)) {
      return Error{ErrorCode::corrupt_data, path + ": tensor " + std::string(tensor.name) + " of shape " +
                                                tensor.shape_text() + " cannot be cut into heads"};
    }
    if (entry.change.kind == GgufChange::Kind::transposed && entry.shape.size() == 2) {
      std::swap(entry.shape[0], entry.shape[1]);
    }
    model.tensors_.push_back(std::move(entry));
  }
  for (std::size_t i = 0; i < model.tensors_.size(); ++i) model.index_.emplace(model.tensors_[i].name, i);
  return model;
}

const GgufModel::Tensor* GgufModel::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

Result<Bytes> GgufModel::bytes_of(const Tensor& tensor, const GgmlTypeInfo*& type) const {
  const GgufTensor& source = *tensor.source;
  const auto failed = [&](const Error& error) {
    return Error{error.code, file_->path() + ": tensor " + std::string(source.name) + " " + error.message};
  };
  type = source.type;
  ByteSpan bytes = source.bytes;
  std::vector<float> values;
  if (source.type->block != 1 && tensor.change && !tensor.change.moves_rows()) {
    values.resize(static_cast<std::size_t>(source.elements()));
    if (auto status = dequantize(*source.type, source.bytes, values); !status.ok()) return failed(status.error());
    type = &ggml_type_info(GgmlType::f32);
    bytes = {reinterpret_cast<const std::uint8_t*>(values.data()), values.size() * sizeof(float)};
  }
  std::vector<std::int64_t> shape = source.shape;
  auto changed = gguf_changed(tensor.change, *type, shape, bytes, false);
  if (!changed.ok()) return failed(changed.error());
  return changed;
}

Status GgufModel::read(const Tensor& tensor, std::span<float> out) const {
  const GgmlTypeInfo* type = tensor.source->type;
  Bytes turned;
  if (tensor.change) {
    COVEY_ASSIGN(turned, bytes_of(tensor, type));
  }
  auto status = dequantize(*type, tensor.change ? ByteSpan(turned) : tensor.source->bytes, out);
  if (status.ok()) return {};
  return Error{status.error().code,
               file_->path() + ": tensor " + std::string(tensor.source->name) + " " + status.error().message};
}

}  // namespace covey::formats

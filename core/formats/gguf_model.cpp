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
  const std::int64_t heads = model.config_.get_int("num_attention_heads").value();
  const std::int64_t kv_heads = model.config_.get_int("num_key_value_heads").value();
  for (const GgufTensor& tensor : file.tensors()) {
    if (is_configuration(tensor.name)) continue;
    Tensor entry;
    entry.name = hf_tensor_name(*model.family_, tensor.name);
    if (entry.name.empty()) {
      return Error{ErrorCode::unsupported,
                   path + ": tensor " + std::string(tensor.name) + " is not one that " + architecture + " models have"};
    }
    entry.source = &tensor;
    if (is_paired(*model.family_, tensor.name)) {
      entry.paired_heads = tensor.name.find("attn_q.") != std::string_view::npos ? heads : kv_heads;
      if (tensor.shape.empty() || tensor.shape[0] % (2 * entry.paired_heads) != 0) {
        return Error{ErrorCode::corrupt_data, path + ": tensor " + std::string(tensor.name) + " of shape " +
                                                  tensor.shape_text() + " cannot be cut into heads"};
      }
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

Status GgufModel::read(const Tensor& tensor, std::span<float> out) const {
  const GgufTensor& source = *tensor.source;
  const auto read_bytes = [&](ByteSpan bytes) -> Status {
    auto status = dequantize(*source.type, bytes, out);
    if (status.ok()) return {};
    return Error{status.error().code,
                 file_->path() + ": tensor " + std::string(source.name) + " " + status.error().message};
  };
  if (tensor.paired_heads == 0) return read_bytes(source.bytes);
  const Bytes halves = from_pairs(source.bytes, source.shape[0], tensor.paired_heads);
  return read_bytes(halves);
}

}  // namespace covey::formats

#include "adapters/convert_source.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/formats/hf_directory.h"
#include "core/model/model.h"

namespace covey::adapters {
namespace {

namespace fs = std::filesystem;
using formats::Json;

/// The configuration with every field that is computed, and none other. `tied` says what a missing
/// tie_word_embeddings means.
Result<Json> normalized(Json config, bool tied, const std::string& where) {
  if (!config.contains("tie_word_embeddings")) config.set("tie_word_embeddings", tied);
  COVEY_ASSIGN(const model::ModelConfig read, model::config_from_hf(config.dump(), where));
  COVEY_ASSIGN(const Json stated, Json::parse(model::config_to_hf(read), where));
  // Some families are written as they were read: with fields that compute nothing, and without a default.
  static const std::set<std::string_view> kComputeNothing = {"initializer_range",
                                                             "transformers_version",
                                                             "use_cache",
                                                             "pretraining_tp",
                                                             "attention_dropout",
                                                             "attn_pdrop",
                                                             "embd_pdrop",
                                                             "resid_pdrop",
                                                             "hidden_dropout",
                                                             "classifier_dropout",
                                                             "cache_implementation",
                                                             "n_ctx",
                                                             "reorder_and_upcast_attn",
                                                             "slow_but_exact",
                                                             "attention_softmax_in_fp32",
                                                             "bias_dropout_fusion",
                                                             "masked_softmax_fusion",
                                                             "skip_bias_add",
                                                             "skip_bias_add_qkv",
                                                             "unk_token_id",
                                                             "summary_activation",
                                                             "summary_first_dropout",
                                                             "summary_proj_to_labels",
                                                             "summary_type",
                                                             "summary_use_proj",
                                                             "original_max_position_embeddings"};
  Json out = Json::object();
  for (const auto& member : stated.members()) {
    if (!kComputeNothing.contains(member.key)) out.set(member.key, member.value);
  }
  if (!out.contains("head_dim")) out.set("head_dim", read.head_dim);
  if (!out.contains("num_key_value_heads")) out.set("num_key_value_heads", read.kv_heads);
  return out;
}

const formats::GgmlTypeInfo* ggml_type_of(formats::DType type) {
  switch (type) {
    case formats::DType::f32:
      return &ggml_type_info(formats::GgmlType::f32);
    case formats::DType::f16:
      return &ggml_type_info(formats::GgmlType::f16);
    case formats::DType::bf16:
      return &ggml_type_info(formats::GgmlType::bf16);
    default:
      return nullptr;
  }
}

/// Tensors that older checkpoints carry and nothing reads: they follow from the configuration.
bool is_buffer(std::string_view name) {
  return name.ends_with("rotary_emb.inv_freq") || name.ends_with(".attn.masked_bias") || name.ends_with(".attn.bias") ||
         name.ends_with(".attention.masked_bias") || name.ends_with(".attention.bias") ||
         name.ends_with("position_ids");
}

/// Names of all weights that the family may have, in the order of the forward pass.
std::vector<std::string> weight_names(const formats::GgufFamily& family, std::int64_t layers, bool tied) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    for (const char* suffix : {".weight", ".bias"}) names.push_back(name + suffix);
  };
  for (const auto& name : family.globals) {
    if (!tied || name.gguf != "output") add(std::string(name.hf));
  }
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    for (const auto& name : family.names) {
      add(std::string(family.layers) + std::to_string(layer) + "." + std::string(name.hf));
    }
  }
  return names;
}

void name_all(const std::vector<std::string>& names, const std::string& what, std::vector<std::string>& left_out) {
  if (names.empty()) return;
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  left_out.push_back(what + " " + list);
}

/// What the other formats have no place for: fields of config.json that compute nothing, files beside the weights.
void name_side_files(const formats::HfDirectory& directory, const Json& kept, std::vector<std::string>& left_out) {
  std::vector<std::string> fields;
  for (const auto& member : directory.config().members()) {
    if (!kept.contains(member.key) && !member.value.is_null()) fields.push_back(member.key);
  }
  name_all(fields, "config.json's", left_out);
  std::vector<std::string> files;
  std::error_code ignored;
  for (const char* name : {"generation_config.json", "tokenizer_config.json", "special_tokens_map.json"}) {
    if (fs::exists(directory.path() + "/" + name, ignored)) files.emplace_back(name);
  }
  name_all(files, "what is beside token ids and chat template in", left_out);
}

/// Keys that say nothing about the model's computation or vocabulary.
void name_keys(const formats::GgufFile& file, std::string_view architecture, std::vector<std::string>& left_out) {
  static const std::set<std::string_view> kOwn = {"general.architecture", "general.type", "general.file_type",
                                                  "general.alignment", "general.quantization_version"};
  std::vector<std::string> keys;
  for (const auto& entry : file.entries()) {
    const bool kept = kOwn.contains(entry.key) || entry.key.starts_with("tokenizer.") ||
                      entry.key.starts_with("covey.") || entry.key.starts_with(std::string(architecture) + ".");
    if (!kept) keys.emplace_back(entry.key.substr(0, 80));
  }
  name_all(keys, keys.size() == 1 ? "key" : "keys", left_out);
}

/// What Model::load makes of it, in f32.
Result<SourceModel> open_as_model(const std::string& path, ModelKind kind) {
  COVEY_ASSIGN(auto model, model::Model::load(path, {.writable = true}));
  SourceModel source;
  source.kind = kind;
  COVEY_ASSIGN(source.config, Json::parse(model::config_to_hf(model->config()), path));
  for (const auto& tensor : model->parameters()) {
    source.tensors.push_back({tensor.name, &ggml_type_info(formats::GgmlType::f32), tensor.shape,
                              formats::f32_view("", {}, tensor.values).bytes});
  }
  source.keep.push_back(std::move(model));
  return source;
}

Result<SourceModel> open_directory(const std::string& path) {
  COVEY_ASSIGN(auto opened, formats::HfDirectory::open(path));
  auto directory = std::make_shared<formats::HfDirectory>(std::move(opened));
  if (const Json* int8 = directory->config().find("quantization_config"); int8 != nullptr && !int8->is_null()) {
    COVEY_ASSIGN(SourceModel widened, open_as_model(path, ModelKind::directory));
    widened.left_out.emplace_back("int8: its matrices become f32, of the same values");
    name_side_files(*directory, widened.config, widened.left_out);
    return widened;
  }
  SourceModel source;
  source.kind = ModelKind::directory;
  COVEY_ASSIGN(source.config,
               normalized(directory->config(), directory->find("lm_head.weight") == nullptr, directory->config_path()));
  COVEY_ASSIGN(const std::string type, source.config.get_string("model_type"));
  COVEY_ASSIGN(const formats::GgufFamily* family, formats::gguf_family_of_type(type));
  const bool tied = source.config.get_bool("tie_word_embeddings").value();
  std::set<const formats::TensorView*> taken;
  for (const std::string& name : weight_names(*family, source.config.get_int(family->sizes.layers).value(), tied)) {
    const formats::TensorView* tensor = directory->find(name);
    if (tensor == nullptr) continue;  // a bias that the model lacks; whoever loads the result misses a weight by name
    const auto* element = ggml_type_of(tensor->dtype);
    if (element == nullptr) {
      return Error{ErrorCode::unsupported, path + ": tensor " + name + " holds " + to_string(tensor->dtype) +
                                               "; F32, F16 and BF16 are converted"};
    }
    taken.insert(tensor);
    source.tensors.push_back({name, element, tensor->shape, tensor->bytes});
  }
  for (const std::string& name : directory->tensor_names()) {
    if (taken.contains(directory->find(name))) continue;
    if (!is_buffer(name) && !(tied && name == "lm_head.weight")) {
      return Error{ErrorCode::unsupported, path + ": tensor " + name + " is not one that " + type + " models have"};
    }
    source.left_out.push_back("tensor " + name);
  }
  name_side_files(*directory, source.config, source.left_out);
  source.keep.push_back(std::move(directory));
  return source;
}

Result<SourceModel> open_gguf(const std::string& path) {
  COVEY_ASSIGN(auto opened, formats::GgufModel::open(path));
  SourceModel source;
  source.kind = ModelKind::gguf;
  COVEY_ASSIGN(source.config, normalized(opened.config(), true, path));
  auto turned = std::make_shared<std::vector<Bytes>>();
  turned->reserve(opened.tensors().size());
  for (const auto& tensor : opened.tensors()) {
    ByteSpan bytes = tensor.source->bytes;
    const formats::GgmlTypeInfo* kind = tensor.source->type;
    if (tensor.change) {
      COVEY_ASSIGN(Bytes changed, opened.bytes_of(tensor, kind));
      bytes = turned->emplace_back(std::move(changed));
    }
    source.tensors.push_back({tensor.name, kind, tensor.shape, bytes});
  }
  if (opened.family().plus_one) {
    source.left_out.emplace_back("the last bits of norms, which GGUF keeps plus one");
  }
  name_keys(opened.file(), opened.family().architecture, source.left_out);
  source.keep.push_back(std::move(turned));
  source.gguf = std::move(opened);
  return source;
}

}  // namespace

Result<ModelKind> model_kind(const std::string& path) {
  std::error_code ignored;
  if (path.ends_with(".gguf")) return ModelKind::gguf;
  if (path.ends_with(".bin")) return ModelKind::llama2c;
  if (fs::is_directory(path, ignored) || !fs::exists(path, ignored)) return ModelKind::directory;
  return Error{ErrorCode::unsupported, path + ": is no Hugging Face directory, no .gguf and no llama2.c .bin"};
}

Result<SourceModel> open_source(const std::string& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    return Error{ErrorCode::not_found, path + ": there is no such file or directory"};
  }
  COVEY_ASSIGN(const ModelKind kind, model_kind(path));
  auto source = kind == ModelKind::directory ? open_directory(path)
                : kind == ModelKind::gguf    ? open_gguf(path)
                                             : open_as_model(path, kind);
  if (source.ok()) source->path = path;
  return source;
}

}  // namespace covey::adapters

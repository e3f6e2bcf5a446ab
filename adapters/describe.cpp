#include "adapters/describe.h"

#include <filesystem>
#include <map>
#include <set>

#include "adapters/convert_source.h"
#include "adapters/convert_tokenizer.h"
#include "core/formats/hf_directory.h"
#include "core/formats/llama2c.h"
#include "core/formats/rwkv_cpp.h"
#include "core/model/model.h"

namespace covey::adapters {
namespace {

using formats::Json;

/// Tensors counted by element type.
class Census {
 public:
  void add(const std::string& type, std::size_t bytes) {
    ++types_[type];
    ++tensors_;
    bytes_ += static_cast<std::int64_t>(bytes);
  }
  void into(Json& out) const {
    Json types = Json::object();
    for (const auto& [type, count] : types_) types.set(type, count);
    out.set("tensors", tensors_).set("types", types).set("weights_bytes", bytes_);
  }

 private:
  std::map<std::string, std::int64_t> types_;
  std::int64_t tensors_ = 0;
  std::int64_t bytes_ = 0;
};

/// The name of the tokenizer file that would be read with the model.
std::string tokenizer_beside(const std::string& path, std::int64_t vocab) {
  const auto files = tokenizer_files(path, "", vocab);
  for (const char* name : {"tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json", ".bin"}) {
    for (const std::string& file : files) {
      if (file.ends_with(name)) return std::filesystem::path(file).filename().string();
    }
  }
  return "none";
}

Status describe_directory(const std::string& path, Json& out) {
  COVEY_ASSIGN(const auto directory, formats::HfDirectory::open(path));
  Census census;
  for (const std::string& name : directory.tensor_names()) {
    const auto& tensor = *directory.find(name);
    census.add(to_string(tensor.dtype), tensor.bytes.size());
  }
  COVEY_ASSIGN(const std::string type, directory.config().get_string("model_type", "not said"));
  out.set("format", "Hugging Face directory").set("path", directory.path()).set("architecture", type);
  out.set("files", directory.files());
  census.into(out);
  out.set("tokenizer", tokenizer_beside(path, 0));
  return {};
}

Status describe_gguf(const std::string& path, Json& out) {
  COVEY_ASSIGN(const auto file, formats::GgufFile::open(path));
  Census census;
  for (const auto& tensor : file.tensors()) census.add(tensor.type->name, tensor.bytes.size());
  COVEY_ASSIGN(const std::string architecture, file.get_string("general.architecture", "not said"));
  COVEY_ASSIGN(const std::string kind, file.get_string("general.type", "model"));
  COVEY_ASSIGN(const std::string vocabulary, file.get_string("tokenizer.ggml.model", "none"));
  COVEY_ASSIGN(const std::string pre, file.get_string("tokenizer.ggml.pre", ""));
  out.set("format", "GGUF v" + std::to_string(file.version()) + ", " + kind).set("architecture", architecture);
  out.set("files", 1).set("keys", file.entries().size());
  census.into(out);
  out.set("tokenizer", pre.empty() ? vocabulary : vocabulary + " (" + pre + ")");
  return {};
}

Status describe_llama2c(const std::string& path, Json& out) {
  COVEY_ASSIGN(const auto file, formats::Llama2cFile::open(path));
  const auto& h = file.header();
  std::error_code ignored;
  out.set("format", "llama2.c v0").set("architecture", "llama").set("files", 1);
  out.set("types", Json::object({{"F32", 3 + 9 * h.layers - (h.tied ? 1 : 0)}}));
  out.set("weights_bytes", static_cast<std::int64_t>(std::filesystem::file_size(path, ignored)));
  out.set("tokenizer", tokenizer_beside(path, h.vocab));
  return {};
}

Status describe_rwkv_cpp(const std::string& path, Json& out) {
  COVEY_ASSIGN(const auto file, formats::RwkvCppFile::open(path));
  Census census;
  for (const auto& [name, tensor] : file.tensors()) census.add(to_string(tensor.dtype), tensor.bytes.size());
  out.set("format", "rwkv.cpp").set("architecture", "RWKV " + std::to_string(file.rwkv_version())).set("files", 1);
  census.into(out);
  out.set("tokenizer", file.vocab() == 256 ? "bytes" : "none");
  return {};
}

void describe_computed(const model::Model& model, Json& out) {
  const auto& c = model.config();
  std::set<std::string> leaves;
  for (const auto& site : model.linear_sites()) leaves.insert(site.leaf);
  out.set("family", c.family)
      .set("parameters", model.parameter_count())
      .set("layers", c.layers)
      .set("hidden_size", c.hidden_size)
      .set("intermediate_size", c.intermediate_size)
      .set("heads", c.heads)
      .set("kv_heads", c.kv_heads)
      .set("head_dim", c.head_dim)
      .set("vocab_size", c.vocab_size)
      .set("context", c.context_max)
      .set("tied_head", c.tied_head)
      .set("linear_layers", Json(std::vector<std::string>(leaves.begin(), leaves.end())));
}

}  // namespace

Result<Json> describe_model(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return Error{ErrorCode::not_found, path + ": there is no such model"};
  COVEY_ASSIGN(const ModelKind kind, model_kind(path));
  Json out = Json::object();
  COVEY_TRY(kind == ModelKind::directory ? describe_directory(path, out)
            : kind == ModelKind::gguf    ? describe_gguf(path, out)
            : formats::is_rwkv_cpp(path) ? describe_rwkv_cpp(path, out)
                                         : describe_llama2c(path, out));
  const auto model = model::Model::load(path);
  if (model.ok()) {
    describe_computed(**model, out);
  } else if (model.error().code == ErrorCode::unsupported) {
    out.set("not_supported", model.error().message);
  } else if (kind == ModelKind::gguf && out.get_int("tensors").value() == 0) {
    out.set("not_supported", path + ": holds a vocabulary only; `tokenize` takes it");
  } else {
    return model.error();
  }
  return out;
}

}  // namespace covey::adapters

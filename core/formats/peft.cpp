#include "core/formats/peft.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>

#include "core/base/file.h"
#include "core/base/folder.h"
#include "core/formats/safetensors.h"
#include "core/formats/torch_zip.h"

namespace covey::formats {
namespace {

constexpr std::string_view kPeftPrefix = "base_model.model.";
constexpr std::int64_t kSizeMax = std::int64_t{1} << 31;

struct Suffix {
  std::string_view text;
  PeftRole role;
};
constexpr std::array kLoraSuffixes = {
    Suffix{".lora_A.weight", PeftRole::lora_a}, Suffix{".lora_B.weight", PeftRole::lora_b},
    Suffix{".lora_embedding_A", PeftRole::lora_embedding_a}, Suffix{".lora_embedding_B", PeftRole::lora_embedding_b}};
// What PEFT keeps beside an adapter when the vocabulary grew or an embedding is adapted, in either spelling.
constexpr std::array<std::string_view, 4> kEmbeddings = {"embed_tokens.weight", "embed_tokens.base_layer.weight",
                                                         "lm_head.weight", "lm_head.base_layer.weight"};

std::string readme(const PeftConfig& config) {
  return "---\nlibrary_name: peft\n" +
         (config.base_model_name_or_path.empty()
              ? ""
              : "base_model: " + Json(config.base_model_name_or_path).dump() + "\n") +
         "---\n\nA PEFT adapter (" + config.peft_type +
         ") written by Covey. `adapter_config.json` says what it attaches to; load it with\n"
         "`peft.PeftModel.from_pretrained(base, <this directory>)` or `covey-model ... --adapter <this directory>`.\n";
}

/// Whether `name` is `path` or its end after a dot.
bool is_end_of(std::string_view name, std::string_view path) {
  if (name.empty() || !path.ends_with(name)) return false;
  return path.size() == name.size() || path[path.size() - name.size() - 1] == '.';
}

/// The module of `modules` that a parameter lies in; PEFT wraps the heads of these tasks without being asked.
std::optional<std::string> saved_module(const PeftConfig& config, std::string_view parameter) {
  std::vector<std::string_view> modules(config.modules_to_save.begin(), config.modules_to_save.end());
  if (config.task_type == "SEQ_CLS" || config.task_type == "TOKEN_CLS") {
    modules.insert(modules.end(), {"classifier", "score"});
  } else if (config.task_type == "QUESTION_ANS") {
    modules.emplace_back("qa_outputs");
  }
  for (std::size_t dot = parameter.find('.'); dot != std::string_view::npos; dot = parameter.find('.', dot + 1)) {
    const std::string_view path = parameter.substr(0, dot);
    for (const std::string_view module : modules) {
      if (is_end_of(module, path)) return std::string(path);
    }
  }
  return std::nullopt;
}

bool has_shape(const PeftTensor& tensor, std::int64_t rows, std::int64_t columns) {
  return tensor.shape.size() == 2 && tensor.shape[0] == rows && tensor.shape[1] == columns;
}

Status check_prompt(const PeftAdapter& adapter) {
  const PeftConfig& config = adapter.config;
  const bool prefix = config.peft_type == "PREFIX_TUNING";
  const auto bad = [&] {
    return Error{ErrorCode::corrupt_data,
                 std::string("must hold one tensor prompt_embeddings ") +
                     (prefix ? "[num_virtual_tokens, num_layers * 2 * token_dim]" : "[num_virtual_tokens, token_dim]")};
  };
  if (adapter.tensors.size() != 1 || adapter.tensors[0].shape.size() != 2) return bad();
  const auto& shape = adapter.tensors[0].shape;
  const std::int64_t rows = std::int64_t{config.num_virtual_tokens} * (prefix ? 1 : config.num_transformer_submodules);
  if (shape[0] != rows || shape[1] < 1 || shape[1] >= kSizeMax) return bad();
  if (!prefix) return config.token_dim == 0 || shape[1] == config.token_dim ? Status() : Status(bad());
  if (shape[1] % 2 != 0) return bad();
  if (config.token_dim == 0 || config.num_layers == 0) return {};
  return shape[1] == std::int64_t{config.num_layers} * 2 * config.token_dim ? Status() : Status(bad());
}

Status check_places(const PeftAdapter& adapter) {
  std::set<std::string_view> names;
  for (const PeftTensor& tensor : adapter.tensors) {
    if (!names.insert(tensor.name).second) {
      return Error{ErrorCode::corrupt_data, "tensor " + tensor.name + " is there twice"};
    }
    COVEY_ASSIGN(const PeftPlace place, peft_place(adapter.config, tensor.name));
    const bool any_type = place.role == PeftRole::saved;
    if (!any_type && tensor.dtype != DType::f32 && tensor.dtype != DType::f16 && tensor.dtype != DType::bf16) {
      return Error{ErrorCode::unsupported, "tensor " + tensor.name + " is of type " + to_string(tensor.dtype) +
                                               "; an adapter's values are F32, F16 or BF16"};
    }
    const std::int64_t size = tensor.view().elements();
    if (place.role == PeftRole::ia3 && (size < 1 || (!has_shape(tensor, size, 1) && !has_shape(tensor, 1, size)))) {
      return Error{ErrorCode::corrupt_data, "tensor " + tensor.name + " must be [out, 1] or [1, in]"};
    }
  }
  return {};
}

Status add_tensors(const std::string& path, std::span<const TensorView> tensors, PeftAdapter& adapter) {
  for (const TensorView& tensor : tensors) {
    adapter.tensors.push_back({.name = tensor.name,
                               .dtype = tensor.dtype,
                               .shape = tensor.shape,
                               .bytes = Bytes(tensor.bytes.begin(), tensor.bytes.end())});
  }
  std::ranges::sort(adapter.tensors, {}, &PeftTensor::name);
  const Status checked = check_peft_adapter(adapter);
  return checked.ok() ? Status() : Status(checked.error().in(path));
}

}  // namespace

PeftTensor peft_tensor(std::string name, std::vector<std::int64_t> shape, std::span<const float> values) {
  PeftTensor out{.name = std::move(name), .dtype = DType::f32, .shape = std::move(shape), .bytes = {}};
  out.bytes.resize(values.size_bytes());
  if (!values.empty()) std::memcpy(out.bytes.data(), values.data(), values.size_bytes());
  return out;
}

std::string peft_lora_name(std::string_view module_path, char a_or_b) {
  return std::string(kPeftPrefix) + std::string(module_path) + ".lora_" + a_or_b + ".weight";
}

std::string peft_ia3_name(std::string_view module_path) {
  return std::string(kPeftPrefix) + std::string(module_path) + ".ia3_l";
}

Result<PeftPlace> peft_place(const PeftConfig& config, std::string_view tensor_name) {
  const auto unknown = [&](const std::string& what) {
    return Error{ErrorCode::unsupported, "tensor " + std::string(tensor_name) + " is not " + what};
  };
  if (config.peft_type == "PROMPT_TUNING" || config.peft_type == "PREFIX_TUNING") {
    if (tensor_name == "prompt_embeddings") return PeftPlace{PeftRole::prompt, {}};
    return unknown("prompt_embeddings, which is all that " + config.peft_type + " has");
  }
  std::string_view name = tensor_name;
  if (!name.starts_with(kPeftPrefix)) return unknown("named base_model.model. and so on, as PEFT names it");
  name.remove_prefix(kPeftPrefix.size());
  const auto path_before = [&](std::string_view suffix) {
    std::string_view path = name.substr(0, name.size() - suffix.size());
    if (path.ends_with(".base_layer")) path.remove_suffix(11);
    return std::string(path);
  };
  const auto ends_with = [&](std::string_view suffix) { return name.size() > suffix.size() && name.ends_with(suffix); };
  if (config.peft_type == "IA3") {
    if (ends_with(".ia3_l")) return PeftPlace{PeftRole::ia3, path_before(".ia3_l")};
  } else {
    for (const Suffix& suffix : kLoraSuffixes) {
      if (ends_with(suffix.text)) return PeftPlace{suffix.role, path_before(suffix.text)};
    }
  }
  if (auto module = saved_module(config, name)) return PeftPlace{PeftRole::saved, *std::move(module)};
  if (config.peft_type == "LORA") {
    if (config.bias != "none" && ends_with(".bias")) return PeftPlace{PeftRole::bias, path_before(".bias")};
    for (const std::string_view embedding : kEmbeddings) {
      if (is_end_of(embedding, name)) return PeftPlace{PeftRole::saved, path_before(".weight")};
    }
    return unknown("a LoRA pair's half, nor named by bias or modules_to_save");
  }
  return unknown("an ia3_l vector, nor named by modules_to_save");
}

Result<std::vector<PeftLoraPair>> peft_lora_pairs(const PeftAdapter& adapter) {
  std::map<std::pair<std::string, bool>, PeftLoraPair> pairs;  // by path, linear before embedding
  for (const PeftTensor& tensor : adapter.tensors) {
    COVEY_ASSIGN(PeftPlace place, peft_place(adapter.config, tensor.name));
    const bool embedding = place.role == PeftRole::lora_embedding_a || place.role == PeftRole::lora_embedding_b;
    const bool is_a = place.role == PeftRole::lora_a || place.role == PeftRole::lora_embedding_a;
    if (!is_a && !embedding && place.role != PeftRole::lora_b) continue;
    PeftLoraPair& pair = pairs[{place.module_path, embedding}];
    pair.module_path = std::move(place.module_path);
    pair.embedding = embedding;
    (is_a ? pair.a : pair.b) = &tensor;
  }
  std::vector<PeftLoraPair> list;
  for (const auto& [key, pair] : pairs) {
    const std::string module = "module " + key.first;
    if (pair.a == nullptr || pair.b == nullptr) {
      return Error{ErrorCode::corrupt_data, module + " has only one half of its LoRA pair"};
    }
    const auto& a = pair.a->shape;
    const auto& b = pair.b->shape;
    const auto in_range = [](std::int64_t n) { return n >= 1 && n < kSizeMax; };
    if (a.size() != 2 || b.size() != 2 || a[0] != b[1] || a[0] > kRankMax || !in_range(a[0]) || !in_range(a[1]) ||
        !in_range(b[0])) {
      return Error{
          ErrorCode::corrupt_data,
          module + (pair.embedding ? ": lora_embedding_A must be [r, vocabulary] and lora_embedding_B [width, r]"
                                   : ": lora_A must be [r, in] and lora_B [out, r]")};
    }
    list.push_back(pair);
  }
  return list;
}

Status check_peft_adapter(const PeftAdapter& adapter) {
  COVEY_TRY(check_places(adapter));
  if (adapter.config.peft_type == "LORA") {
    COVEY_ASSIGN(const auto pairs, peft_lora_pairs(adapter));
    if (pairs.empty()) return Error{ErrorCode::corrupt_data, "holds no LoRA pair"};
    return {};
  }
  if (adapter.config.peft_type != "IA3") return check_prompt(adapter);
  const bool any = std::ranges::any_of(adapter.tensors, [](const auto& t) { return t.name.ends_with(".ia3_l"); });
  return any ? Status() : Status(Error{ErrorCode::corrupt_data, "holds no ia3_l vector"});
}

Result<PeftAdapter> read_peft_directory(const std::string& directory) {
  const std::string config_path = directory + "/adapter_config.json";
  const std::string tensors_path = directory + "/adapter_model.safetensors";
  const std::string torch_path = directory + "/adapter_model.bin";
  PeftAdapter adapter;
  COVEY_ASSIGN(const std::string text, read_text_file(config_path, std::uint64_t{16} << 20));
  COVEY_ASSIGN(adapter.config, parse_peft_config(text, config_path));
  std::error_code ignored;
  if (!std::filesystem::exists(tensors_path, ignored) && std::filesystem::exists(torch_path, ignored)) {
    COVEY_ASSIGN(const TorchZipFile file, TorchZipFile::open(torch_path));
    COVEY_TRY(add_tensors(torch_path, file.tensors(), adapter));
    return adapter;
  }
  COVEY_ASSIGN(const SafetensorsFile file, SafetensorsFile::open(tensors_path));
  adapter.metadata = file.metadata();
  COVEY_TRY(add_tensors(tensors_path, file.tensors(), adapter));
  return adapter;
}

Status write_peft_directory(const std::string& directory, const PeftAdapter& adapter) {
  if (const Status checked = check_peft_adapter(adapter); !checked.ok()) return checked.error().in(directory);
  COVEY_TRY(make_folders(directory));
  std::vector<TensorView> views;
  for (const PeftTensor& tensor : adapter.tensors) views.push_back(tensor.view());
  COVEY_TRY(write_safetensors(directory + "/adapter_model.safetensors", views, adapter.metadata));
  COVEY_TRY(write_file_durably(directory + "/README.md", std::string_view(readme(adapter.config))));
  return write_file_durably(directory + "/adapter_config.json", std::string_view(peft_config_text(adapter.config)));
}

}  // namespace covey::formats

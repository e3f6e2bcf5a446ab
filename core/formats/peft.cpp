#include "core/formats/peft.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "core/base/file.h"
#include "core/base/folder.h"
#include "core/formats/json.h"
#include "core/formats/safetensors.h"

namespace covey::formats {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::int64_t kRankMax = 1 << 16;
constexpr std::int64_t kSizeMax = std::int64_t{1} << 31;

// Keys that do not change what a stored adapter computes: how it was started, chosen or run.
constexpr std::array kWithoutEffect = {"peft_type",
                                       "task_type",
                                       "base_model_name_or_path",
                                       "revision",
                                       "inference_mode",
                                       "peft_version",
                                       "auto_mapping",
                                       "r",
                                       "lora_alpha",
                                       "lora_dropout",
                                       "use_rslora",
                                       "target_modules",
                                       "exclude_modules",
                                       "rank_pattern",
                                       "alpha_pattern",
                                       "layers_to_transform",
                                       "layers_pattern",
                                       "num_virtual_tokens",
                                       "token_dim",
                                       "num_transformer_submodules",
                                       "num_attention_heads",
                                       "num_layers",
                                       "prompt_tuning_init",
                                       "prompt_tuning_init_text",
                                       "tokenizer_name_or_path",
                                       "tokenizer_kwargs",
                                       "bias",
                                       "init_lora_weights",
                                       "megatron_config",
                                       "megatron_core",
                                       "loftq_config",
                                       "eva_config",
                                       "corda_config",
                                       "runtime_config",
                                       "qalora_group_size"};

/// null, false, 0, "", [], {}: an option that is off.
bool is_off(const Json& value) {
  switch (value.kind()) {
    case Json::Kind::null:
      return true;
    case Json::Kind::boolean:
      return !value.as_bool().value();
    case Json::Kind::integer:
    case Json::Kind::real:
      return value.as_double().value() == 0;
    case Json::Kind::string:
      return value.as_string().value().empty();
    default:
      return value.empty();
  }
}

Error refuse(const Json& config, std::string_view key, const std::string& why) {
  Error error = config.error_at(key, why);
  error.code = ErrorCode::unsupported;
  return error;
}

Status refuse_unsupported(const Json& config) {
  for (const JsonMember& member : config.members()) {
    const bool known = std::ranges::find(kWithoutEffect, member.key) != kWithoutEffect.end();
    if (!known && !is_off(member.value)) {
      return refuse(config, member.key, "is an option that Covey does not compute; turn it off and train again");
    }
  }
  COVEY_ASSIGN(const std::string bias, config.get_string("bias", "none"));
  if (bias != "none") return refuse(config, "bias", "is \"" + bias + "\"; only \"none\" is supported");
  if (const Json* init = config.find("init_lora_weights"); init != nullptr && init->is_string()) {
    const std::string how = init->as_string().value();
    for (const char* changes_base : {"pissa", "olora", "corda", "loftq", "lora_ga"}) {
      if (how.starts_with(changes_base)) {
        return refuse(config, "init_lora_weights",
                      "is \"" + how + "\", which changed the base model; convert it to a plain LoRA with PEFT first");
      }
    }
  }
  return {};
}

Result<std::vector<std::string>> text_or_list(const Json& config, std::string_view key, bool* is_text) {
  const Json* value = config.find(key);
  if (value == nullptr || value->is_null()) return std::vector<std::string>();
  if (value->is_string()) {
    if (is_text != nullptr) *is_text = true;
    COVEY_ASSIGN(auto text, config.get_string(key));
    return std::vector<std::string>{std::move(text)};
  }
  return config.get_strings(key);
}

Status read_lora(const Json& config, PeftConfig& out) {
  COVEY_ASSIGN(const auto r, config.get_int_between("r", 1, kRankMax));
  out.r = static_cast<int>(r);
  const auto positive = [](double v) { return std::isfinite(v) && v > 0; };
  COVEY_ASSIGN(out.lora_alpha, config.get_double("lora_alpha"));
  if (!positive(out.lora_alpha)) return config.error_at("lora_alpha", "must be above 0");
  COVEY_ASSIGN(out.lora_dropout, config.get_double("lora_dropout", 0.0));
  if (!(out.lora_dropout >= 0 && out.lora_dropout < 1)) return config.error_at("lora_dropout", "must lie in [0, 1)");
  COVEY_ASSIGN(out.use_rslora, config.get_bool("use_rslora", false));
  COVEY_ASSIGN(out.target_modules, text_or_list(config, "target_modules", &out.target_modules_is_text));
  COVEY_ASSIGN(out.exclude_modules, text_or_list(config, "exclude_modules", nullptr));
  COVEY_ASSIGN(out.layers_pattern, text_or_list(config, "layers_pattern", nullptr));
  if (const Json* layers = config.find("layers_to_transform"); layers != nullptr && !layers->is_null()) {
    if (layers->is_int()) {
      COVEY_ASSIGN(const auto layer, config.get_int("layers_to_transform"));
      out.layers_to_transform = {layer};
    } else {
      COVEY_ASSIGN(out.layers_to_transform, config.get_ints("layers_to_transform"));
    }
  }
  for (const char* key : {"rank_pattern", "alpha_pattern"}) {
    const Json* pattern = config.find(key);
    if (pattern == nullptr || pattern->is_null()) continue;
    COVEY_TRY(config.get_object(key));
    for (const JsonMember& member : pattern->members()) {
      if (std::string_view(key) == "rank_pattern") {
        COVEY_ASSIGN(const auto rank, pattern->get_int_between(member.key, 1, kRankMax));
        out.rank_pattern[member.key] = static_cast<int>(rank);
      } else {
        COVEY_ASSIGN(const double alpha, pattern->get_double(member.key));
        if (!positive(alpha)) return pattern->error_at(member.key, "must be above 0");
        out.alpha_pattern[member.key] = alpha;
      }
    }
  }
  return {};
}

Status read_prompt(const Json& config, PeftConfig& out) {
  const auto read = [&](const char* key, std::int64_t lo, std::int64_t hi, int& into) -> Status {
    COVEY_ASSIGN(const auto value, config.get_int_between(key, lo, hi, lo));
    into = static_cast<int>(value);
    return {};
  };
  COVEY_TRY(config.get_int_between("num_virtual_tokens", 1, 1 << 20));
  COVEY_TRY(read("num_virtual_tokens", 1, 1 << 20, out.num_virtual_tokens));
  COVEY_TRY(read("token_dim", 0, 1 << 20, out.token_dim));
  COVEY_TRY(read("num_transformer_submodules", 1, 2, out.num_transformer_submodules));
  COVEY_TRY(read("num_attention_heads", 0, 1 << 16, out.num_attention_heads));
  COVEY_TRY(read("num_layers", 0, 1 << 16, out.num_layers));
  COVEY_ASSIGN(out.prompt_tuning_init, config.get_string("prompt_tuning_init", "RANDOM"));
  COVEY_ASSIGN(out.prompt_tuning_init_text, config.get_string("prompt_tuning_init_text", ""));
  COVEY_ASSIGN(out.tokenizer_name_or_path, config.get_string("tokenizer_name_or_path", ""));
  return {};
}

Json text_or_null(const std::string& text) {
  return text.empty() ? Json() : Json(text);
}

Json number(double value) {  // PEFT writes whole alphas as integers
  return value == std::floor(value) && std::abs(value) < 1e15 ? Json(static_cast<std::int64_t>(value)) : Json(value);
}

std::string readme(const PeftConfig& config) {
  return "---\nlibrary_name: peft\n" +
         (config.base_model_name_or_path.empty()
              ? ""
              : "base_model: " + Json(config.base_model_name_or_path).dump() + "\n") +
         "---\n\nA PEFT adapter (" + config.peft_type +
         ") written by Covey. `adapter_config.json` says what it attaches to; load it with\n"
         "`peft.PeftModel.from_pretrained(base, <this directory>)` or `covey-model ... --adapter <this directory>`.\n";
}

}  // namespace

std::string peft_lora_name(std::string_view module_path, char a_or_b) {
  return std::string(kPrefix) + std::string(module_path) + ".lora_" + a_or_b + ".weight";
}

Result<PeftConfig> parse_peft_config(std::string_view json, const std::string& where) {
  COVEY_ASSIGN(const Json config, Json::parse(json, where, {.bytes_max = std::size_t{16} << 20}));
  PeftConfig out;
  COVEY_ASSIGN(out.peft_type, config.get_string("peft_type"));
  if (out.peft_type != "LORA" && out.peft_type != "PROMPT_TUNING") {
    return refuse(config, "peft_type",
                  "is \"" + out.peft_type.substr(0, 40) + "\"; LORA and PROMPT_TUNING are supported");
  }
  // Before anything else, so that the message is about what matters.
  COVEY_TRY(refuse_unsupported(config));
  COVEY_ASSIGN(out.task_type, config.get_string("task_type", ""));
  COVEY_ASSIGN(out.base_model_name_or_path, config.get_string("base_model_name_or_path", ""));
  COVEY_ASSIGN(out.revision, config.get_string("revision", ""));
  COVEY_ASSIGN(out.inference_mode, config.get_bool("inference_mode", false));
  COVEY_ASSIGN(out.peft_version, config.get_string("peft_version", ""));
  COVEY_TRY(out.peft_type == "LORA" ? read_lora(config, out) : read_prompt(config, out));
  return out;
}

std::string peft_config_text(const PeftConfig& c) {
  Json json = Json::object({{"peft_type", c.peft_type},
                            {"task_type", text_or_null(c.task_type)},
                            {"base_model_name_or_path", text_or_null(c.base_model_name_or_path)},
                            {"revision", text_or_null(c.revision)},
                            {"inference_mode", c.inference_mode},
                            {"auto_mapping", nullptr}});
  if (!c.peft_version.empty()) json.set("peft_version", c.peft_version);
  if (c.peft_type == "LORA") {
    Json ranks = Json::object();
    for (const auto& [name, rank] : c.rank_pattern) ranks.set(name, rank);
    Json alphas = Json::object();
    for (const auto& [name, alpha] : c.alpha_pattern) alphas.set(name, number(alpha));
    const bool as_text = c.target_modules_is_text && c.target_modules.size() == 1;
    json.set("r", c.r)
        .set("lora_alpha", number(c.lora_alpha))
        .set("lora_dropout", c.lora_dropout)
        .set("target_modules", as_text ? Json(c.target_modules[0]) : Json(c.target_modules))
        .set("exclude_modules", c.exclude_modules.empty() ? Json() : Json(c.exclude_modules))
        .set("bias", "none")
        .set("fan_in_fan_out", false)
        .set("use_rslora", c.use_rslora)
        .set("use_dora", false)
        .set("modules_to_save", nullptr)
        .set("rank_pattern", std::move(ranks))
        .set("alpha_pattern", std::move(alphas))
        .set("layers_to_transform", c.layers_to_transform.empty() ? Json() : Json(c.layers_to_transform))
        .set("layers_pattern", c.layers_pattern.empty() ? Json() : Json(c.layers_pattern))
        .set("init_lora_weights", true);
  } else {
    json.set("num_virtual_tokens", c.num_virtual_tokens)
        .set("token_dim", c.token_dim)
        .set("num_transformer_submodules", c.num_transformer_submodules)
        .set("num_attention_heads", c.num_attention_heads)
        .set("num_layers", c.num_layers)
        .set("prompt_tuning_init", c.prompt_tuning_init)
        .set("prompt_tuning_init_text", text_or_null(c.prompt_tuning_init_text))
        .set("tokenizer_name_or_path", text_or_null(c.tokenizer_name_or_path));
  }
  return json.dump_pretty();
}

Result<std::vector<PeftLoraPair>> peft_lora_pairs(const PeftAdapter& adapter) {
  std::map<std::string, PeftLoraPair> pairs;
  for (const NamedF32& tensor : adapter.tensors) {
    const std::string_view name = tensor.name;
    const bool is_a = name.ends_with(".lora_A.weight");
    if (!name.starts_with(kPrefix) || !(is_a || name.ends_with(".lora_B.weight"))) {
      return Error{ErrorCode::unsupported, "tensor " + tensor.name + " is not the LoRA pair of a linear layer"};
    }
    const std::string path(name.substr(kPrefix.size(), name.size() - kPrefix.size() - 14));
    PeftLoraPair& pair = pairs[path];
    pair.module_path = path;
    (is_a ? pair.a : pair.b) = &tensor;
  }
  std::vector<PeftLoraPair> list;
  for (const auto& [path, pair] : pairs) {
    if (path.empty() || pair.a == nullptr || pair.b == nullptr) {
      return Error{ErrorCode::corrupt_data, "module " + path + " has only one half of its LoRA pair"};
    }
    const auto& a = pair.a->shape;
    const auto& b = pair.b->shape;
    const auto in_range = [](std::int64_t n) { return n >= 1 && n < kSizeMax; };
    if (a.size() != 2 || b.size() != 2 || a[0] != b[1] || a[0] > kRankMax || !in_range(a[0]) || !in_range(a[1]) ||
        !in_range(b[0])) {
      return Error{ErrorCode::corrupt_data, "module " + path + ": lora_A must be [r, in] and lora_B [out, r]"};
    }
    list.push_back(pair);
  }
  return list;
}

Result<PeftAdapter> read_peft_directory(const std::string& directory) {
  const std::string config_path = directory + "/adapter_config.json";
  const std::string tensors_path = directory + "/adapter_model.safetensors";
  PeftAdapter adapter;
  COVEY_ASSIGN(const std::string text, read_text_file(config_path, std::uint64_t{16} << 20));
  COVEY_ASSIGN(adapter.config, parse_peft_config(text, config_path));
  if (!std::filesystem::exists(tensors_path) && std::filesystem::exists(directory + "/adapter_model.bin")) {
    return Error{
        ErrorCode::unsupported,
        directory + ": has its values as a pickle only; convert adapter_model.bin to adapter_model.safetensors"};
  }
  COVEY_ASSIGN(const SafetensorsFile file, SafetensorsFile::open(tensors_path));
  for (const TensorView& tensor : file.tensors()) {
    auto values = to_f32(tensor);
    if (!values.ok()) return values.error().in(tensors_path);
    adapter.tensors.push_back({tensor.name, tensor.shape, *std::move(values)});
  }
  std::ranges::sort(adapter.tensors, {}, &NamedF32::name);
  if (adapter.config.peft_type == "LORA") {
    const auto pairs = peft_lora_pairs(adapter);
    if (!pairs.ok()) return pairs.error().in(tensors_path);
    if (pairs->empty()) return Error{ErrorCode::corrupt_data, tensors_path + ": holds no LoRA pair"};
  } else {
    const std::int64_t tokens =
        std::int64_t{adapter.config.num_virtual_tokens} * adapter.config.num_transformer_submodules;
    if (adapter.tensors.size() != 1 || adapter.tensors[0].name != "prompt_embeddings" ||
        adapter.tensors[0].shape.size() != 2 || adapter.tensors[0].shape[0] != tokens ||
        (adapter.config.token_dim != 0 && adapter.tensors[0].shape[1] != adapter.config.token_dim)) {
      return Error{ErrorCode::corrupt_data,
                   tensors_path + ": must hold one tensor prompt_embeddings [num_virtual_tokens, token_dim]"};
    }
  }
  return adapter;
}

Status write_peft_directory(const std::string& directory, const PeftAdapter& adapter) {
  COVEY_TRY(make_folders(directory));
  std::vector<TensorView> views;
  for (const NamedF32& tensor : adapter.tensors) views.push_back(f32_view(tensor.name, tensor.shape, tensor.values));
  COVEY_TRY(write_safetensors(directory + "/adapter_model.safetensors", views, {{"format", "pt"}}));
  COVEY_TRY(write_file_durably(directory + "/README.md", std::string_view(readme(adapter.config))));
  return write_file_durably(directory + "/adapter_config.json", std::string_view(peft_config_text(adapter.config)));
}

}  // namespace covey::formats

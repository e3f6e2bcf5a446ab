#include "core/formats/peft_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>

namespace covey::formats {
namespace {

constexpr std::int64_t kWidthMax = 1 << 24;

// What each kind of adapter understands here. The last rows have no effect on a stored adapter: how it was started, or
// which machine it ran on.
constexpr std::array kCommonKeys = {
    "peft_type", "task_type", "base_model_name_or_path", "revision", "auto_mapping", "inference_mode", "peft_version"};
constexpr std::array kLoraKeys = {"r",
                                  "lora_alpha",
                                  "lora_dropout",
                                  "use_rslora",
                                  "target_modules",
                                  "exclude_modules",
                                  "bias",
                                  "fan_in_fan_out",
                                  "modules_to_save",
                                  "rank_pattern",
                                  "alpha_pattern",
                                  "layers_to_transform",
                                  "layers_pattern",
                                  "init_lora_weights",
                                  "megatron_config",
                                  "megatron_core",
                                  "loftq_config",
                                  "eva_config",
                                  "corda_config",
                                  "runtime_config",
                                  "qalora_group_size"};
constexpr std::array kIa3Keys = {"target_modules", "exclude_modules", "feedforward_modules",
                                 "fan_in_fan_out", "modules_to_save", "init_ia3_weights"};
constexpr std::array kPromptKeys = {
    "num_virtual_tokens", "token_dim",          "num_transformer_submodules", "num_attention_heads",
    "num_layers",         "prompt_tuning_init", "prompt_tuning_init_text",    "tokenizer_name_or_path",
    "tokenizer_kwargs"};
constexpr std::array kPrefixKeys = {"num_virtual_tokens",  "token_dim",  "num_transformer_submodules",
                                    "num_attention_heads", "num_layers", "encoder_hidden_size",
                                    "prefix_projection"};
constexpr std::array kTaskTypes = {"SEQ_CLS",   "SEQ_2_SEQ_LM", "CAUSAL_LM",
                                   "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION"};

std::span<const char* const> keys_of(std::string_view peft_type) {
  if (peft_type == "LORA") return kLoraKeys;
  if (peft_type == "IA3") return kIa3Keys;
  if (peft_type == "PROMPT_TUNING") return kPromptKeys;
  if (peft_type == "PREFIX_TUNING") return kPrefixKeys;
  return {};
}

bool has(std::span<const char* const> list, std::string_view key) {
  return std::ranges::any_of(list, [&](const char* name) { return key == name; });
}

/// null, false, 0, "", [], {}: an option that is off.
bool says_off(const Json& value) {
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

/// Text of the file, fit for a message.
std::string in_quotes(const std::string& text) {
  return Json(text.substr(0, 40)).dump();
}

Status refuse_unsupported(const Json& config, const std::string& peft_type) {
  for (const JsonMember& member : config.members()) {
    const bool known = has(kCommonKeys, member.key) || has(keys_of(peft_type), member.key);
    if (!known && !says_off(member.value)) {
      return refuse(config, member.key, "is an option that Covey does not compute; turn it off and train again");
    }
  }
  if (const Json* init = config.find("init_lora_weights"); init != nullptr && init->is_string()) {
    const std::string how = init->as_string().value();
    for (const char* changes_base : {"pissa", "olora", "corda", "loftq", "lora_ga"}) {
      if (how.starts_with(changes_base)) {
        return refuse(
            config, "init_lora_weights",
            "is " + in_quotes(how) + ", which changed the base model; convert it to a plain LoRA with PEFT first");
      }
    }
  }
  return {};
}

Result<PeftNames> names_of(const Json& config, std::string_view key) {
  const Json* value = config.find(key);
  if (value == nullptr || value->is_null()) return PeftNames();
  if (value->is_string()) {
    COVEY_ASSIGN(auto text, config.get_string(key));
    return PeftNames({std::move(text)}, true);
  }
  COVEY_ASSIGN(auto list, config.get_strings(key));
  return PeftNames(std::move(list));
}

Status read_targets(const Json& config, PeftConfig& out) {
  COVEY_ASSIGN(out.target_modules, names_of(config, "target_modules"));
  COVEY_ASSIGN(out.exclude_modules, names_of(config, "exclude_modules"));
  COVEY_ASSIGN(out.fan_in_fan_out, config.get_bool("fan_in_fan_out", false));
  if (const Json* saved = config.find("modules_to_save"); saved != nullptr && !saved->is_null()) {
    COVEY_ASSIGN(out.modules_to_save, config.get_strings("modules_to_save"));
  }
  return {};
}

Status read_patterns(const Json& config, PeftConfig& out) {
  for (const char* key : {"rank_pattern", "alpha_pattern"}) {
    const Json* pattern = config.find(key);
    if (pattern == nullptr || pattern->is_null()) continue;
    COVEY_TRY(config.get_object(key));
    for (const JsonMember& member : pattern->members()) {
      if (std::string_view(key) == "rank_pattern") {
        COVEY_ASSIGN(const auto rank, pattern->get_int_between(member.key, 1, kRankMax));
        out.rank_pattern.emplace_back(member.key, static_cast<int>(rank));
      } else {
        COVEY_ASSIGN(const double alpha, pattern->get_double(member.key));
        if (!std::isfinite(alpha) || alpha <= 0) return pattern->error_at(member.key, "must be above 0");
        out.alpha_pattern.emplace_back(member.key, alpha);
      }
    }
  }
  return {};
}

Status read_lora(const Json& config, PeftConfig& out) {
  COVEY_ASSIGN(const auto r, config.get_int_between("r", 1, kRankMax));
  out.r = static_cast<int>(r);
  COVEY_ASSIGN(out.lora_alpha, config.get_double("lora_alpha"));
  if (!std::isfinite(out.lora_alpha) || out.lora_alpha <= 0) return config.error_at("lora_alpha", "must be above 0");
  COVEY_ASSIGN(out.lora_dropout, config.get_double("lora_dropout", 0.0));
  if (!(out.lora_dropout >= 0 && out.lora_dropout < 1)) return config.error_at("lora_dropout", "must lie in [0, 1)");
  COVEY_ASSIGN(out.use_rslora, config.get_bool("use_rslora", false));
  COVEY_ASSIGN(out.bias, config.get_string("bias", "none"));
  if (out.bias != "none" && out.bias != "all" && out.bias != "lora_only") {
    return refuse(config, "bias", "is " + in_quotes(out.bias) + "; none, all and lora_only are known");
  }
  COVEY_TRY(read_targets(config, out));
  COVEY_ASSIGN(out.layers_pattern, names_of(config, "layers_pattern"));
  if (const Json* layers = config.find("layers_to_transform"); layers != nullptr && !layers->is_null()) {
    if (layers->is_int()) {
      COVEY_ASSIGN(const auto layer, config.get_int("layers_to_transform"));
      out.layers_to_transform = {layer};
    } else {
      COVEY_ASSIGN(out.layers_to_transform, config.get_ints("layers_to_transform"));
    }
    if (std::ranges::any_of(out.layers_to_transform, [](std::int64_t layer) { return layer < 0; })) {
      return config.error_at("layers_to_transform", "must not be negative");
    }
  }
  return read_patterns(config, out);
}

Status read_ia3(const Json& config, PeftConfig& out) {
  COVEY_TRY(read_targets(config, out));
  COVEY_ASSIGN(out.feedforward_modules, names_of(config, "feedforward_modules"));
  if (out.feedforward_modules.is_text || out.target_modules.is_text) return {};
  for (const std::string& name : out.feedforward_modules.names) {
    if (std::ranges::find(out.target_modules.names, name) == out.target_modules.names.end()) {
      return config.error_at("feedforward_modules", "names a module that target_modules lacks");
    }
  }
  return {};
}

Status read_virtual_tokens(const Json& config, PeftConfig& out) {
  const auto read = [&](const char* key, std::int64_t lo, std::int64_t hi, int& into) -> Status {
    COVEY_ASSIGN(const auto value, config.get_int_between(key, lo, hi, lo));
    into = static_cast<int>(value);
    return {};
  };
  COVEY_TRY(config.get_int_between("num_virtual_tokens", 1, 1 << 20));
  COVEY_TRY(read("num_virtual_tokens", 1, 1 << 20, out.num_virtual_tokens));
  COVEY_TRY(read("token_dim", 0, kWidthMax, out.token_dim));
  COVEY_TRY(read("num_transformer_submodules", 1, 2, out.num_transformer_submodules));
  COVEY_TRY(read("num_attention_heads", 0, 1 << 16, out.num_attention_heads));
  COVEY_TRY(read("num_layers", 0, 1 << 16, out.num_layers));
  if (out.peft_type == "PREFIX_TUNING") {
    COVEY_TRY(read("encoder_hidden_size", 0, kWidthMax, out.encoder_hidden_size));
    COVEY_ASSIGN(out.prefix_projection, config.get_bool("prefix_projection", false));
    return {};
  }
  COVEY_ASSIGN(out.prompt_tuning_init, config.get_string("prompt_tuning_init", "RANDOM"));
  COVEY_ASSIGN(out.prompt_tuning_init_text, config.get_string("prompt_tuning_init_text", ""));
  COVEY_ASSIGN(out.tokenizer_name_or_path, config.get_string("tokenizer_name_or_path", ""));
  return {};
}

Result<PeftConfig> read_config(const Json& config) {
  PeftConfig out;
  COVEY_ASSIGN(out.peft_type, config.get_string("peft_type"));
  if (keys_of(out.peft_type).empty()) {
    return refuse(config, "peft_type",
                  "is " + in_quotes(out.peft_type) + "; LORA, IA3, PROMPT_TUNING and PREFIX_TUNING are supported");
  }
  COVEY_TRY(refuse_unsupported(config, out.peft_type));  // first, so that the message is about what matters
  COVEY_ASSIGN(out.task_type, config.get_string("task_type", ""));
  if (!out.task_type.empty() && !has(kTaskTypes, out.task_type)) {
    return refuse(config, "task_type", "is " + in_quotes(out.task_type) + ", which PEFT does not define");
  }
  COVEY_ASSIGN(out.base_model_name_or_path, config.get_string("base_model_name_or_path", ""));
  COVEY_ASSIGN(out.revision, config.get_string("revision", ""));
  COVEY_ASSIGN(out.inference_mode, config.get_bool("inference_mode", false));
  COVEY_ASSIGN(out.peft_version, config.get_string("peft_version", ""));
  if (out.peft_type == "LORA") {
    COVEY_TRY(read_lora(config, out));
  } else if (out.peft_type == "IA3") {
    COVEY_TRY(read_ia3(config, out));
  } else {
    COVEY_TRY(read_virtual_tokens(config, out));
  }
  return out;
}

Json text_or_null(const std::string& text) {
  return text.empty() ? Json() : Json(text);
}
Json count_or_null(int count) {
  return count == 0 ? Json() : Json(count);
}
Json names_json(const PeftNames& names) {
  if (names.empty()) return Json();
  return names.is_text && names.names.size() == 1 ? Json(names.names[0]) : Json(names.names);
}

Json number(double value) {  // PEFT writes whole alphas as integers
  return value == std::floor(value) && std::abs(value) < 1e15 ? Json(static_cast<std::int64_t>(value)) : Json(value);
}

void write_lora(const PeftConfig& c, Json& json) {
  Json ranks = Json::object();
  for (const auto& [name, rank] : c.rank_pattern) ranks.set(name, rank);
  Json alphas = Json::object();
  for (const auto& [name, alpha] : c.alpha_pattern) alphas.set(name, number(alpha));
  json.set("r", c.r)
      .set("lora_alpha", number(c.lora_alpha))
      .set("lora_dropout", c.lora_dropout)
      .set("bias", c.bias)
      .set("use_rslora", c.use_rslora)
      .set("use_dora", false)
      .set("rank_pattern", std::move(ranks))
      .set("alpha_pattern", std::move(alphas))
      .set("layers_to_transform", c.layers_to_transform.empty() ? Json() : Json(c.layers_to_transform))
      .set("layers_pattern", names_json(c.layers_pattern))
      .set("init_lora_weights", true);
}

/// Every key that a new file gets.
Json all_keys(const PeftConfig& c) {
  Json json = Json::object({{"peft_type", c.peft_type},
                            {"task_type", text_or_null(c.task_type)},
                            {"base_model_name_or_path", text_or_null(c.base_model_name_or_path)},
                            {"revision", text_or_null(c.revision)},
                            {"inference_mode", c.inference_mode},
                            {"auto_mapping", nullptr}});
  if (!c.peft_version.empty()) json.set("peft_version", c.peft_version);
  if (c.peft_type == "LORA" || c.peft_type == "IA3") {
    json.set("target_modules", names_json(c.target_modules))
        .set("exclude_modules", names_json(c.exclude_modules))
        .set("fan_in_fan_out", c.fan_in_fan_out)
        .set("modules_to_save", c.modules_to_save.empty() ? Json() : Json(c.modules_to_save));
    if (c.peft_type == "LORA") {
      write_lora(c, json);
    } else {
      json.set("feedforward_modules", names_json(c.feedforward_modules)).set("init_ia3_weights", true);
    }
    return json;
  }
  json.set("num_virtual_tokens", c.num_virtual_tokens)
      .set("token_dim", count_or_null(c.token_dim))
      .set("num_transformer_submodules", c.num_transformer_submodules)
      .set("num_attention_heads", count_or_null(c.num_attention_heads))
      .set("num_layers", count_or_null(c.num_layers));
  if (c.peft_type == "PREFIX_TUNING") {
    json.set("encoder_hidden_size", count_or_null(c.encoder_hidden_size)).set("prefix_projection", c.prefix_projection);
  } else {
    json.set("prompt_tuning_init", c.prompt_tuning_init)
        .set("prompt_tuning_init_text", text_or_null(c.prompt_tuning_init_text))
        .set("tokenizer_name_or_path", text_or_null(c.tokenizer_name_or_path));
  }
  return json;
}

/// JSON text with every character beyond ASCII as \uXXXX, in pairs above U+FFFF. Such characters stand inside strings
/// only; `text` is valid UTF-8, since Json wrote it.
std::string escaped(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  const auto unit = [&](std::uint32_t u) {
    out += "\\u";
    for (int shift = 12; shift >= 0; shift -= 4) out += kDigits[(u >> shift) & 15U];
  };
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      out += text[i++];
      continue;
    }
    const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    std::uint32_t code = lead & (0xffU >> (length + 1));
    for (std::size_t k = 1; k < length && i + k < text.size(); ++k) {
      code = code << 6 | (static_cast<unsigned char>(text[i + k]) & 0x3fU);
    }
    i += length;
    if (code < 0x10000) {
      unit(code);
    } else {
      unit(0xd800U + ((code - 0x10000U) >> 10));
      unit(0xdc00U + ((code - 0x10000U) & 0x3ffU));
    }
  }
  return out;
}

}  // namespace

Result<PeftConfig> parse_peft_config(std::string_view json, const std::string& where) {
  COVEY_ASSIGN(Json config, Json::parse(json, where, {.bytes_max = std::size_t{16} << 20}));
  COVEY_ASSIGN(PeftConfig out, read_config(config));
  out.source = std::move(config);
  return out;
}

std::string peft_config_text(const PeftConfig& config) {
  Json json = all_keys(config);
  if (const auto read = read_config(config.source); read.ok() && read->peft_type == config.peft_type) {
    const Json before = all_keys(*read);
    Json kept = config.source;
    for (const JsonMember& member : json.members()) {
      const Json* old = before.find(member.key);
      if (old == nullptr || *old != member.value) kept.set(member.key, member.value);
    }
    json = std::move(kept);
  }
  std::string text = json.dump_pretty();
  if (text.ends_with('\n')) text.pop_back();
  return escaped(text);
}

}  // namespace covey::formats
